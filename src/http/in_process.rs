//! A server without listening sockets and threads. Its clients are in the same thread.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::JoinHandle;

use super::{HttpContext, HttpSettings, HttpStream, Router, Shutdown, serve_connection};
use crate::engine::{Bounds, ClientSocket, FrameLoopHandle, PeerAddress, Settings};
use crate::handshake::Policy;

/// Serves clients in the same thread, one after another, for tests that compare a router's answers
/// byte by byte.
///
/// ```
/// use frameloop::http::{HttpSettings, InProcessServer};
/// use frameloop::{Message, Router, Settings, WebSocket};
///
/// let router = Router::new().websocket("/echo", |_| |_: &mut WebSocket<'_>, _: Message<'_>| {});
/// let server = InProcessServer::new(router, Settings::default(), HttpSettings::default())?;
/// let answer = server.exchange(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")?;
/// assert!(answer.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct InProcessServer {
    runtime: LocalRuntime,
    context: Rc<HttpContext>,
}

impl InProcessServer {
    /// Creates a server without clients.
    ///
    /// # Errors
    /// If the operating system cannot create a poller.
    pub fn new(
        router: Router,
        settings: Settings,
        http: HttpSettings,
    ) -> io::Result<InProcessServer> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        let bounds = Bounds::new(&settings);
        let frame_loop = FrameLoopHandle::new(&settings, &bounds, Arc::new(()))?;
        runtime.spawn_local(frame_loop.clone().run());
        Ok(InProcessServer {
            runtime,
            context: Rc::new(HttpContext {
                router: Arc::new(router),
                policy: Arc::new(Policy::default()),
                settings,
                http,
                frame_loop,
                addresses: None,
                unfinished: bounds.unfinished,
                unsent: bounds.unsent,
                admission: Box::new(|| Ok(())),
                observer: Arc::new(()),
                shutdown: Shutdown::new(),
                proxies: [].into(),
                tls: None,
            }),
        })
    }

    /// Connects a client that stays connected for several exchanges.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn connect(&self) -> io::Result<InProcessClient<'_>> {
        let _entered = self.runtime.enter();
        let (client, server) = UnixStream::pair()?;
        let server = ClientSocket::new(server.into_std()?, PeerAddress::Unix);
        let serve = serve_connection(HttpStream::new(server), Rc::clone(&self.context), ());
        Ok(InProcessClient {
            serving: self.runtime.spawn_local(serve),
            stream: client,
            server: self,
        })
    }

    /// Sends `bytes` and FIN as a new client, and returns all bytes that the server sends before
    /// its FIN.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let client = self.connect()?;
        self.runtime.block_on(async {
            let (mut reader, mut writer) = client.stream.into_split();
            let send = async {
                // The server may close before it has read everything.
                let _ = writer.write_all(bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut received));
            client.serving.await?;
            read.map(|_| received)
        })
    }
}

/// A client of an [`InProcessServer`]. The server runs while the client waits for an answer.
pub struct InProcessClient<'a> {
    server: &'a InProcessServer,
    stream: UnixStream,
    serving: JoinHandle<()>,
}

impl InProcessClient<'_> {
    /// Sends `bytes`, and returns the received bytes when `is_whole` returns true for them, or at
    /// the server's FIN.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn exchange(
        &mut self,
        bytes: &[u8],
        mut is_whole: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Vec<u8>> {
        let (mut reader, mut writer) = self.stream.split();
        self.server.runtime.block_on(async {
            let receive = async {
                let mut received = Vec::new();
                while !is_whole(&received) && reader.read_buf(&mut received).await? > 0 {}
                Ok(received)
            };
            // The server may close before it has read everything.
            let (_, received) = tokio::join!(writer.write_all(bytes), receive);
            received
        })
    }
}

impl fmt::Debug for InProcessServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InProcessServer")
            .field("router", &self.context.router)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for InProcessClient<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InProcessClient")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
