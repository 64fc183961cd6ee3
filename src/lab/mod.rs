//! Tools that are a client: they know the codec and the handshake, but not the server.

pub mod load;
