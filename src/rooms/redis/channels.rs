//! The wire format of Django Channels' two layers for Redis (`channels_redis` 4, without
//! encryption).
//!
//! Both layers carry an event, a MessagePack map. `RedisPubSubChannelLayer` publishes the map on a
//! channel for each group. `RedisChannelLayer` keeps a sorted set of channel names for each group,
//! its members, and a sorted set of bodies for each process, its queue. A body is 12 random bytes,
//! which keep equal events apart, and the event, with the members' names under `__asgi_channel__`.

use std::collections::BTreeMap;
use std::time::Duration;

use rmpv::Value;

use super::LayerEvent;

/// Seconds after which a member leaves its group unless it renews its entry.
pub(super) const GROUP_EXPIRY: i64 = 86_400;

/// Seconds that a body stays in the queue of its process.
pub(super) const EXPIRY: u64 = 60;

/// Maximum bodies in the queue of one process.
pub(super) const CAPACITY: isize = 100;

/// Maximum size of a received event, in bytes. It is smaller than [`Redis::MAX_SIZE`], because
/// decoded values take more memory.
///
/// [`Redis::MAX_SIZE`]: super::Redis::MAX_SIZE
const MAX_EVENT_SIZE: usize = 2 << 20;

const ADDRESSEES: &str = "__asgi_channel__";
const SALT: usize = 12;

/// The channel on which `RedisPubSubChannelLayer` publishes the events of a group begins with this,
/// before the group's name.
pub(super) const GROUP_CHANNEL: &str = "asgi__group__";

/// The key under which `RedisChannelLayer` keeps the members of a group begins with this, before the
/// group's name.
pub(super) const GROUP_KEY: &str = "asgi:group:";

/// The channel name under which a process is a member of the group with this key; `None` if the
/// text is another address.
pub(super) fn member(process: &str, key: &str) -> Option<String> {
    let group = key.strip_prefix(GROUP_KEY)?;
    Some(format!("specific.{process}!{group}"))
}

/// The group key of a process's own member name; `None` if the name is malformed.
pub(super) fn group_key_of(member: &str) -> Option<String> {
    let (_, group) = member.split_once('!')?;
    Some(format!("{GROUP_KEY}{group}"))
}

/// The key of the queue of a process.
pub(super) fn queue(process: &str) -> String {
    format!("asgispecific.{process}!")
}

/// Groups members by the queue of their process; malformed names are left out.
pub(super) fn by_process(members: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut processes = BTreeMap::<_, Vec<_>>::new();
    for member in members {
        if let Some((process, _)) = member.split_once('!') {
            let queue = format!("asgi{process}!");
            processes.entry(queue).or_default().push(member);
        }
    }
    processes
}

/// The score of an event, the time since 1970 at which it was sent. Each score is at least a
/// microsecond after the last one, because Redis orders equal scores by the bodies, which begin with
/// random bytes. A double has microsecond resolution until 2242.
pub(super) fn next_score(last: Duration, now: Duration) -> Duration {
    now.max(last.saturating_add(Duration::from_micros(1)))
}

/// Writes a score in seconds, like Python's `time.time()`.
pub(super) fn seconds(score: Duration) -> String {
    format!("{}.{:06}", score.as_secs(), score.subsec_micros())
}

/// Encodes an event as MessagePack.
pub(super) fn encode(event: LayerEvent) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = rmpv::encode::write_value(&mut bytes, &Value::Map(event));
    bytes
}

/// Decodes an event; `None` for other bytes, and for more than [`MAX_EVENT_SIZE`].
pub(super) fn decode(mut bytes: &[u8]) -> Option<LayerEvent> {
    /// Python's limit; it also fits a thread's stack.
    const MAX_DEPTH: usize = 512;
    if bytes.len() > MAX_EVENT_SIZE {
        return None;
    }
    match rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH).ok()? {
        Value::Map(event) if bytes.is_empty() => Some(event),
        _ => None,
    }
}

/// Encodes a body: an event for the members of one process.
pub(super) fn body(event: &LayerEvent, members: &[String], salt: u128) -> Vec<u8> {
    let addressees = members.iter().map(|name| Value::from(&**name)).collect();
    let event = event.iter().cloned();
    let event = event.chain([(ADDRESSEES.into(), Value::Array(addressees))]);
    let mut bytes = salt.to_be_bytes()[..SALT].to_vec();
    bytes.extend(encode(event.collect()));
    bytes
}

/// Decodes a body into its event and the members that it is for.
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

/// Adds a body to each queue that is not full. Returns the number of full queues.
///
/// Keys: one queue for each process. Arguments: a body for each key, the capacity, the time in
/// seconds, and the expiry in seconds.
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
    fn events_have_the_bytes_of_channels_redis() {
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
        let members = ["asgi:group:a", "asgi:group:b"]
            .map(|key| member("p", key).unwrap())
            .to_vec();
        let bytes = body(&hi(), &members, 1 << 32);
        assert_eq!(&bytes[..12], b"\0\0\0\0\0\0\0\0\0\0\0\x01");
        assert_eq!(&bytes[12..18], b"\x83\xA4type");
        assert!(bytes.ends_with(b"\xB0__asgi_channel__\x92\xACspecific.p!a\xACspecific.p!b"));
        assert_eq!(event_of_body(&bytes), Some((hi(), members)));
        for bytes in [&b""[..], b"short", &bytes[..12], &bytes[1..]] {
            assert_eq!(event_of_body(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn scores_rise_by_at_least_the_resolution_of_a_double() {
        // This clock stands still, and goes back once.
        let clock =
            |number| Duration::new(if number < 5_000 { 1_795_444_444 } else { 0 }, 1_234_567);
        let (mut score, mut last) = (Duration::ZERO, 0.0);
        for number in 0..10_000 {
            score = next_score(score, clock(number));
            let read: f64 = seconds(score).parse().unwrap();
            assert!(read > last, "{number}: {score:?}");
            last = read;
        }
        assert_eq!(seconds(score), "1795444444.011233");
    }

    #[test]
    fn members_are_grouped_by_process() {
        let names = ["specific.a!1", "odd", "specific.b!1", "specific.a!2"];
        let processes = by_process(names.map(str::to_owned).to_vec());
        let keys: Vec<_> = processes
            .iter()
            .map(|(key, members)| (&**key, members.len()))
            .collect();
        assert_eq!(keys, [("asgispecific.a!", 2), ("asgispecific.b!", 1)]);
    }
}
