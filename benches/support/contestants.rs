//! The compared servers.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Contestant {
    /// The limit: the same bytes over TCP without WebSocket (`peers/src/raw_tcp.rs`).
    RawTcp,
    /// The product: its release binary with its default settings.
    Frameloop,
    TokioTungstenite,
    Fastwebsockets,
    SockudoWs,
    /// hyper, which answers `101` and closes: an opening handshake without a WebSocket.
    Hyper,
    /// Flask-SocketIO on gevent, as its documentation deploys it (`tests/interop`).
    FlaskSocketio,
}

/// The task of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Duty {
    Echo,
    Fanout,
    /// The server closes the connection after the handshake.
    Close,
}

impl Contestant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RawTcp => "raw-tcp",
            Self::Frameloop => "frameloop",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Fastwebsockets => "fastwebsockets",
            Self::SockudoWs => "sockudo-ws",
            Self::Hyper => "hyper",
            Self::FlaskSocketio => "flask-socketio",
        }
    }
}
