//! `frameloop healthcheck`: asks a running server whether it serves, for a container without curl.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;

use super::service_manager::SYSTEMD;
use super::values::network;
use super::values::{AddressList, address, addresses, duration, item};
use crate::app::compat::EchoService;
use crate::server::UnixAddress;

#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    /// Server to ask, HOST:PORT or unix:PATH [default: --admin-listen, else --listen]
    #[arg(value_name = "ADDRESS", value_parser = address)]
    address: Option<String>,

    /// Where the server listens for the operator
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    admin_listen: Option<String>,

    /// Where the server listens; the first of several
    #[arg(long, value_name = "ADDRESS", value_parser = addresses, default_value = "127.0.0.1:8000")]
    listen: Vec<AddressList>,

    /// Whose connections must begin with the PROXY protocol: then the question does, too
    #[arg(long, value_name = "NETWORK", value_parser = network, value_delimiter = ',')]
    proxy_protocol_from: Vec<ipnet::IpNet>,

    /// The service that the server stands in for, which says where it listens by default
    #[arg(long, value_name = "SERVICE")]
    compat: Option<EchoService>,

    /// Host header to send, for servers with --allow-host; the first of several
    #[arg(
        long,
        env = "FRAMELOOP_ALLOW_HOST",
        value_name = "HOST",
        value_parser = item::<String>,
        value_delimiter = ',',
        default_value = "localhost"
    )]
    host: Vec<String>,

    /// How long to wait for each step of the answer
    #[arg(long, env = "FRAMELOOP_HEALTHCHECK_TIMEOUT", value_name = "TIME",
          value_parser = duration, default_value = "2s")]
    timeout: Duration,
}

impl Healthcheck {
    /// Checks that the server answers as a healthy one does.
    ///
    /// # Errors
    /// The reason why the server is not healthy.
    pub(super) fn run(&self) -> io::Result<()> {
        let timeout = Some(self.timeout).filter(|timeout| !timeout.is_zero());
        let address = self.address.as_ref().or(self.admin_listen.as_ref());
        let listen = self.listen.first().and_then(|AddressList(all)| all.first());
        let address = address.or(listen).map_or("", String::as_str);
        // A star matches any name, such as `health`.
        let host = self.host.first().map_or("", String::as_str);
        let host = &host.replacen('*', "health", 1);
        if address == SYSTEMD {
            return Err(io::Error::other(
                "systemd knows where it listens: say it, as in frameloop healthcheck 127.0.0.1:8000",
            ));
        }
        if address.starts_with(UnixAddress::PREFIX) {
            let address: UnixAddress = address.parse()?;
            let stream = UnixStream::connect(address.path())?;
            stream.set_read_timeout(timeout)?;
            return check(stream, host);
        }
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let connect = |address| match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        let mut addresses = address.to_socket_addrs()?.map(reachable);
        let connected = addresses.find_map(|address| {
            let connected = connect(address);
            connected.map_err(|error| failed = error).ok()
        });
        let Some(mut stream) = connected else {
            return Err(failed);
        };
        stream.set_read_timeout(timeout)?;
        // The operator's address accepts no PROXY header.
        let is_admin = self.admin_listen.as_deref() == Some(address);
        if !is_admin && self.is_proxy(&stream)? {
            stream.write_all(&PROXY_LOCAL)?;
        }
        check(stream, host)
    }

    /// Whether the server expects a PROXY header from this end of the stream.
    fn is_proxy(&self, stream: &TcpStream) -> io::Result<bool> {
        let own = stream.local_addr()?.ip().to_canonical();
        let mut proxies = self.proxy_protocol_from.iter();
        Ok(proxies.any(|network| network.contains(&own)))
    }
}

/// The PROXY header, version 2, command LOCAL: the proxy connects for itself.
const PROXY_LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Replaces the unspecified address, which stands for all addresses, by the loopback address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn check(mut stream: impl Read + Write, host: &str) -> io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 ";
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(OK.len() as u64).read_to_end(&mut answer)?;
    // A TLS server answers a client without TLS with an alert (RFC 8446 §6): the server is alive,
    // and the check does not verify its certificate.
    if answer == OK || answer.starts_with(&[0x15, 0x03]) {
        Ok(())
    } else {
        let answer = answer.escape_ascii();
        Err(io::Error::other(format!("it answers '{answer}'")))
    }
}
