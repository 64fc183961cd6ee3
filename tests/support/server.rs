//! A server in this process, on a free port.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};

use frameloop::server::{ListenAddress, Server, Shutdown};
use frameloop::{Router, app};

use super::client::Client;
use super::through_tls;

/// A running server, which stops when dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl TestServer {
    /// The server for all tests without special needs: the ready-made endpoints, default settings,
    /// two workers.
    pub(crate) fn shared() -> &'static TestServer {
        static SHARED: OnceLock<TestServer> = OnceLock::new();
        SHARED.get_or_init(|| TestServer::with(|server| server))
    }

    /// The ready-made endpoints, on a server changed by `configure`.
    pub(crate) fn with(configure: impl FnOnce(Server) -> Server) -> TestServer {
        TestServer::serving(app::router(), configure)
    }

    /// These endpoints, on a server changed by `configure`.
    pub(crate) fn serving(router: Router, configure: impl FnOnce(Server) -> Server) -> TestServer {
        if std::env::var_os("FRAMELOOP_TEST_TLS").is_some() {
            return through_tls::serving(router, configure);
        }
        TestServer::plainly_serving(router, configure)
    }

    /// These endpoints without TLS, even in a run of all tests with TLS.
    pub(crate) fn plainly_serving(
        router: Router,
        configure: impl FnOnce(Server) -> Server,
    ) -> TestServer {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(Server::bind("127.0.0.1:0")).unwrap();
        let server = configure(server.with_workers(2));
        let address = match server.local_addresses().unwrap()[0] {
            ListenAddress::Tcp(address) => address,
            ListenAddress::Unix(_) => unreachable!(),
        };
        let shutdown = server.shutdown();
        let thread = thread::spawn(move || runtime.block_on(server.serve(router)));
        TestServer {
            address,
            shutdown,
            thread: Some(thread),
        }
    }

    /// Waits until the server has stopped.
    pub(crate) fn stopped(mut self) -> std::io::Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Client {
    /// Connects without sending.
    pub(crate) fn connect(server: &TestServer) -> Client {
        Client::at(server.address)
    }

    /// Connects and opens a WebSocket.
    #[track_caller]
    pub(crate) fn open(server: &TestServer, path: &str) -> Client {
        Client::on(Client::connect(server).stream, path)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cut();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
