//! The flags that restrict access.

use clap::Args;

use super::values::{item, network};
use crate::handshake::{AllowOrigin, AllowedHost, Origin, Policy, Token, TrustedProxies};

#[derive(Args, Debug)]
#[command(next_help_heading = "Access control")]
pub(super) struct Access {
    /// Origin of browsers that may connect [default: any]
    ///
    /// Origin that browsers may connect from: scheme://host[:port], https://*.example.com for all
    /// subdomains (not the domain itself), or the literal text that other clients send (file://,
    /// null, capacitor://localhost); may be repeated. Other origins get 403 [default: any]
    #[arg(long, value_name = "ORIGIN", value_parser = item::<Origin>, value_delimiter = ',')]
    pub(super) allow_origin: Vec<Origin>,

    /// Refuse clients that send no Origin with 403: all clients except browsers
    #[arg(long)]
    pub(super) require_origin: bool,

    /// Host that requests may name, host[:port] or *.example.com for all subdomains; may be repeated.
    /// Other hosts get 421 [default: any]
    #[arg(long, value_name = "HOST", value_parser = item::<AllowedHost>, value_delimiter = ',')]
    pub(super) allow_host: Vec<AllowedHost>,

    /// Load balancer that sends the PROXY protocol, version 1 or 2, ADDRESS or ADDRESS/BITS; may be
    /// repeated. Each of its connections must begin with a PROXY header (up to 16 KiB), which gives
    /// the client's address; no other peer may send one [default: none]
    #[arg(long, value_name = "NETWORK", value_parser = network, value_delimiter = ',')]
    pub(super) proxy_protocol_from: Vec<ipnet::IpNet>,

    /// Secret that clients must send [default: none]
    ///
    /// Secret that WebSockets, Socket.IO and /metrics require, as 'Authorization: Bearer TOKEN' or
    /// ?token=TOKEN; a client without it gets 401. Other pages need no token. Use the variable: a
    /// flag shows in the list of processes [default: none]
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<Token>,
}

impl Access {
    pub(super) fn policy(&self, trusted_proxies: TrustedProxies) -> Policy {
        let Access {
            allow_origin,
            require_origin,
            allow_host,
            token,
            proxy_protocol_from: _,
        } = self;
        Policy {
            allowed_origins: match allow_origin.as_slice() {
                [] => AllowOrigin::Any,
                origins => AllowOrigin::Listed(origins.to_vec()),
            },
            require_origin: *require_origin,
            allowed_hosts: allow_host.clone(),
            token: token.clone(),
            trusted_proxies,
        }
    }
}
