//! Certificates for `wss://` and `https://`. They require the feature `tls`.

#[cfg_attr(not(feature = "tls"), path = "none.rs")]
mod certificate;

pub use certificate::Certificate;
pub(crate) use certificate::ServerConfig;
