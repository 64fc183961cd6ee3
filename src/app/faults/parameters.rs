//! The parameters of faults, and their parser.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

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

type Setter = fn(&mut Faults, &str) -> Result<(), String>;

/// All parameters. The error of a setter describes the valid values.
pub(super) const PARAMETERS: [(&str, Setter); 19] = [
    ("delay", |it, text| set(&mut it.delay, delay(text))),
    ("jitter", |it, text| set(&mut it.jitter, delay(text))),
    ("drop", |it, text| set(&mut it.drop, share(text))),
    ("dup", |it, text| set(&mut it.dup, share(text))),
    ("reorder", |it, text| set(&mut it.reorder, share(text))),
    ("fragment", |it, text| {
        set(&mut it.fragment, number(text, 1..=16 << 20, "bytes"))
    }),
    ("trickle", |it, text| {
        let rate = number(text, 1..=1_000_000_000, "bytes a second");
        set(&mut it.trickle, rate)
    }),
    ("close", |it, text| set(&mut it.close, close_code(text))),
    ("reason", |it, text| set(&mut it.reason, reason(text))),
    ("close_after", |it, text| {
        set(&mut it.close_after, after(text))
    }),
    ("abort", |it, text| set(&mut it.abort, after(text))),
    ("stall", |it, text| set(&mut it.stall, after(text))),
    ("ping", |it, text| {
        set(&mut it.ping, time(text, 100..=3_600_000))
    }),
    ("mute_pong", |it, text| set(&mut it.mute_pong, flag(text))),
    ("max_message_size", |it, text| {
        let size = number(text, 1..=super::MAX_MESSAGE_SIZE, "bytes");
        set(&mut it.max_message_size, size)
    }),
    ("text", |it, text| set(&mut it.text, flag(text))),
    ("binary", |it, text| set(&mut it.binary, flag(text))),
    ("invalid", |it, text| set(&mut it.invalid, violation(text))),
    ("seed", |it, text| {
        set(&mut it.seed, number(text, 0..=u64::MAX, ""))
    }),
];

fn set<F: From<T>, T>(field: &mut F, value: Result<T, String>) -> Result<(), String> {
    *field = value?.into();
    Ok(())
}

impl Faults {
    /// Parses the query and the headers; the query takes precedence. `None` if neither has a
    /// parameter.
    ///
    /// # Errors
    /// The line about the first invalid parameter.
    pub(super) fn parse(request: &Request<'_>) -> Result<Option<Faults>, String> {
        const PREFIX: &str = "x-echo-";
        let headers = request.headers();
        let in_headers = headers.keys().any(|name| name.as_str().starts_with(PREFIX));
        if request.query().is_none_or(str::is_empty) && !in_headers {
            return Ok(None); // the plain endpoint
        }
        let bad = |name: &str, value: &str, expected: &str| {
            format!("{name}={value:.100?}: must be {expected}\n")
        };
        let mut faults = Faults::default();
        let mut asked = false;
        for (name, setter) in PARAMETERS {
            let value = request.query_param(name).or_else(|| {
                let field = headers.get(format!("{PREFIX}{}", name.replace('_', "-")))?;
                Some(String::from_utf8_lossy(field.as_bytes()))
            });
            if let Some(value) = value {
                asked = true;
                setter(&mut faults, &value).map_err(|expected| bad(name, &value, &expected))?;
            }
        }
        if faults.text && faults.binary {
            return Err(bad("binary", "", "absent if text is set"));
        }
        Ok(asked.then_some(faults))
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

fn delay(value: &str) -> Result<Duration, String> {
    time(value, 0..=60_000)
}

fn share(value: &str) -> Result<f64, String> {
    let parsed: Option<f64> = value.parse().ok();
    parsed
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| String::from("a share from 0 to 1"))
}

fn reason(value: &str) -> Result<String, String> {
    match value.len() {
        0..=123 => Ok(value.to_owned()),
        _ => Err(String::from("at most 123 bytes of UTF-8")),
    }
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
    let names: Vec<_> = Violation::names().collect();
    Violation::from_str(value, false).map_err(|_| format!("one of {}", names.join(", ")))
}
