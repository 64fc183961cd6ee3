//! The flags of HTTP proxies that forward the clients' addresses.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::values::{item, network};
use crate::handshake::{ForwardedHeader, TrustedProxies};

#[derive(Args, Debug)]
#[command(next_help_heading = "Access control")]
pub(super) struct ForwardedArguments {
    /// HTTP proxy whose `X-Forwarded-For` or `Forwarded` is trusted, ADDRESS, ADDRESS/BITS, or `unix`
    /// for all peers on a Unix domain socket; may be repeated. The last address not listed is the
    /// client's: for --max-connections-per-address, the log and endpoints [default: none]
    #[arg(long, value_name = "NETWORK", value_parser = item::<Forwarder>, value_delimiter = ',')]
    trust_forwarded_from: Vec<Forwarder>,

    /// The header that these proxies set. The other one is ignored: a client can forge it, because
    /// proxies pass it on
    #[arg(long, value_name = "FIELD", default_value = "x-forwarded-for")]
    forwarded_header: Field,
}

#[derive(Clone, Copy, Debug)]
enum Forwarder {
    Network(IpNet),
    Unix,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Field {
    /// X-Forwarded-For
    XForwardedFor,
    /// Forwarded (RFC 7239)
    Forwarded,
}

impl FromStr for Forwarder {
    type Err = String;

    fn from_str(text: &str) -> Result<Forwarder, String> {
        match text {
            "unix" => Ok(Forwarder::Unix),
            text => network(text)
                .map(Forwarder::Network)
                .map_err(|error| format!("{error}, or unix")),
        }
    }
}

impl ForwardedArguments {
    pub(super) fn trusted_proxies(&self) -> TrustedProxies {
        let network = |forwarder: &Forwarder| match forwarder {
            Forwarder::Network(network) => Some(*network),
            Forwarder::Unix => None,
        };
        let from = &self.trust_forwarded_from;
        TrustedProxies {
            networks: from.iter().filter_map(network).collect(),
            unix: from.iter().any(|one| matches!(one, Forwarder::Unix)),
            header: match self.forwarded_header {
                Field::XForwardedFor => ForwardedHeader::XForwardedFor,
                Field::Forwarded => ForwardedHeader::Forwarded,
            },
        }
    }
}
