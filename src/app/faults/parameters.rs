//! The parameters of faults, and their parser.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::violation::Violation;
use crate::duration;
use crate::http::Request;
use crate::protocol::close;

/// The faults that a client requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// `drop`, `dup` and `reorder`: a share of the messages, from 0 to 1.
    pub(super) drop: f64,
    pub(super) dup: f64,
    pub(super) reorder: f64,
    /// Maximum payload of a frame, in bytes.
    pub(super) fragment: Option<usize>,
    /// Send rate, in bytes per second.
    pub(super) trickle: Option<u32>,
    pub(super) close: Option<u16>,
    pub(super) reason: String,
    pub(super) close_after: Option<After>,
    pub(super) abort: Option<After>,
    pub(super) stall: Option<After>,
    pub(super) ping: Option<Duration>,
    pub(super) mute_pong: bool,
    pub(super) max_message_size: Option<usize>,
    pub(super) text: bool,
    pub(super) binary: bool,
    pub(super) invalid: Option<Violation>,
    pub(super) seed: Option<u64>,
}

/// When a fault happens: after a number of messages, or at a time after the handshake.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    Messages(u64),
    Time(Duration),
}

/// A parameter with an invalid value.
#[derive(Debug)]
pub(super) struct BadParameter {
    name: &'static str,
    value: String,
    expected: String,
}

impl fmt::Display for BadParameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadParameter {
            name,
            value,
            expected,
        } = self;
        writeln!(formatter, "{name}={value:.100?}: must be {expected}")
    }
}

pub(super) const NAMES: [&str; 19] = [
    "delay",
    "jitter",
    "drop",
    "dup",
    "reorder",
    "fragment",
    "trickle",
    "close",
    "reason",
    "close_after",
    "abort",
    "stall",
    "ping",
    "mute_pong",
    "max_message_size",
    "text",
    "binary",
    "invalid",
    "seed",
];

impl Faults {
    /// Parses the query and the headers; the query takes precedence. `None` if neither has a
    /// parameter.
    pub(super) fn parse(request: &Request<'_>) -> Result<Option<Faults>, BadParameter> {
        const PREFIX: &str = "x-echo-";
        let headers = request.headers();
        let in_headers = headers.keys().any(|name| name.as_str().starts_with(PREFIX));
        if request.query().is_none_or(str::is_empty) && !in_headers {
            return Ok(None); // the plain endpoint
        }
        let mut faults = Faults::default();
        let mut asked = false;
        for name in NAMES {
            let value = match request.query_param(name) {
                Some(value) => value,
                None => {
                    let field = format!("{PREFIX}{}", name.replace('_', "-"));
                    match headers.get(field) {
                        Some(value) => String::from_utf8_lossy(value.as_bytes()),
                        None => continue,
                    }
                }
            };
            asked = true;
            faults.set(name, &value).map_err(|expected| BadParameter {
                name,
                value: value.into_owned(),
                expected,
            })?;
        }
        if faults.text && faults.binary {
            return Err(BadParameter {
                name: "binary",
                value: String::new(),
                expected: String::from("absent if text is set"),
            });
        }
        Ok(asked.then_some(faults))
    }

    /// Sets one parameter. The error describes the valid values.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        const MAX_FRAGMENT_SIZE: usize = 16 << 20;
        match name {
            "delay" => self.delay = time(value, 0..=60_000)?,
            "jitter" => self.jitter = time(value, 0..=60_000)?,
            "drop" => self.drop = share(value)?,
            "dup" => self.dup = share(value)?,
            "reorder" => self.reorder = share(value)?,
            "fragment" => self.fragment = Some(number(value, 1..=MAX_FRAGMENT_SIZE, "bytes")?),
            "trickle" => self.trickle = Some(number(value, 1..=1_000_000_000, "bytes a second")?),
            "close" => self.close = Some(close_code(value)?),
            "reason" if value.len() <= 123 => self.reason = value.to_owned(),
            "reason" => return Err(String::from("at most 123 bytes of UTF-8")),
            "close_after" => self.close_after = Some(after(value)?),
            "abort" => self.abort = Some(after(value)?),
            "stall" => self.stall = Some(after(value)?),
            "ping" => self.ping = Some(time(value, 100..=3_600_000)?),
            "mute_pong" => self.mute_pong = flag(value)?,
            "max_message_size" => {
                let range = 1..=super::MAX_MESSAGE_SIZE;
                self.max_message_size = Some(number(value, range, "bytes")?);
            }
            "text" => self.text = flag(value)?,
            "binary" => self.binary = flag(value)?,
            "invalid" => self.invalid = Some(violation(value)?),
            "seed" => self.seed = Some(number(value, 0..=u64::MAX, "")?),
            _ => return Err(format!("no value: {name} is not implemented")),
        }
        Ok(())
    }
}

fn number<T>(value: &str, range: RangeInclusive<T>, unit: &str) -> Result<T, String>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = value.parse().ok().filter(|number| range.contains(number));
    parsed.filter(|_| is_plain).ok_or_else(|| {
        let text = format!(
            "a whole number from {} to {} {unit}",
            range.start(),
            range.end()
        );
        text.trim_end().to_owned()
    })
}

/// Parses a duration within a range in milliseconds. A number without a unit is in milliseconds.
fn time(value: &str, range: RangeInclusive<u64>) -> Result<Duration, String> {
    let (least, most) = (range.start(), range.end());
    let parsed = duration::parse(value, "ms").filter(|time| {
        (Duration::from_millis(*least)..=Duration::from_millis(*most)).contains(time)
    });
    parsed.ok_or_else(|| {
        format!("a time from {least} to {most} milliseconds, such as 100, 100ms or 0.1s")
    })
}

fn share(value: &str) -> Result<f64, String> {
    let parsed: Option<f64> = value.parse().ok();
    parsed
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| String::from("a share from 0 to 1"))
}

fn flag(value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(String::from("empty, 1, true, 0 or false")),
    }
}

/// Parses a number of messages or a time. Empty means at once.
fn after(value: &str) -> Result<After, String> {
    const LONGEST: Duration = Duration::from_secs(3_600);
    if value.is_empty() {
        return Ok(After::Messages(0));
    }
    if let Ok(messages) = number(value, 0..=1_000_000, "") {
        return Ok(After::Messages(messages));
    }
    let time = duration::parse(value, "").filter(|time| *time <= LONGEST);
    time.map(After::Time).ok_or_else(|| {
        String::from("a number of messages from 0 to 1000000, or a time from 0ms to 1h")
    })
}

/// Parses a close code that may be sent (§7.4). `invalid=close_code` sends one that may not.
fn close_code(value: &str) -> Result<u16, String> {
    let parsed: Option<u16> = value.parse().ok();
    parsed
        .filter(|code| close::may_travel(*code))
        .ok_or_else(|| String::from("a code from 1000 to 1003, 1007 to 1014 or 3000 to 4999"))
}

fn violation(value: &str) -> Result<Violation, String> {
    let mut all = Violation::ALL.iter();
    match all.find(|(name, _)| *name == value) {
        Some((_, violation)) => Ok(*violation),
        None => {
            let names: Vec<_> = Violation::ALL.iter().map(|(name, _)| *name).collect();
            Err(format!("one of {}", names.join(", ")))
        }
    }
}
