//! Client tools. They use the codec and the handshake, but not the server.

pub mod load;
