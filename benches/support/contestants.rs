//! The servers that are compared.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Contestant {
    /// The limit: the same bytes over TCP, no WebSocket in it (`peers/src/raw_tcp.rs`).
    RawTcp,
    /// The product: its release binary, with everything that it does by default.
    Frameloop,
    TokioTungstenite,
    Fastwebsockets,
    SockudoWs,
    /// hyper, answering `101` and closing: an opening handshake without a WebSocket behind it.
    Hyper,
    /// Flask-SocketIO on gevent, as its documentation deploys it (`tests/interop`).
    FlaskSocketio,
}

/// What a server does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Duty {
    Echo,
    Fanout,
    /// It closes as soon as a handshake is done.
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
