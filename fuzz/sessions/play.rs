//! One session over real sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer;
use crate::session::{End, Session, Step};

/// For an answer that may never come.
const AWAITED: Duration = Duration::from_millis(50);
/// For a FIN: a long poll of Socket.IO takes longer, and is left then.
const FINISHED: Duration = Duration::from_millis(500);
/// Most bytes to read of an answer.
const MAX_ANSWER: usize = 4 << 20;

/// How a session went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played {
    /// What came on each of its connections.
    pub(crate) answers: Vec<Vec<u8>>,
    /// How many of them the server ended.
    pub(crate) ended: usize,
}

/// Plays it. What goes wrong is what the server may not say.
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
            // It may be gone already.
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
    /// Waits while the machine has no port to spare.
    async fn open(address: SocketAddr) -> Connection {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Pieces leave as they are.
                    let _ = stream.set_nodelay(true);
                    let answer = Vec::new();
                    return Connection { stream, answer };
                }
                Err(_) => tokio::time::sleep(AWAITED).await,
            }
        }
    }

    async fn await_answer(&mut self) {
        // Nothing, an end or a reset is an answer, too.
        let _ = timeout(AWAITED, self.read()).await;
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.answer).await
    }

    /// Reads while it writes: who does not is not read from.
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

    /// Whether the server ended it, too.
    async fn finish(&mut self) -> bool {
        let _ = self.stream.shutdown().await;
        let ended = async {
            while self.answer.len() < MAX_ANSWER && matches!(self.read().await, Ok(1..)) {}
        };
        timeout(FINISHED, ended).await.is_ok()
    }
}

/// The bytes with the session id of Socket.IO that came last.
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
