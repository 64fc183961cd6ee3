//! The target of a load: its URL, its addresses, and whether it is on this machine or a private
//! network.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// A server to measure.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL as given.
    pub url: String,
    /// The server's addresses. Connections use them in turn.
    pub(super) remotes: Vec<Remote>,
    /// Whether the connections use TLS.
    pub(super) is_tls: bool,
    /// The value of the Host field.
    pub(super) authority: String,
    /// The request target.
    pub(super) path: String,
}

/// The address that a socket connects to.
#[derive(Clone, Debug)]
pub(super) enum Remote {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A target that cannot be used.
#[derive(Debug)]
pub enum TargetError {
    /// The text is not a supported URL.
    Url(String),
    /// The host name does not resolve, or no address of the host accepts a connection.
    Unreachable(String),
}

impl Target {
    /// Parses `ws://HOST[:PORT]/PATH`, `wss://...` or `unix:SOCKET[:/PATH]`, and resolves the host.
    /// Several hosts, separated by commas, are the nodes of one service. The Host field names the
    /// first host.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        if let Some(rest) = url.strip_prefix("unix:") {
            return unix(url, rest);
        }
        let (is_tls, rest) = match url.split_once("://") {
            Some(("ws", rest)) => (false, rest),
            Some(("wss", rest)) => (true, rest),
            _ => return Err(wrong(url)),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let path = match path.strip_prefix('?') {
            Some(query) => format!("/?{query}"),
            None if path.is_empty() => String::from("/"),
            None => path.to_owned(),
        };
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.contains('@') || !is_clean(authority) || !is_clean(&path) {
            return Err(wrong(url));
        }
        let mut remotes = Vec::new();
        for node in authority.split(',') {
            let (host, port) = host_and_port(node, is_tls).ok_or_else(|| wrong(url))?;
            remotes.push(Remote::Tcp(resolve(host, port)?));
        }
        let first = authority.split(',').next().unwrap_or_default();
        Ok(Target {
            url: url.to_owned(),
            remotes,
            is_tls,
            authority: first.to_owned(),
            path,
        })
    }

    /// Whether all addresses belong to this machine or to private networks.
    pub fn is_near(&self) -> bool {
        self.remotes.iter().all(|remote| match remote {
            Remote::Unix(_) => true,
            Remote::Tcp(address) => is_near(address.ip()),
        })
    }

    /// The host name or address without brackets, as its certificate names it.
    pub fn host(&self) -> &str {
        host_and_port(&self.authority, self.is_tls).map_or("", |(host, _)| host)
    }

    /// Whether sockets to the target can use any source address of 127.0.0.0/8.
    pub fn is_loopback_v4(&self) -> bool {
        let is_loopback = |remote: &Remote| matches!(remote, Remote::Tcp(SocketAddr::V4(address)) if address.ip().is_loopback());
        self.remotes.iter().all(is_loopback)
    }
}

fn unix(url: &str, rest: &str) -> Result<Target, TargetError> {
    let (socket, path) = match rest.split_once(":/") {
        Some((socket, path)) => (socket, format!("/{path}")),
        None => (rest, String::from("/")),
    };
    if socket.is_empty() || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(url));
    }
    Ok(Target {
        url: url.to_owned(),
        remotes: vec![Remote::Unix(PathBuf::from(socket))],
        is_tls: false,
        authority: String::from("localhost"),
        path,
    })
}

/// Splits an authority into the host, without brackets, and the port.
fn host_and_port(authority: &str, is_tls: bool) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port? {
        "" if is_tls => 443,
        "" => 80,
        port => port.parse().ok()?,
    };
    (!host.is_empty()).then_some((host, port))
}

/// The first address that accepts a connection. If the host has only one address, returns it
/// without trying to connect.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, TargetError> {
    let unreachable =
        |error: io::Error| TargetError::Unreachable(format!("{host}:{port}: {error}"));
    let addresses: Vec<_> = (host, port)
        .to_socket_addrs()
        .map_err(unreachable)?
        .collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    if let [only] = addresses[..] {
        return Ok(only);
    }
    for address in addresses {
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
    }
}

fn wrong(url: &str) -> TargetError {
    TargetError::Url(format!(
        "'{url}' is not a URL to load; write ws://127.0.0.1:9001/echo, wss://HOST/PATH or unix:/run/frameloop.sock:/echo"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, authority, path) in [
            ("ws://127.0.0.1:9001", "127.0.0.1:9001", "/"),
            ("ws://127.0.0.1:9001/a?b=c", "127.0.0.1:9001", "/a?b=c"),
            ("ws://127.0.0.1?b", "127.0.0.1", "/?b"),
            ("wss://[::1]/x#part", "[::1]", "/x"),
            ("ws://127.0.0.1:1,127.0.0.1:2/x", "127.0.0.1:1", "/x"),
            ("unix:/tmp/s", "localhost", "/"),
            ("unix:/tmp/s:/echo?drop=1", "localhost", "/echo?drop=1"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (&*target.authority, &*target.path),
                (authority, path),
                "{url}"
            );
            assert_eq!(target.remotes.len(), url.split(',').count());
            assert!(target.is_near(), "{url}");
        }
        for url in [
            "",
            "http://x/",
            "ws://",
            "ws://a b/",
            "ws://u@127.0.0.1/",
            "ws://127.0.0.1:99999/",
            "ws://127.0.0.1:1,/",
            "unix:",
            "ws://[::1/",
        ] {
            assert!(
                matches!(Target::parse(url), Err(TargetError::Url(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn far_addresses_are_told_apart() {
        for (address, near) in [
            ("127.9.9.9", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("192.168.1.1", true),
            ("169.254.1.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("8.8.8.8", false),
            ("172.32.0.1", false),
            ("100.64.0.1", false),
            ("2001:db8::1", false),
            ("::ffff:8.8.8.8", false),
        ] {
            assert_eq!(is_near(address.parse().unwrap()), near, "{address}");
        }
    }
}
