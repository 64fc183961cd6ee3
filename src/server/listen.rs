//! The sockets that a server listens on.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io, net};

use tokio::net::UnixSocket;

use super::BACKLOG;

/// Listens on every address of a name that this machine has.
pub(super) async fn listen_tcp(address: &str) -> io::Result<Vec<net::TcpListener>> {
    let addresses: Vec<_> = tokio::net::lookup_host(address).await?.collect();
    bind_all(&addresses)
}

/// Listens on the addresses of one name, all on the same port, even if the given port is 0.
fn bind_all(addresses: &[net::SocketAddr]) -> io::Result<Vec<net::TcpListener>> {
    /// How many ports are tried, when a free port of the first address is taken on another address.
    const ATTEMPTS: usize = 16;
    let is_free = addresses.iter().all(|address| address.port() == 0);
    let attempts = if is_free { ATTEMPTS } else { 1 };
    for _ in 1..attempts {
        match try_bind_all(addresses) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    try_bind_all(addresses)
}

fn try_bind_all(addresses: &[net::SocketAddr]) -> io::Result<Vec<net::TcpListener>> {
    let mut listeners: Vec<net::TcpListener> = Vec::new();
    let mut bound = Vec::new();
    let mut missing = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        if bound.contains(&address.ip()) {
            continue;
        }
        let mut address = *address;
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr()?.port());
        }
        match bind_tcp(address) {
            Ok(listener) => {
                bound.push(address.ip());
                listeners.push(listener);
            }
            // A name may have addresses that this machine lacks, for example without IPv6.
            Err(error) if is_missing(&error) => missing = error,
            Err(error) => return Err(error),
        }
    }
    match listeners.is_empty() {
        true => Err(missing),
        false => Ok(listeners),
    }
}

fn is_missing(error: &io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(unsupported)
}

fn bind_tcp(address: net::SocketAddr) -> io::Result<net::TcpListener> {
    let socket = match address {
        net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        net::SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Replies are sent at once: the frame loop does its own batching. An accepted socket inherits
    // this.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// The address of a Unix domain socket: `unix:PATH`, and optionally, after commas, `mode=0660`, the
/// permissions of its file, and `group=NAME`, the group of its file by name or number. A client
/// needs write permission. Default permissions: 0660 if a group is given, otherwise from the umask
/// of the process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnixAddress {
    path: PathBuf,
    mode: Option<u32>,
    group: Option<String>,
}

impl FromStr for UnixAddress {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<UnixAddress> {
        let invalid = || {
            let what = format!(
                "invalid address '{text}': use unix:/run/frameloop.sock or \
                 unix:/run/frameloop.sock,mode=0660,group=www-data"
            );
            io::Error::new(io::ErrorKind::InvalidInput, what)
        };
        let mut path = text.strip_prefix(Self::PREFIX).ok_or_else(invalid)?;
        let (mut mode, mut group) = (None, None);
        // A path may contain commas.
        while let Some((before, option)) = path.rsplit_once(',') {
            match option.split_once('=') {
                Some(("mode", octal)) => {
                    let bits = u32::from_str_radix(octal, 8).ok();
                    mode = Some(bits.filter(|bits| *bits <= 0o777).ok_or_else(invalid)?);
                }
                Some(("group", name)) if !name.is_empty() => group = Some(name.to_owned()),
                Some(_) => return Err(invalid()),
                None => break,
            }
            path = before;
        }
        if path.is_empty() {
            return Err(invalid());
        }
        Ok(UnixAddress {
            path: path.into(),
            mode: mode.or(group.as_ref().map(|_| 0o660)),
            group,
        })
    }
}

impl UnixAddress {
    /// The prefix of every such address.
    pub const PREFIX: &str = "unix:";

    /// Returns the path of the socket's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens on this address. A file that a dead server has left is replaced.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        let socket = UnixSocket::new_stream()?;
        match socket.bind(&self.path) {
            // A file whose socket accepts a connection belongs to a live server.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(&self.path).is_ok() {
                    return Err(error);
                }
                fs::remove_file(&self.path)?;
                socket.bind(&self.path)?;
            }
            result => result?,
        }
        // Before it listens, so that the socket is never open to a client without permission.
        if let Err(error) = self.restrict() {
            let _ = fs::remove_file(&self.path);
            return Err(error);
        }
        socket.listen(BACKLOG)?.into_std()
    }

    fn restrict(&self) -> io::Result<()> {
        if let Some(group) = &self.group {
            chown(&self.path, None, Some(group_id(group)?))?;
        }
        match self.mode {
            Some(mode) => fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }
}

/// Returns the number of a group; a name is looked up in /etc/group.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group")?;
    let mut lines = groups.lines().map(|line| line.split(':'));
    let id = lines.find_map(|mut fields| match fields.next() == Some(group) {
        true => fields.nth(1)?.parse().ok(),
        false => None,
    });
    id.ok_or_else(|| {
        let what = format!("unknown group '{group}': /etc/group does not list it");
        io::Error::new(io::ErrorKind::NotFound, what)
    })
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

    fn listening(addresses: &[&str]) -> io::Result<Vec<net::SocketAddr>> {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        let listeners = bind_all(&addresses)?;
        Ok(listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect())
    }

    #[test]
    fn all_addresses_of_a_name_are_bound_on_one_port() {
        // One address twice, and one that is reserved for documentation, which no machine has.
        let name = ["192.0.2.1:0", "127.0.0.2:0", "127.0.0.1:0", "127.0.0.2:0"];
        let bound = listening(&name).unwrap();
        let hosts: Vec<_> = bound.iter().map(|address| address.ip()).collect();
        assert_eq!(
            hosts,
            ["127.0.0.2", "127.0.0.1"].map(|host| host.parse::<net::IpAddr>().unwrap())
        );
        assert_ne!(bound[0].port(), 0);
        assert_eq!(bound[0].port(), bound[1].port());

        let taken = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let name = ["127.0.0.2", "127.0.0.1"].map(|host| format!("{host}:{port}"));
        let error = listening(&name.each_ref().map(String::as_str)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let error = listening(&["192.0.2.1:0"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
