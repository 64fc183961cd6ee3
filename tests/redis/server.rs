//! A Redis server for one test.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection};
use rustix::process::Signal;

use crate::client::LONG_PATIENCE;
use crate::process::signal_to;

/// A server on a free port, without persistence. Killed when dropped.
pub(crate) struct RedisServer {
    child: Option<Child>,
    address: SocketAddrV4,
}

/// A loopback address of this test alone: the port of a killed server stays free for its restart,
/// and no other test takes it.
fn unique_address() -> Ipv4Addr {
    static SERVERS: AtomicU8 = AtomicU8::new(1);
    let number = SERVERS.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | high, low, number)
}

impl RedisServer {
    /// An address for a server that is not running.
    pub(crate) fn not_started() -> RedisServer {
        let ip = unique_address();
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = SocketAddrV4::new(ip, port);
        RedisServer {
            child: None,
            address,
        }
    }

    pub(crate) fn started() -> RedisServer {
        let mut server = RedisServer::not_started();
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        let (ip, port) = (self.address.ip().to_string(), self.address.port());
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", &ip])
            .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        self.child = Some(child);
        let deadline = Instant::now() + LONG_PATIENCE;
        while TcpStream::connect(self.address).is_err() {
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
        format!("redis://{}/0", self.address)
    }

    pub(crate) fn connect(&self) -> Connection {
        let client = Client::open(self.url()).unwrap();
        let connection = client.get_connection().unwrap();
        connection.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
        connection
    }

    /// Waits until a channel has this many subscribers.
    #[track_caller]
    pub(crate) fn has_subscribers(&self, channel: &str, expected: u64) {
        let mut connection = self.connect();
        let deadline = Instant::now() + LONG_PATIENCE;
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
