//! The sockets that a server listens on.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::{io, net};

use super::BACKLOG;

pub(super) async fn listen_tcp(address: &str) -> io::Result<net::TcpListener> {
    let mut last = io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("'{address}' is no HOST:PORT"),
    );
    for address in tokio::net::lookup_host(address).await? {
        match bind_tcp(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_tcp(address: net::SocketAddr) -> io::Result<net::TcpListener> {
    let socket = match address {
        net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        net::SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Replies leave at once: the frame loop does its own batching. Whoever is accepted inherits it.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

pub(super) fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::net::UnixStream;
    let listener = match UnixListener::bind(path) {
        // A file that a dead server left is in the way; one that answers is a live server's.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_send_small_replies_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = bind_tcp(host.parse().unwrap()) else {
                continue; // a machine without IPv6
            };
            listener.set_nonblocking(false).unwrap();
            let _client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert!(accepted.nodelay().unwrap(), "{host}");
        }
    }
}
