//! Property tests of the protocol core: any cutting of the input gives the same messages and the
//! same error, and tungstenite, a second implementation, agrees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "deflate")]
mod deflate;
mod oracle;
mod receiver;
