//! Plays one session over real sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer;
use crate::session::{End, Session, Step};

/// How long to wait for an answer that may never arrive.
const AWAITED: Duration = Duration::from_millis(50);
/// How long to wait for FIN. A Socket.IO long poll takes longer and is abandoned.
const FINISHED: Duration = Duration::from_millis(500);
/// The most bytes of an answer to read.
const MAX_ANSWER: usize = 4 << 20;

/// The outcome of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played {
    /// What the server sent on each connection.
    pub(crate) answers: Vec<Vec<u8>>,
    /// How many connections the server ended.
    pub(crate) ended: usize,
}

/// Plays a session. Fails if the server sends something invalid.
pub(crate) async fn play(session: &Session, address: SocketAddr) -> Result<Played, String> {
    let mut connections: Vec<Connection> = Vec::new();
    for step in &session.steps {
        match (step, connections.last_mut()) {
            (Step::Connect, _) => connections.push(Connection::open(address).await),
            (Step::Await, Some(connection)) => connection.await_answer().await,
            (Step::Send(bytes), Some(_)) => {
                let bytes = with_session_id(bytes, &connections);
                if let Some(connection) = connections.last_mut() {
                    connection.send(&bytes).await;
                }
            }
            (Step::Await | Step::Send(_), None) => {}
        }
    }
    let mut played = Played::default();
    for mut connection in connections {
        match session.end {
            End::Finish => played.ended += usize::from(connection.finish().await),
            End::Leave => {}
            // The connection may have ended already.
            End::Reset => drop(connection.stream.set_zero_linger()),
        }
        answer::check(&connection.answer)?;
        played.answers.push(connection.answer);
    }
    Ok(played)
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Waits while the machine has no free port.
    async fn open(address: SocketAddr) -> Connection {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Each piece becomes a segment of its own.
                    let _ = stream.set_nodelay(true);
                    let answer = Vec::new();
                    return Connection { stream, answer };
                }
                Err(_) => tokio::time::sleep(AWAITED).await,
            }
        }
    }

    async fn await_answer(&mut self) {
        // No answer, an end or a reset are fine, too.
        let _ = timeout(AWAITED, self.read()).await;
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.answer).await
    }

    /// Reads while it writes, because the server stops reading from a client that does not read.
    async fn send(&mut self, bytes: &[u8]) {
        let (mut reader, mut writer) = self.stream.split();
        let mut write = std::pin::pin!(timeout(FINISHED, writer.write_all(bytes)));
        loop {
            tokio::select! {
                biased;
                _ = &mut write => return,
                read = reader.read_buf(&mut self.answer) => if !matches!(read, Ok(1..)) {
                    let _ = write.await;
                    return;
                },
            }
        }
    }

    /// Whether the server ended its side, too.
    async fn finish(&mut self) -> bool {
        let _ = self.stream.shutdown().await;
        let ended = async {
            while self.answer.len() < MAX_ANSWER && matches!(self.read().await, Ok(1..)) {}
        };
        timeout(FINISHED, ended).await.is_ok()
    }
}

/// The bytes with the most recent session id of Socket.IO filled in.
fn with_session_id(bytes: &[u8], connections: &[Connection]) -> Vec<u8> {
    const PLACE: &[u8] = b"{sid}";
    const BEFORE: &[u8] = b"\"sid\":\"";
    let Some(at) = position(bytes, PLACE) else {
        return bytes.to_vec();
    };
    let told = connections.iter().rev().find_map(|connection| {
        let (_, rest) = connection
            .answer
            .split_at(position(&connection.answer, BEFORE)?);
        rest[BEFORE.len()..].split(|byte| *byte == b'"').next()
    });
    let (before, after) = (&bytes[..at], &bytes[at + PLACE.len()..]);
    [
        before,
        told.unwrap_or_default(),
        &with_session_id(after, connections),
    ]
    .concat()
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
