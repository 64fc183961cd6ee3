//! Accepting: every connection is given to the worker with the fewest connections.

use std::fs::File;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use rustix::io::Errno;
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;

use super::serving::Serving;
use super::{AcceptQueue, BACKLOG, Listener};
use crate::engine::{ClientSocket, PeerAddress};
use crate::http::{HttpShared, Stage, register};
use crate::log;

/// Accepts on one listener until the drain, and then the clients that have connected by then,
/// unless another process accepts them. The other workers get their connections through `inboxes`,
/// one for each worker.
pub(super) async fn accept(
    (listener, queue): (Listener, AcceptQueue),
    inboxes: &[UnboundedSender<ClientSocket>],
    serving: &Serving,
) -> io::Result<()> {
    let shared = &serving.shared.http;
    let listener = AsyncListener::new(listener, shared.settings.deadlines.write_stall)?;
    let mut pressure = Pressure::new();
    let mut turn = 0_usize;
    let mut leaving = pin!(async {
        match queue {
            AcceptQueue::Left => shared.shutdown.reached(Stage::Draining).await,
            AcceptQueue::Emptied => pending().await,
        }
    });
    let mut draining = pin!(async {
        shared.shutdown.reached(Stage::Draining).await;
        // The runtime polls the listener once more before this ends.
        tokio::task::yield_now().await;
    });
    // Clients beyond this number connect again, and find the listener closed.
    let mut queued = BACKLOG;
    while queued > 0 {
        let accepted = tokio::select! {
            biased;
            () = &mut leaving => break,
            accepted = async { serving.room().await; listener.accept().await } => accepted,
            () = &mut draining => break,
        };
        if shared.shutdown.has_reached(Stage::Draining) {
            queued -= 1;
        }
        match accepted {
            Ok(accepted) => {
                pressure.relieved();
                turn = turn.wrapping_add(1);
                let worker = least_loaded(shared, turn);
                shared.loads[worker].fetch_add(1, Ordering::Relaxed);
                if worker == serving.index {
                    serving.serve(accepted);
                } else {
                    // A worker that has ended takes the server down with it.
                    let _ = inboxes[worker].send(accepted);
                }
            }
            Err(error) if is_exhaustion(&error) => pressure.wait(&listener, &error).await,
            // The connection ended before it was accepted. The listener still works.
            Err(error) => log::not_accepted(&error),
        }
    }
    Ok(())
}

/// Returns the worker with the fewest connections. Workers with equal numbers take turns.
fn least_loaded(shared: &HttpShared, turn: usize) -> usize {
    let workers = shared.loads.len();
    (0..workers)
        .map(|offset| turn.wrapping_add(offset) % workers)
        .min_by_key(|worker| shared.loads[*worker].load(Ordering::Relaxed))
        .unwrap_or_default()
}

/// A listener that tokio polls. Unlike tokio's own listeners, it does not register accepted sockets
/// with tokio's poller.
enum AsyncListener {
    Tcp(AsyncFd<TcpListener>),
    Unix(AsyncFd<UnixListener>),
}

impl AsyncListener {
    fn new(listener: Listener, write_stall: Duration) -> io::Result<AsyncListener> {
        Ok(match listener {
            Listener::Tcp(listener) => {
                set_user_timeout(&listener, write_stall)?;
                let listener = TcpListener::from_std(listener);
                AsyncListener::Tcp(register(listener, Interest::READABLE)?)
            }
            Listener::Unix(listener) => {
                let listener = UnixListener::from_std(listener);
                AsyncListener::Unix(register(listener, Interest::READABLE)?)
            }
        })
    }

    async fn accept(&self) -> io::Result<ClientSocket> {
        match self {
            AsyncListener::Tcp(listener) => listener
                .async_io(Interest::READABLE, TcpListener::accept)
                .await
                .map(|(stream, peer)| ClientSocket::new(stream, PeerAddress::Ip(peer))),
            AsyncListener::Unix(listener) => listener
                .async_io(Interest::READABLE, UnixListener::accept)
                .await
                .map(|(stream, _)| ClientSocket::new(stream, PeerAddress::Unix)),
        }
    }
}

/// Makes the kernel give up a peer that acknowledges nothing: the peer has vanished, or its window
/// stays closed. The timeout is a second longer than the write stall, which informs a reachable
/// peer by a reset. Connections inherit it from their listener without a system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(listener: &std::net::TcpListener, write_stall: Duration) -> io::Result<()> {
    const AFTER: Duration = Duration::from_secs(1);
    if write_stall.is_zero() {
        return Ok(());
    }
    let milliseconds = (write_stall + AFTER).as_millis().try_into();
    sockopt::set_tcp_user_timeout(listener, milliseconds.unwrap_or(u32::MAX))?;
    Ok(())
}

/// Does nothing: the system has no such timeout.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &std::net::TcpListener, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Whether this process or the machine has run out of the descriptors or memory for accepting.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOMEM | Errno::NFILE | Errno::MFILE | Errno::NOBUFS)
    )
}

/// Handles exhausted descriptors. A descriptor held in reserve allows each waiting client to be
/// accepted and closed, so that the client sees an end instead of a hang. Growing pauses keep this
/// from spinning.
struct Pressure {
    reserve: Option<File>,
    pause: Duration,
    turned_away: u64,
    warned: Option<Instant>,
}

impl Pressure {
    /// How many clients are turned away at most between two pauses.
    const AT_ONCE: usize = 1_024;
    const FIRST_PAUSE: Duration = Duration::from_millis(5);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

    fn new() -> Pressure {
        Pressure {
            reserve: reserve(),
            pause: Self::FIRST_PAUSE,
            turned_away: 0,
            warned: None,
        }
    }

    fn relieved(&mut self) {
        self.pause = Self::FIRST_PAUSE;
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
    }

    async fn wait(&mut self, listener: &AsyncListener, error: &io::Error) {
        if self.reserve.take().is_some() {
            for _ in 0..Self::AT_ONCE {
                let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
                let Ok(Ok(_turned_away)) = accepted else {
                    break;
                };
                self.turned_away += 1;
            }
            self.reserve = reserve();
        }
        if self
            .warned
            .is_none_or(|warned| warned.elapsed() >= Self::BETWEEN_WARNINGS)
        {
            log::exhausted(error, self.turned_away);
            self.warned = Some(Instant::now());
            self.turned_away = 0;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Self::LONGEST_PAUSE);
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Attack 33: beyond the keepalive, the kernel gives up a peer that acknowledges nothing.
    #[tokio::test]
    async fn accepted_sockets_have_a_user_timeout() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let write_stall = Duration::from_secs(30);
        let listener = AsyncListener::new(Listener::Tcp(listener), write_stall).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let socket = listener.accept().await.unwrap();
        let timeout = sockopt::tcp_user_timeout(&socket).unwrap();
        assert_eq!(timeout, 31_000);
    }
}
