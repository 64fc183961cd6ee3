//! A server without listening sockets and threads. Its clients are in the same thread.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::{HttpContext, HttpSettings, HttpShared, HttpStream, Router, serve_connection};
use crate::engine::{Bounds, ClientSocket, PeerAddress, Settings};

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
        let shared = Arc::new(HttpShared {
            router,
            bounds: Bounds::new(&settings),
            settings,
            http,
            ..HttpShared::default()
        });
        let context = HttpContext::new(shared, Arc::new(()))?;
        runtime.spawn_local(context.frame_loop.clone().run());
        Ok(InProcessServer {
            runtime,
            context: Rc::new(context),
        })
    }

    /// Sends `bytes` and FIN as a new client, and returns all bytes that the server sends before
    /// its FIN.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.runtime.block_on(async {
            let (client, server) = UnixStream::pair()?;
            let server = ClientSocket::new(server.into_std()?, PeerAddress::Unix);
            let serve = serve_connection(HttpStream::new(server), Rc::clone(&self.context), ());
            let (mut reader, mut writer) = client.into_split();
            let send = async {
                // The server may close before it has read everything.
                let _ = writer.write_all(bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut received = Vec::new();
            let (_, read, ()) = tokio::join!(send, reader.read_to_end(&mut received), serve);
            read.map(|_| received)
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
