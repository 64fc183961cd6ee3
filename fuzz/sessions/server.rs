//! The server under test, in its own process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{self, LONG_PATIENCE};
use crate::resources::Resources;

/// A serving process, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    panicked: Arc<AtomicBool>,
}

impl Server {
    /// Starts this binary and waits for its address.
    pub(crate) fn start(binary: &Path) -> Result<Server, String> {
        let mut child = Command::new(binary)
            .args(["--listen", "127.0.0.1:0"])
            // The server keeps an abandoned session for 45 s. Without this limit the sessions of
            // that time would dominate the memory.
            .args(["--socketio-max-sessions", "4096"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no output")?);
        let stderr = BufReader::new(child.stderr.take().ok_or("no log")?);
        let panicked = Arc::new(AtomicBool::new(false));
        thread::spawn({
            let panicked = Arc::clone(&panicked);
            move || {
                for line in stderr.split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line);
                    // Sessions of peers are logged as INFO, escaped.
                    if line.contains("panicked at") || line.contains("ERROR") {
                        eprintln!("the server logs: {line}");
                        panicked.store(true, Ordering::SeqCst);
                    }
                }
            }
        });
        let mut first = String::new();
        let _ = stdout.read_line(&mut first);
        let address = first.trim().rsplit_once("http://");
        let address = address.and_then(|(_, address)| address.parse().ok());
        let address = address.ok_or_else(|| format!("no address in {first:?}"))?;
        // Without a reader the server's next line would break the pipe.
        thread::spawn(move || stdout.lines().count());
        Ok(Server {
            child,
            address,
            panicked,
        })
    }

    /// The error, if the server has ended or panicked.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("the server ended: {status}"));
        }
        match self.panicked.load(Ordering::SeqCst) {
            true => Err(String::from("the server panicked")),
            false => Ok(()),
        }
    }

    pub(crate) fn resources(&self) -> Resources {
        Resources::of(self.child.id())
    }

    /// Its resources when all workers have served a connection and none is left.
    pub(crate) fn settled(&self) -> Result<Resources, String> {
        let first: Result<Vec<_>, _> = (0..8)
            .map(|_| client::open(self.address, "/echo"))
            .collect();
        drop(first.map_err(|error| format!("a first connection: {error}"))?);
        let mut last = self.resources();
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = self.resources();
            if now.descriptors == last.descriptors && self.connections() == Some(0) {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Waits until there are no WebSockets, and no more descriptors and threads than before.
    pub(crate) fn returned_to(&self, before: Resources) -> Result<Resources, String> {
        let deadline = Instant::now() + LONG_PATIENCE;
        loop {
            let (connections, now) = (self.connections(), self.resources());
            let is_back = now.descriptors <= before.descriptors && now.threads <= before.threads;
            if connections == Some(0) && is_back {
                return Ok(now);
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{connections:?} connections, {now}; before: {before}"
                ));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server, and checks that it exits cleanly within its own time limit.
    pub(crate) fn end(mut self) -> Result<(), String> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &id]).status();
        told.map_err(|error| format!("kill: {error}"))?;
        let deadline = Instant::now() + LONG_PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return match status.success() {
                    true => Ok(()),
                    false => Err(format!("the server ended: {status}")),
                };
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(String::from("the server does not end"))
    }

    /// The number of open WebSockets, from `/metrics`.
    fn connections(&self) -> Option<u64> {
        const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.write_all(REQUEST).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let mut values = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = values.find(|(name, _)| name.starts_with("frameloop_connections"))?;
        value.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
