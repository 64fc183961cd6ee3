//! Limits for one client: messages a second, published messages a second, and connections from its
//! address.

use std::collections::HashMap;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::{Disconnect, Handler, RawHandler, WebSocket};
use crate::lock::lock;
use crate::protocol::{CloseCode, CloseFrame, Message, ProtocolError};

/// A handler with limits. It is used only if a limit is set, so that limits which are off cost
/// nothing.
pub(super) struct RateLimited<H> {
    pub(super) handler: H,
    pub(super) rates: RateLimits,
    /// The place in the address limit, released when the connection ends.
    pub(super) _place: Option<IpSlot>,
}

/// The rate limits of one client's messages.
#[derive(Debug, Default)]
pub(crate) struct RateLimits {
    rate: Option<TokenBucket>,
    publish_rate: Option<TokenBucket>,
}

impl RateLimits {
    /// The rates are in messages a second.
    pub(crate) fn new(max_message_rate: Option<u32>, max_publish_rate: Option<u32>) -> RateLimits {
        RateLimits {
            rate: max_message_rate.map(TokenBucket::new),
            publish_rate: max_publish_rate.map(TokenBucket::new),
        }
    }

    /// Counts a message of this size in bytes. Returns false if the client sends too fast.
    #[inline]
    pub(crate) fn admits(&mut self, size: usize) -> bool {
        if let Some(rate) = &mut self.publish_rate
            && size >= TokenBucket::UNIT
        {
            rate.charge(size);
        }
        self.rate.as_mut().is_none_or(TokenBucket::admits)
    }

    /// Returns how long the client's next message must wait, after each message.
    #[inline]
    pub(crate) fn throttle(&mut self) -> Option<Duration> {
        self.publish_rate.as_mut().and_then(TokenBucket::spend)
    }
}

impl<H: Handler> Handler for RateLimited<H> {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.handler.open(socket);
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        let is_close = matches!(message, Message::Close(_));
        if is_close || self.rates.admits(message.size()) {
            self.handler.message(socket, message);
        } else {
            let frame = CloseFrame {
                code: CloseCode::Policy,
                reason: "too many messages",
            };
            let raw = self.handler.raw();
            if !raw.is_some_and(|raw| raw.postpones_close(Some(frame), false)) {
                socket.send(Message::Close(Some(frame)));
            }
        }
    }

    fn throttle(&mut self) -> Option<Duration> {
        self.rates.throttle()
    }

    fn is_busy(&self) -> bool {
        self.handler.is_busy()
    }

    fn has_heartbeat(&self) -> bool {
        self.handler.has_heartbeat()
    }

    fn close_code(&self, error: ProtocolError) -> CloseCode {
        self.handler.close_code(error)
    }

    fn raw(&mut self) -> Option<&mut dyn RawHandler> {
        self.handler.raw()
    }

    fn closed(&mut self, why: &Disconnect) {
        self.handler.closed(why);
    }
}

/// A token bucket: `a_second` tokens a second, and as many at once after a second of silence.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    a_second: f64,
    left: f64,
    refilled: Instant,
    /// Tokens already taken from `left`, to spend without reading the clock.
    taken: u32,
}

impl TokenBucket {
    /// Bytes of a message that cost one more token.
    pub(crate) const UNIT: usize = 64 << 10;

    /// A full bucket.
    pub fn new(a_second: u32) -> TokenBucket {
        TokenBucket {
            a_second: a_second.into(),
            left: a_second.into(),
            refilled: Instant::now(),
            taken: 0,
        }
    }

    /// Takes a token if one is available. Returns whether it did.
    pub fn admits(&mut self) -> bool {
        self.refill();
        let admits = self.left >= 1.0;
        if admits {
            self.left -= 1.0;
        }
        admits
    }

    /// Takes a token, even if none is available. Returns the time until the next token, or `None`
    /// if a token is available now.
    pub fn spend(&mut self) -> Option<Duration> {
        /// Tokens to take at once: reading the clock costs more than all other work per message
        /// here.
        const AT_ONCE: f64 = 16.0;
        if self.taken > 0 {
            self.taken -= 1;
            return None;
        }
        self.refill();
        self.left -= 1.0;
        let missing = 1.0 - self.left;
        if missing > 0.0 {
            return Some(Duration::from_secs_f64(missing / self.a_second));
        }
        let taken = self.left.min(AT_ONCE).floor();
        self.left -= taken;
        self.taken = taken as u32;
        None
    }

    /// Takes the additional tokens for a message of this size. One message never costs more than
    /// the tokens of a second.
    #[cold]
    pub(crate) fn charge(&mut self, bytes: usize) {
        let units = (bytes / Self::UNIT) as f64;
        self.left += f64::from(mem::take(&mut self.taken)) - units.min(self.a_second);
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let earned = now.duration_since(self.refilled).as_secs_f64() * self.a_second;
        self.refilled = now;
        self.left = (self.left + earned).min(self.a_second);
    }
}

/// Counts the WebSockets of each address, over all workers.
#[derive(Clone, Debug)]
pub struct IpConnectionLimit {
    max: usize,
    /// Bound: one entry for each connection.
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One WebSocket's place in the count of its address, released on drop.
#[derive(Debug)]
pub struct IpSlot {
    addresses: IpConnectionLimit,
    network: IpAddr,
}

impl IpConnectionLimit {
    /// Creates an empty count with a limit of `max` WebSockets for each address.
    pub fn new(max: usize) -> IpConnectionLimit {
        IpConnectionLimit {
            max,
            counts: Arc::default(),
        }
    }

    /// Reserves a place. `None` if the address already has `max` WebSockets.
    pub fn reserve_slot(&self, address: IpAddr) -> Option<IpSlot> {
        let network = network(address);
        let mut counts = lock(&self.counts);
        let count = counts.entry(network).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(IpSlot {
            addresses: self.clone(),
            network,
        })
    }
}

impl Drop for IpSlot {
    fn drop(&mut self) {
        let mut counts = lock(&self.addresses.counts);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64, in which a client can
/// choose its address freely.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let addresses = IpConnectionLimit::new(1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = addresses.reserve_slot(address("192.0.2.1"));
        assert!(first.is_some());
        for (text, is_free) in [
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(
                addresses.reserve_slot(address(text)).is_some(),
                is_free,
                "{text}"
            );
        }
        let _second = addresses.reserve_slot(address("2001:db8::1"));
        assert!(addresses.reserve_slot(address("2001:db8::2")).is_none());
        assert!(addresses.reserve_slot(address("2001:db8:0:1::1")).is_some());
        drop(first);
        assert!(addresses.reserve_slot(address("192.0.2.1")).is_some());
        assert_eq!(
            lock(&addresses.counts).len(),
            1,
            "an address without connections is forgotten"
        );
    }
}
