//! Warnings at start: settings that have no effect, or that open more than it seems.

use std::net::IpAddr;

use super::arguments::Serve;
use crate::handshake::AllowOrigin;
use crate::server::ListenAddress;

/// Logs a line for each warning.
pub(super) fn warn(serve: &Serve, addresses: &[ListenAddress]) {
    let policy = serve.access.policy();
    let is_open = policy.token.is_none() && matches!(policy.allowed_origins, AllowOrigin::Any);
    let is_limited = serve.limits.max_connections_per_address().is_some();
    for address in addresses {
        match address {
            ListenAddress::Tcp(tcp) if is_open && is_public(tcp.ip()) => tracing::warn!(
                "every web page may connect to {address}: set --allow-origin or --token"
            ),
            ListenAddress::Unix(_) if is_limited && !policy.trusted_proxies.unix => tracing::warn!(
                "--max-connections-per-address has no effect on {address}: its clients have no \
                 address without --trust-forwarded-from unix"
            ),
            _ => {}
        }
    }
}

/// Whether an address may be reached from beyond this machine and its private network. The
/// unspecified address stands for all addresses of the machine.
fn is_public(address: IpAddr) -> bool {
    !match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}
