//! A Redis of the test's own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection};
use rustix::process::Signal;

use crate::process::signal_to;
use crate::socket::PATIENCE;

/// A server on a free port, which keeps nothing on the disk. Killed when dropped.
pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
}

impl RedisServer {
    /// A port for one, and nothing that listens there.
    pub(crate) fn not_started() -> RedisServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        RedisServer { child: None, port }
    }

    pub(crate) fn started() -> RedisServer {
        let mut server = RedisServer::not_started();
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.child.as_ref().unwrap().id(), signal);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn connect(&self) -> Connection {
        let client = Client::open(self.url()).unwrap();
        let connection = client.get_connection().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    /// Waits until a channel has so many subscribers.
    #[track_caller]
    pub(crate) fn has_subscribers(&self, channel: &str, expected: u64) {
        let mut connection = self.connect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, now): (String, u64) = redis::cmd("PUBSUB")
                .arg("NUMSUB")
                .arg(channel)
                .query(&mut connection)
                .unwrap();
            if now == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{channel}: {now} subscribers");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
