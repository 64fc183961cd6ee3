//! Listening sockets, workers, and the drain at shutdown.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{fmt, net};
use std::{io, mem};

use ipnet::IpNet;
use rustix::net::sockopt;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Bounds, Settings};
use crate::handshake::Policy;
pub use crate::http::Shutdown;
use crate::http::{HttpSettings, HttpShared, IpConnectionLimit, Router};
use crate::metrics::Metrics;
use crate::tls::Certificate;

mod accept;
mod listen;
mod observer;
mod serving;
mod worker;

pub use listen::UnixAddress;
use listen::listen_tcp;
use worker::Worker;

/// A server: its listening sockets and the settings of their connections.
///
/// ```no_run
/// use frameloop::{Message, Router, Server, WebSocket};
///
/// fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
///     if message.is_data() {
///         socket.send(message);
///     }
/// }
///
/// # async fn serve() -> std::io::Result<()> {
/// let app = Router::new().websocket("/echo", |_| echo);
/// Server::bind("127.0.0.1:8000").await?.serve(app).await
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Listener, AcceptQueue)>,
    /// The files of its own Unix domain sockets, removed when the server ends.
    files: Vec<PathBuf>,
    /// What is served, without the router and the counts of the workers.
    http: HttpShared,
    workers: usize,
    drain_timeout: Duration,
    give_back_memory: Option<fn()>,
    certificate: Option<Certificate>,
    metrics: Metrics,
}

/// A listening socket of the operating system.
#[derive(Debug)]
pub enum Listener {
    /// TCP over IPv4 or IPv6.
    Tcp(net::TcpListener),
    /// A Unix domain socket.
    Unix(UnixListener),
}

/// What happens at shutdown to connections that the kernel holds and the server has not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AcceptQueue {
    /// They are accepted and answered, because the socket is closed afterwards.
    Emptied,
    /// They wait for another process that shares the socket and accepts them.
    Left,
}

/// An address on which a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// An IP address and port.
    Tcp(net::SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(formatter, "{address}"),
            ListenAddress::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// A server without a listening socket.
impl Default for Server {
    fn default() -> Server {
        Server {
            listeners: Vec::new(),
            files: Vec::new(),
            http: HttpShared::default(),
            workers: thread::available_parallelism().map_or(1, usize::from),
            drain_timeout: Duration::from_secs(10),
            give_back_memory: None,
            certificate: None,
            metrics: Metrics::new(),
        }
    }
}

impl Server {
    /// Listens on `HOST:PORT` or `unix:PATH` (see [`UnixAddress`]). A host name stands for all of
    /// its addresses. Port 0 selects a free port, the same for all addresses of a name; see
    /// [`Server::local_addresses`].
    ///
    /// # Errors
    /// When the address cannot be resolved or bound, or is in use.
    pub async fn bind(address: &str) -> io::Result<Server> {
        Server::default().bind_also(address).await
    }

    /// Listens on one more address.
    ///
    /// # Errors
    /// The errors of [`Server::bind`].
    pub async fn bind_also(mut self, address: &str) -> io::Result<Server> {
        let listeners = if address.starts_with(UnixAddress::PREFIX) {
            let address: UnixAddress = address.parse()?;
            let listener = address.listen()?;
            self.files.push(address.path().to_owned());
            vec![Listener::Unix(listener)]
        } else {
            let listeners = listen_tcp(address).await?;
            listeners.into_iter().map(Listener::Tcp).collect()
        };
        let listeners = listeners.into_iter();
        self.listeners
            .extend(listeners.map(|listener| (listener, AcceptQueue::Emptied)));
        Ok(self)
    }

    /// Accepts on a socket that listens already and is shared with another process, such as a
    /// service manager. When the server ends, it leaves new connections and the file of a Unix
    /// domain socket to that process.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn with_listener(mut self, listener: Listener) -> io::Result<Server> {
        match &listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                // For the reason in `bind_tcp`.
                sockopt::set_tcp_nodelay(listener, true)?;
            }
            Listener::Unix(listener) => listener.set_nonblocking(true)?,
        }
        self.listeners.push((listener, AcceptQueue::Left));
        Ok(self)
    }

    /// Returns the addresses on which this server listens.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn local_addresses(&self) -> io::Result<Vec<ListenAddress>> {
        self.listeners
            .iter()
            .map(|(listener, _)| match listener {
                Listener::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
                Listener::Unix(listener) => {
                    let address = listener.local_addr()?;
                    let path = address.as_pathname().unwrap_or(Path::new(""));
                    Ok(ListenAddress::Unix(path.to_owned()))
                }
            })
            .collect()
    }

    /// Changes the settings of every WebSocket.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Server {
        self.http.settings = settings;
        self
    }

    /// Changes which clients may open a WebSocket.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Server {
        self.http.policy = policy;
        self
    }

    /// Changes the HTTP settings: the limits and deadlines of requests, and the Date field.
    #[must_use]
    pub fn with_http_settings(mut self, http: HttpSettings) -> Server {
        self.http.http = http;
        self
    }

    /// Changes the number of workers: threads that each own a share of the connections. Default:
    /// one for each core.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Server {
        self.workers = workers.max(1);
        self
    }

    /// Changes the maximum number of connections, with and without a WebSocket. A handshake beyond
    /// it is answered with 503. Default: unlimited.
    ///
    /// Connections without a WebSocket may be a quarter of the maximum, or 1,024 if that is more;
    /// beyond that, the oldest such connections are closed.
    #[must_use]
    pub fn with_max_connections(mut self, max_connections: usize) -> Server {
        self.http.max_connections = max_connections;
        self
    }

    /// Changes how many WebSockets an IPv4 address or an IPv6 /64 network may have. A handshake
    /// beyond that is answered with 503. Default: unlimited.
    #[must_use]
    pub fn with_max_connections_per_address(mut self, max: Option<usize>) -> Server {
        self.http.addresses = max.map(IpConnectionLimit::new);
        self
    }

    /// Changes how long a drain waits for clients to answer the Close. Default: 10 s.
    #[must_use]
    pub fn with_drain_timeout(mut self, drain_timeout: Duration) -> Server {
        self.drain_timeout = drain_timeout;
        self
    }

    /// Calls `give_back` on a worker's thread every few seconds after most of its connections have
    /// closed: for an allocator that keeps freed memory for each thread.
    #[must_use]
    pub fn on_worker_idle(mut self, give_back: fn()) -> Server {
        self.give_back_memory = Some(give_back);
        self
    }

    /// Takes the client's address from the PROXY protocol of these load balancers. Each TCP
    /// connection from them must begin with a header of version 1 or 2, of at most 16 KiB. A header
    /// from another peer is an invalid request.
    #[must_use]
    pub fn with_proxies(mut self, proxies: Vec<IpNet>) -> Server {
        self.http.proxies = proxies;
        self
    }

    /// Serves TLS with this certificate on every TCP address. Unix domain sockets stay without TLS.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Option<Certificate>) -> Server {
        self.certificate = certificate;
        self
    }

    /// Counts the events of this server in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Server {
        self.metrics = metrics;
        self
    }

    /// Returns a handle that ends [`Server::serve`].
    pub fn shutdown(&self) -> Shutdown {
        self.http.shutdown.clone()
    }

    /// Serves until it is [shut down](Server::shutdown).
    ///
    /// # Errors
    /// When the certificate cannot be used, a worker cannot start, or its poller fails.
    pub async fn serve(self, router: Router) -> io::Result<()> {
        let shutdown = self.shutdown();
        let shared = Arc::new(ServerShared {
            drain_timeout: self.drain_timeout,
            give_back_memory: self.give_back_memory,
            websockets: AtomicIsize::new(0),
            accepting: AtomicUsize::new(self.listeners.len()),
            metrics: self.metrics,
            http: Arc::new(HttpShared {
                router,
                bounds: Bounds::new(&self.http.settings),
                loads: (0..self.workers).map(|_| AtomicIsize::new(0)).collect(),
                tls: self
                    .certificate
                    .map(|certificate| certificate.config())
                    .transpose()?,
                ..self.http
            }),
        });
        let mut result = Ok(());
        for ended in start(&shared, self.workers, self.listeners)? {
            let worker = ended
                .await
                .unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")));
            if worker.is_err() {
                shutdown.cut();
                result = result.and(worker);
            }
        }
        for file in self.files {
            // It may have been removed or replaced already.
            let _ = std::fs::remove_file(file);
        }
        result
    }
}

/// Starts a thread for each worker. Each receiver gets a worker's result when that worker ends.
///
/// # Errors
/// When the system cannot start another thread.
fn start(
    shared: &Arc<ServerShared>,
    workers: usize,
    mut listeners: Vec<(Listener, AcceptQueue)>,
) -> io::Result<Vec<oneshot::Receiver<io::Result<()>>>> {
    let (inboxes, outboxes): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let inboxes: Arc<[_]> = inboxes.into();
    let mut ends = Vec::with_capacity(workers);
    for (index, inbox) in outboxes.into_iter().enumerate() {
        let (end, ended) = oneshot::channel();
        let worker = Worker {
            index,
            shared: Arc::clone(shared),
            inbox,
            listeners: mem::take(&mut listeners),
            inboxes: Arc::clone(&inboxes),
        };
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                // The receiver is gone only if the server has failed.
                let _ = end.send(worker.run());
            })?;
        ends.push(ended);
    }
    Ok(ends)
}

/// How many connections the kernel may hold before they are accepted: room for all clients that
/// reconnect at once after a restart.
const BACKLOG: u32 = 4_096;

/// The state that all workers share.
struct ServerShared {
    http: Arc<HttpShared>,
    drain_timeout: Duration,
    give_back_memory: Option<fn()>,
    /// Number of WebSockets of all workers together.
    websockets: AtomicIsize,
    /// Number of listeners that still accept connections.
    accepting: AtomicUsize,
    metrics: Metrics,
}

impl ServerShared {
    /// Adds `difference` to the number of a worker's connections, and of WebSockets.
    fn count(&self, worker: usize, difference: isize) {
        self.http.loads[worker].fetch_add(difference, Ordering::Relaxed);
        self.websockets.fetch_add(difference, Ordering::Relaxed);
    }

    /// Returns how many connections of one worker may be without a WebSocket: its share of a
    /// quarter of `max_connections`, or of 1,024 if that is more.
    fn max_handshakes(&self) -> usize {
        (self.http.max_connections / 4)
            .max(1_024)
            .div_ceil(self.http.loads.len())
    }
}
