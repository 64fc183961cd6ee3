//! What systemd, or whatever speaks its protocols, gives a service and wants to know of it:
//! sockets (sd_listen_fds(3)) and readiness (sd_notify(3)).

use std::io;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::server::{Listener, Server};

/// Stands for the sockets that were passed, where an address to listen on may stand.
pub(super) const SYSTEMD: &str = "systemd";

/// Listens on every socket that was passed.
pub(super) fn listen(mut server: Server) -> io::Result<Server> {
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no socket unit passed a socket",
        ));
    }
    for index in 0..passed.len() {
        let listener = match passed.take_tcp_listener(index) {
            Ok(listener) => listener.map(Listener::Tcp),
            Err(_) => passed.take_unix_listener(index)?.map(Listener::Unix),
        };
        if let Some(listener) = listener {
            server = server.with_listener(listener)?;
        }
    }
    Ok(server)
}

/// Connections are accepted from now on.
pub(super) fn is_ready() {
    notify(NotifyState::Ready);
}

/// The drain has begun.
pub(super) fn is_stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    // Without NOTIFY_SOCKET it does nothing.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}
