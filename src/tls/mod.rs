//! Certificates for `wss://` and `https://`. Without the feature `tls` there are none.

#[cfg_attr(not(feature = "tls"), path = "none.rs")]
mod certificate;

pub use certificate::Certificate;
pub(crate) use certificate::ServerConfig;
