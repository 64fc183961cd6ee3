//! The first lines of standard output: where the server listens, and its endpoints.

use std::io::{self, Write};

use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::arguments::LogFormat;
use crate::app;
use crate::app::compat::EchoService;
use crate::server::ListenAddress;

pub(super) struct Announcement<'a> {
    pub(super) addresses: &'a [ListenAddress],
    pub(super) is_secure: bool,
    /// The fingerprint of a self-signed certificate, which users must tell their clients to trust.
    pub(super) fingerprint: Option<String>,
    pub(super) compat: Option<EchoService>,
    pub(super) is_deterministic: bool,
    pub(super) has_socketio: bool,
}

impl Announcement<'_> {
    /// Prints the announcement in the log's format: as text, or as one JSON object for each
    /// address.
    ///
    /// # Errors
    /// An error of standard output.
    pub(super) fn print(&self, format: LogFormat) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match format {
            LogFormat::Text => self.write_text(&mut out)?,
            LogFormat::Json => self.write_json(&mut out)?,
        }
        out.flush()
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for address in self.addresses {
            writeln!(out, "{}", self.serves_on(address))?;
        }
        writeln!(out)?;
        let base = match self.addresses.first() {
            Some(ListenAddress::Tcp(address)) => address.to_string(),
            _ => String::from("127.0.0.1"),
        };
        let secure = if self.is_secure { "s" } else { "" };
        for endpoint in app::endpoints(self.compat, self.has_socketio) {
            let scheme = if endpoint.is_websocket { "ws" } else { "http" };
            let url = format!("{scheme}{secure}://{base}{}", endpoint.example);
            writeln!(out, "  {url:<40} {}", endpoint.what)?;
        }
        writeln!(out, "\nCtrl-C stops it; frameloop --help says more.")?;
        if let Some(fingerprint) = &self.fingerprint {
            writeln!(out, "Certificate (SHA-256): {fingerprint}")?;
        }
        for address in self.addresses {
            if let (Some(service), ListenAddress::Tcp(address)) = (self.compat, address)
                && let Some(line) = service.announcement(address.port())
            {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for address in self.addresses {
            let mut line = json!({});
            if !self.is_deterministic {
                let mut now = String::new();
                // Writing to a String does not fail.
                let _ = SystemTime.format_time(&mut Writer::new(&mut now));
                line["timestamp"] = now.into();
            }
            line["level"] = "INFO".into();
            line["message"] = self.serves_on(address).into();
            if let Some(fingerprint) = &self.fingerprint {
                line["fingerprint"] = fingerprint.as_str().into();
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn serves_on(&self, address: &ListenAddress) -> String {
        match (address, self.is_secure) {
            (ListenAddress::Tcp(address), false) => format!("frameloop serves on http://{address}"),
            (ListenAddress::Tcp(address), true) => format!("frameloop serves on https://{address}"),
            (ListenAddress::Unix(_), _) => format!("frameloop serves on {address}"),
        }
    }
}
