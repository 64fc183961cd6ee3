//! A network namespace with two links to this one: one stays intact, the other gets the faults.

use std::net::{IpAddr, Ipv4Addr};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::succeeds;

/// A namespace, removed with its links when dropped.
pub(crate) struct Namespace {
    name: String,
    pub(crate) sound: Link,
    pub(crate) faulty: Link,
}

/// A pair of interfaces, one in each namespace.
pub(crate) struct Link {
    namespace: String,
    /// The interface on this side.
    here: String,
    /// The interface on the other side.
    peer: String,
    /// The address on the other side.
    pub(crate) there: IpAddr,
}

impl Namespace {
    /// `None` if the tools or the rights are missing.
    pub(crate) fn new() -> Option<Namespace> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = process::id() * 4 + COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("frameloop-{number}");
        if !succeeds("ip", &["netns", "add", &name]) {
            return None;
        }
        // 198.18.0.0/15 is reserved for network tests (RFC 2544).
        let address = |last: u32| {
            let [_, _, high, low] = (number % (1 << 13) * 8 + last).to_be_bytes();
            Ipv4Addr::new(198, 18, high, low)
        };
        let link = |letter: char, last: u32| Link {
            namespace: name.clone(),
            here: format!("fl{number}{letter}"),
            peer: format!("fl{number}{}", letter.to_ascii_uppercase()),
            there: IpAddr::V4(address(last + 2)),
        };
        let namespace = Namespace {
            name: name.clone(),
            sound: link('a', 0),
            faulty: link('b', 4),
        };
        let is_up = namespace.sound.up(address(1)) && namespace.faulty.up(address(5));
        is_up.then_some(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for link in [&self.sound, &self.faulty] {
            succeeds("ip", &["link", "del", &link.here]);
        }
        succeeds("ip", &["netns", "del", &self.name]);
    }
}

impl Link {
    fn up(&self, address: Ipv4Addr) -> bool {
        let Link {
            namespace,
            here,
            peer,
            there,
        } = self;
        let (address, there) = (format!("{address}/30"), format!("{there}/30"));
        let pair = ["type", "veth", "peer", "name", peer, "netns", namespace];
        succeeds("ip", &[&["link", "add", here], &pair[..]].concat())
            && succeeds("ip", &["addr", "add", &address, "dev", here])
            && succeeds("ip", &["link", "set", here, "up"])
            && succeeds("ip", &["-n", namespace, "addr", "add", &there, "dev", peer])
            && succeeds("ip", &["-n", namespace, "link", "set", peer, "up"])
    }

    /// Sets the interface on this side `up` or `down`.
    pub(crate) fn set(&self, state: &str) {
        assert!(succeeds("ip", &["link", "set", &self.here, state]));
    }

    /// Limits the link to 64 kbit/s with an MTU of 576 bytes, in both directions.
    pub(crate) fn narrow(&self) -> bool {
        let Link {
            namespace,
            here,
            peer,
            ..
        } = self;
        let shape = [
            "root", "tbf", "rate", "64kbit", "burst", "1600", "latency", "2s",
        ];
        let tc = |device: &str, within: &[&str]| {
            let add = ["qdisc", "add", "dev", device];
            succeeds("tc", &[within, &add, &shape].concat())
        };
        succeeds("ip", &["link", "set", here, "mtu", "576"])
            && succeeds("ip", &["-n", namespace, "link", "set", peer, "mtu", "576"])
            && tc(here, &[])
            && tc(peer, &["-n", namespace])
    }
}
