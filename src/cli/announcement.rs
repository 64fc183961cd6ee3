//! The first lines of standard output: where the server listens, and its endpoints.

use std::io::{self, Write};

use serde_json::json;

use super::arguments::{LogFormat, Serve};
use super::operator::METRICS;
use crate::app::AppSettings;
use crate::log;
use crate::server::ListenAddress;
use crate::tls::Certificate;

pub(super) struct Announcement<'a> {
    pub(super) serve: &'a Serve,
    pub(super) app: &'a AppSettings,
    pub(super) addresses: &'a [ListenAddress],
    /// The operator's address.
    pub(super) admin: Option<ListenAddress>,
    pub(super) certificate: Option<&'a Certificate>,
}

impl Announcement<'_> {
    /// Prints the announcement in the log's format: as text, or as one JSON object for each
    /// address.
    ///
    /// # Errors
    /// An error of standard output.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.serve.logs.log_format {
            LogFormat::Text => self.write_text(&mut out)?,
            LogFormat::Json => self.write_json(&mut out)?,
        }
        out.flush()
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.served() {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        // A TCP address, if there is one: browsers reach no other.
        let is_tcp = |address: &&ListenAddress| matches!(address, ListenAddress::Tcp(_));
        let mut addresses = self.addresses.iter();
        let base = addresses.find(is_tcp).or(self.addresses.first());
        let listed = base.into_iter().flat_map(|base| {
            let endpoints = self.app.endpoints();
            endpoints.map(move |endpoint| (base, endpoint, self.certificate.is_some()))
        });
        let admin = self.admin.iter().filter(|_| self.serve.has_metrics());
        let of_operator = admin.map(|address| (address, &METRICS, false));
        for (address, endpoint, is_secure) in listed.chain(of_operator) {
            let url = url(address, endpoint.is_websocket, is_secure, endpoint.example);
            writeln!(out, "  {url:<40} {}", endpoint.what)?;
        }
        writeln!(out, "\nCtrl-C stops it; frameloop --help says more.")?;
        if let Some(fingerprint) = self.fingerprint() {
            writeln!(out, "Certificate (SHA-256): {fingerprint}")?;
        }
        for address in self.addresses {
            if let (Some(service), ListenAddress::Tcp(address)) = (self.serve.compat, address)
                && let Some(line) = service.announcement(address.port())
            {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for message in self.served() {
            let mut line = json!({});
            if !self.serve.deterministic {
                line["timestamp"] = log::timestamp().into();
            }
            line["level"] = "INFO".into();
            line["message"] = message.into();
            if let Some(fingerprint) = self.fingerprint() {
                line["fingerprint"] = fingerprint.into();
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// One line for each address.
    fn served(&self) -> impl Iterator<Item = String> {
        let url = |address, is_secure| url(address, false, is_secure, "");
        let is_secure = self.certificate.is_some();
        let addresses = self.addresses.iter();
        let served = addresses.map(move |it| format!("frameloop serves on {}", url(it, is_secure)));
        let admin = self.admin.iter();
        served.chain(admin.map(move |it| format!("the operator's address is {}", url(it, false))))
    }

    /// The fingerprint of a self-signed certificate, which users must tell their clients to trust.
    fn fingerprint(&self) -> Option<String> {
        self.serve.tls.fingerprint(self.certificate)
    }
}

/// `ws://127.0.0.1:8000/echo`, or `unix:/run/frameloop.sock:/echo`, which `frameloop load` takes.
fn url(address: &ListenAddress, is_websocket: bool, is_secure: bool, path: &str) -> String {
    let scheme = match (is_websocket, is_secure) {
        (true, false) => "ws",
        (true, true) => "wss",
        (false, false) => "http",
        (false, true) => "https",
    };
    match address {
        ListenAddress::Tcp(address) => format!("{scheme}://{address}{path}"),
        ListenAddress::Unix(_) if path.is_empty() => address.to_string(),
        ListenAddress::Unix(_) => format!("{address}:{path}"),
    }
}
