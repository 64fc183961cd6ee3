//! The flags that restrict access.

use clap::Args;
use ipnet::IpNet;

use super::values::{item, network, one_of};
use crate::handshake::{
    AllowOrigin, AllowedHost, ForwardedHeader, Origin, Policy, Token, TrustedProxies,
};

#[derive(Args, Debug)]
#[command(next_help_heading = "Access control")]
pub(super) struct Access {
    /// Origin of browsers that may connect [default: any]
    ///
    /// Origin that browsers may connect from: scheme://host[:port], https://*.example.com for all
    /// subdomains (not the domain itself), or the literal text that other clients send (file://,
    /// null, capacitor://localhost); may be repeated. Other origins get 403 [default: any]
    #[arg(long, value_name = "ORIGIN", value_parser = item::<Origin>, value_delimiter = ',')]
    allow_origin: Vec<Origin>,

    /// Refuse clients that send no Origin with 403: all clients except browsers
    #[arg(long)]
    require_origin: bool,

    /// Host that requests may name, host[:port] or *.example.com for all subdomains; may be repeated.
    /// Other hosts get 421 [default: any]
    #[arg(long, value_name = "HOST", value_parser = item::<AllowedHost>, value_delimiter = ',')]
    allow_host: Vec<AllowedHost>,

    /// Load balancer that sends the PROXY protocol, version 1 or 2, ADDRESS or ADDRESS/BITS; may be
    /// repeated. Each of its connections must begin with a PROXY header (up to 16 KiB), which gives
    /// the client's address; no other peer may send one [default: none]
    #[arg(long, value_name = "NETWORK", value_parser = network, value_delimiter = ',')]
    pub(super) proxy_protocol_from: Vec<IpNet>,

    /// Secret that clients must send [default: none]
    ///
    /// Secret that WebSockets, Socket.IO and /metrics require, as 'Authorization: Bearer TOKEN' or
    /// ?token=TOKEN; a client without it gets 401. Other pages need no token. Use the variable: a
    /// flag shows in the list of processes [default: none]
    #[arg(long, value_name = "TOKEN")]
    token: Option<Token>,

    /// HTTP proxy whose `X-Forwarded-For` or `Forwarded` is trusted, ADDRESS, ADDRESS/BITS, or `unix`
    /// for all peers on a Unix domain socket; may be repeated. The last address not listed is the
    /// client's: for --max-connections-per-address, the log and endpoints [default: none]
    #[arg(long, value_name = "NETWORK", value_parser = forwarder, value_delimiter = ',')]
    trust_forwarded_from: Vec<Option<IpNet>>,

    /// The header that these proxies set. The other one is ignored: a client can forge it, because
    /// proxies pass it on
    #[arg(long, value_name = "FIELD", default_value = "x-forwarded-for", value_parser = one_of([
        ("x-forwarded-for", ForwardedHeader::XForwardedFor, "X-Forwarded-For"),
        ("forwarded", ForwardedHeader::Forwarded, "Forwarded (RFC 7239)"),
    ]))]
    forwarded_header: ForwardedHeader,
}

/// Parses a network; `None` for `unix`.
fn forwarder(text: &str) -> Result<Option<IpNet>, String> {
    match text.trim() {
        "unix" => Ok(None),
        text => network(text)
            .map(Some)
            .map_err(|error| format!("{error}, or unix")),
    }
}

impl Access {
    pub(super) fn policy(&self) -> Policy {
        let from = &self.trust_forwarded_from;
        Policy {
            allowed_origins: match self.allow_origin.as_slice() {
                [] => AllowOrigin::Any,
                origins => AllowOrigin::Listed(origins.to_vec()),
            },
            require_origin: self.require_origin,
            allowed_hosts: self.allow_host.clone(),
            token: self.token.clone(),
            trusted_proxies: TrustedProxies {
                networks: from.iter().copied().flatten().collect(),
                unix: from.contains(&None),
                header: self.forwarded_header,
            },
        }
    }
}
