//! The first lines of standard output: where the server listens, and its endpoints.

use std::io::{self, Write};

use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::arguments::LogFormat;
use crate::app::compat::EchoService;
use crate::app::{self, Description};
use crate::server::ListenAddress;

pub(super) struct Announcement<'a> {
    pub(super) addresses: &'a [ListenAddress],
    pub(super) is_secure: bool,
    /// The fingerprint of a self-signed certificate, which users must tell their clients to trust.
    pub(super) fingerprint: Option<String>,
    pub(super) compat: Option<EchoService>,
    pub(super) is_deterministic: bool,
    pub(super) has_socketio: bool,
    /// The list's further pages.
    pub(super) further_pages: &'a [Description],
    /// The operator's address, with its pages.
    pub(super) admin: Option<(&'a ListenAddress, Vec<Description>)>,
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
        if let Some(line) = self.serves_operator() {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        // A TCP address, if there is one: browsers reach no other.
        let is_tcp = |address: &&ListenAddress| matches!(address, ListenAddress::Tcp(_));
        let mut addresses = self.addresses.iter();
        let base = addresses.find(is_tcp).or(self.addresses.first());
        let own = app::endpoints(self.compat, self.has_socketio);
        for endpoint in own.copied().chain(self.further_pages.iter().copied()) {
            if let Some(base) = base {
                let url = url(base, &endpoint, self.is_secure);
                writeln!(out, "  {url:<40} {}", endpoint.what)?;
            }
        }
        if let Some((address, pages)) = &self.admin {
            for page in pages {
                let url = url(address, page, false);
                writeln!(out, "  {url:<40} {}", page.what)?;
            }
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
        let served = self.addresses.iter().map(|it| self.serves_on(it));
        for message in served.chain(self.serves_operator()) {
            let mut line = json!({});
            if !self.is_deterministic {
                let mut now = String::new();
                // Writing to a String does not fail.
                let _ = SystemTime.format_time(&mut Writer::new(&mut now));
                line["timestamp"] = now.into();
            }
            line["level"] = "INFO".into();
            line["message"] = message.into();
            if let Some(fingerprint) = &self.fingerprint {
                line["fingerprint"] = fingerprint.as_str().into();
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn serves_operator(&self) -> Option<String> {
        let (address, _) = self.admin.as_ref()?;
        Some(match address {
            ListenAddress::Tcp(address) => format!("the operator's address is http://{address}"),
            ListenAddress::Unix(_) => format!("the operator's address is {address}"),
        })
    }

    fn serves_on(&self, address: &ListenAddress) -> String {
        match (address, self.is_secure) {
            (ListenAddress::Tcp(address), false) => format!("frameloop serves on http://{address}"),
            (ListenAddress::Tcp(address), true) => format!("frameloop serves on https://{address}"),
            (ListenAddress::Unix(_), _) => format!("frameloop serves on {address}"),
        }
    }
}

/// `ws://127.0.0.1:8000/echo`, or `unix:/run/frameloop.sock:/echo`, which `frameloop load` takes.
fn url(address: &ListenAddress, endpoint: &Description, is_secure: bool) -> String {
    let scheme = match (endpoint.is_websocket, is_secure) {
        (true, false) => "ws",
        (true, true) => "wss",
        (false, false) => "http",
        (false, true) => "https",
    };
    match address {
        ListenAddress::Tcp(address) => format!("{scheme}://{address}{}", endpoint.example),
        ListenAddress::Unix(_) => format!("{address}:{}", endpoint.example),
    }
}
