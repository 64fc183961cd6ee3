//! The interface to systemd and compatible service managers: sockets (sd_listen_fds(3)) and
//! readiness (sd_notify(3)).

use std::io;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::server::{Listener, Server};

/// The address to listen on that stands for the sockets that the service manager passed.
pub(super) const SYSTEMD: &str = "systemd";

/// Listens on every socket that the service manager passed.
pub(super) fn listen(mut server: Server) -> io::Result<Server> {
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Err(io::Error::other("no socket unit passed a socket"));
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

/// Tells the service manager that the server accepts connections.
pub(super) fn is_ready() {
    notify(NotifyState::Ready);
}

/// Tells the service manager that the drain has begun.
pub(super) fn is_stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    // `notify` does nothing without NOTIFY_SOCKET.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}
