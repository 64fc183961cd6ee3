//! What Django Channels' two layers for Redis have on the wire (`channels_redis` 4, without
//! encryption).
//!
//! Both carry an event, a MessagePack map. `RedisPubSubChannelLayer` publishes it as it is on a
//! channel for each group. `RedisChannelLayer` keeps, for each group, a sorted set of its members'
//! channel names and, for each process, a sorted set of bodies that wait for it: 12 bytes that
//! keep equal events apart, then the event, with the names that it is for under
//! `__asgi_channel__`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rmpv::Value;

use super::LayerEvent;

/// How long a member is in its group if it does not say so again, in seconds.
pub(super) const GROUP_EXPIRY: u64 = 86_400;

/// How long a body waits for its process, in seconds.
pub(super) const EXPIRY: u64 = 60;

/// How many bodies wait for one process at most.
pub(super) const CAPACITY: u64 = 100;

const ADDRESSEES: &str = "__asgi_channel__";
const SALT: usize = 12;

/// The channel of a group on which the one layer publishes.
pub(super) fn group_channel(group: &str) -> String {
    format!("asgi__group__{group}")
}

/// The key under which the other layer keeps a group's members.
pub(super) fn group_key(group: &str) -> String {
    format!("asgi:group:{group}")
}

/// The name of a member: `number` is unique within the process.
pub(super) fn member(process: &str, number: u64) -> String {
    format!("specific.{process}!{number}")
}

/// The key at which the process of a member waits for bodies; `None` if no member has that name.
pub(super) fn process_key(member: &str) -> Option<String> {
    let (process, _) = member.split_once('!')?;
    Some(format!("asgi{process}!"))
}

/// The members of a group by the key of their process.
pub(super) fn by_process(members: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut processes = BTreeMap::<_, Vec<_>>::new();
    for member in members {
        if let Some(key) = process_key(&member) {
            processes.entry(key).or_default().push(member);
        }
    }
    processes
}

/// When an event was sent, in microseconds since 1970. No two have the same: Redis would order them
/// by their bytes then, which begin with a salt. A double tells microseconds apart until 2242.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Score(u64);

impl Score {
    /// The score of an event after one of this score.
    pub(super) fn next(self, since_1970: Duration) -> Score {
        let now = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
        Score(now.max(self.0.saturating_add(1)))
    }
}

impl fmt::Display for Score {
    /// In seconds, as `time.time()` has them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}.{:06}",
            self.0 / 1_000_000,
            self.0 % 1_000_000
        )
    }
}

/// The bytes of an event.
pub(super) fn encode(event: LayerEvent) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = rmpv::encode::write_value(&mut bytes, &Value::Map(event));
    bytes
}

/// The event of these bytes, if they are one.
pub(super) fn decode(mut bytes: &[u8]) -> Option<LayerEvent> {
    /// As deep as Python's reader goes, and no deeper than a thread's stack.
    const MAX_DEPTH: usize = 512;
    match rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH).ok()? {
        Value::Map(event) if bytes.is_empty() => Some(event),
        _ => None,
    }
}

/// The body of an event for members of one process.
pub(super) fn body(event: &LayerEvent, members: Vec<String>, salt: u128) -> Vec<u8> {
    let addressees = members.into_iter().map(Value::from).collect();
    let event = event.iter().cloned();
    let event = event.chain([(ADDRESSEES.into(), Value::Array(addressees))]);
    let mut bytes = salt.to_be_bytes()[..SALT].to_vec();
    bytes.extend(encode(event.collect()));
    bytes
}

/// The event of a body, and the members that it is for.
pub(super) fn event_of_body(body: &[u8]) -> Option<(LayerEvent, Vec<String>)> {
    let mut event = decode(body.get(SALT..)?)?;
    let place = event
        .iter()
        .position(|(key, _)| key.as_str() == Some(ADDRESSEES))?;
    let members = match event.swap_remove(place).1 {
        Value::Array(names) => names,
        name => vec![name],
    };
    let names = members.iter().filter_map(Value::as_str).map(str::to_owned);
    Some((event, names.collect()))
}

/// Puts a body at each key, unless as many wait there as may, and says how many it left out.
///
/// Keys: of the processes. Arguments: a body for each, the capacity, the time in seconds, and how
/// many seconds a body is kept.
pub(super) const SEND: &str = "
local capacity = tonumber(ARGV[#KEYS + 1])
local now = tonumber(ARGV[#KEYS + 2])
local expiry = tonumber(ARGV[#KEYS + 3])
local left_out = 0
for place, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, 0, now - expiry)
    if redis.call('ZCARD', key) < capacity then
        redis.call('ZADD', key, ARGV[#KEYS + 2], ARGV[place])
        redis.call('EXPIRE', key, expiry)
    else
        left_out = left_out + 1
    end
end
return left_out";

#[cfg(test)]
mod tests {
    use super::*;

    fn hi() -> LayerEvent {
        vec![
            ("type".into(), "chat_message".into()),
            ("message".into(), "hi".into()),
        ]
    }

    #[test]
    fn events_are_as_channels_redis_writes_them() {
        let bytes = b"\x82\xA4type\xACchat_message\xA7message\xA2hi";
        assert_eq!(encode(hi()), bytes);
        assert_eq!(decode(bytes), Some(hi()));
        for bytes in [
            &b""[..],
            b"short",
            b"\x80\x00",
            b"\x90",
            b"\xDF\xFF\xFF\xFF\xFF",
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(decode(&[0x91; 1_000_000]), None);
    }

    #[test]
    fn bodies_are_salted_and_name_their_members() {
        let members = vec![member("p", 1), member("p", 2)];
        let bytes = body(&hi(), members.clone(), 1 << 32);
        assert_eq!(&bytes[..12], b"\0\0\0\0\0\0\0\0\0\0\0\x01");
        assert_eq!(&bytes[12..18], b"\x83\xA4type");
        assert!(bytes.ends_with(b"\xB0__asgi_channel__\x92\xACspecific.p!1\xACspecific.p!2"));
        assert_eq!(event_of_body(&bytes), Some((hi(), members)));
        for bytes in [&b""[..], b"short", &bytes[..12], &bytes[1..]] {
            assert_eq!(event_of_body(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn scores_rise_by_what_redis_can_tell_apart() {
        // Whatever the clock does: here it stands still, and goes back once.
        let clock =
            |number| Duration::new(if number < 5_000 { 1_795_444_444 } else { 0 }, 1_234_567);
        let (mut score, mut last) = (Score::default(), 0.0);
        for number in 0..10_000 {
            score = score.next(clock(number));
            let read: f64 = score.to_string().parse().unwrap();
            assert!(read > last, "{number}: {score}");
            last = read;
        }
        assert_eq!(score.to_string(), "1795444444.011233");
    }

    #[test]
    fn members_are_sent_to_by_process() {
        let names = ["specific.a!1", "odd", "specific.b!1", "specific.a!2"];
        let processes = by_process(names.map(str::to_owned).to_vec());
        let keys: Vec<_> = processes
            .iter()
            .map(|(key, members)| (&**key, members.len()))
            .collect();
        assert_eq!(keys, [("asgispecific.a!", 2), ("asgispecific.b!", 1)]);
    }
}
