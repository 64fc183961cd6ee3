//! Parses the values of `frameloop load`'s flags.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use clap::builder::TypedValueParser;
use http::{HeaderName, HeaderValue};

use crate::cli::values::{duration, one_of, size};
use crate::lab::load::Text;

/// The names of `--text`.
pub(super) fn characters() -> impl TypedValueParser<Value = Text> {
    one_of([
        ("ascii", Text::Ascii, "Printable ASCII"),
        (
            "multibyte",
            Text::Multibyte,
            "Characters of one to four bytes",
        ),
    ])
}

/// A range of message sizes in bytes. A single size is a range with equal ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The addresses of a range.
#[derive(Clone, Debug)]
pub(super) struct Sources(pub(super) Vec<IpAddr>);

pub(super) fn sizes(text: &str) -> Result<Sizes, String> {
    const MOST: usize = 1 << 30;
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (size(from)?, size(to)?),
        None => (size(text)?, size(text)?),
    };
    match from <= to && to <= MOST {
        true => Ok(Sizes { from, to }),
        false => Err(format!(
            "'{text}' is not a range of sizes up to 1GiB; write 20..4KiB"
        )),
    }
}

/// The time of a measurement.
pub(super) fn measured_time(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(format!(
            "invalid duration '{text}': use 1s, 500ms or 2m; 0 measures nothing"
        )),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.001..=1e9).contains(rate))
        .ok_or_else(|| format!("'{text}' is not a rate; write how many a second, 50000"))
}

pub(super) fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').unwrap_or_default();
    let value = value.trim();
    match token(name).is_ok() && HeaderValue::from_bytes(value.as_bytes()).is_ok() {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!("'{text}' is not a field; write 'Name: value'")),
    }
}

/// Parses a token (RFC 9110 §5.6.2), which the name of a field is.
pub(super) fn token(text: &str) -> Result<String, String> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "'{text}' is not a name; it is letters, digits and !#$%&'*+-.^_`|~"
        )),
    }
}

pub(super) fn sources(text: &str) -> Result<Sources, String> {
    let wrong =
        || format!("'{text}' is not an address or a range; write 127.1.0.1 or 127.1.0.1-127.1.0.9");
    let address = |text: &str| text.parse().map_err(|_| wrong());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (address(first)?, address(last)?),
        None => (address(text)?, address(text)?),
    };
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last))
            if first <= last && last.to_bits() - first.to_bits() < 1 << 16 =>
        {
            let all = first.to_bits()..=last.to_bits();
            Ok(Sources(all.map(|bits| IpAddr::V4(bits.into())).collect()))
        }
        (first, last) if first == last => Ok(Sources(vec![first])),
        _ => Err(wrong()),
    }
}

/// Reads the messages of a file: its lines, or records. A record begins with its length as a
/// 32-bit big-endian number.
pub(super) fn messages(
    path: &Path,
    is_records: bool,
    is_text: bool,
) -> Result<Vec<Vec<u8>>, String> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let bytes = fs::read(path).map_err(|error| named(&error))?;
    let messages: Vec<_> = match is_records {
        false => {
            let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let lines = lines.split(|byte| *byte == b'\n');
            lines
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
                .collect()
        }
        true => records(&bytes).ok_or_else(|| named(&"it ends within a record"))?,
    };
    if messages.is_empty() || bytes.is_empty() {
        return Err(named(&"it holds no message"));
    }
    let is_utf8 = |message: &Vec<u8>| str::from_utf8(message).is_ok();
    if is_text && !messages.iter().all(is_utf8) {
        return Err(named(&"a message in it is not UTF-8, and --text was given"));
    }
    Ok(messages)
}

fn records(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        records.push(record.to_vec());
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        assert!(matches!(
            sizes("20..4KiB"),
            Ok(Sizes { from: 20, to: 4096 })
        ));
        assert!(matches!(sizes("7"), Ok(Sizes { from: 7, to: 7 })));
        assert!(sizes("9..7").is_err() && sizes("..").is_err() && sizes("2GiB").is_err());
        assert_eq!(
            field("a: b c "),
            Ok((String::from("a"), String::from("b c")))
        );
        assert!(field("a b: c").is_err() && field("a").is_err() && field("a: b\r\nc: d").is_err());
        assert_eq!(sources("127.0.0.1-127.0.0.3").unwrap().0.len(), 3);
        assert!(sources("127.0.0.3-127.0.0.1").is_err() && sources("::1-::2").is_err());
        assert_eq!(
            records(b"\0\0\0\x02hi\0\0\0\0"),
            Some(vec![b"hi".to_vec(), Vec::new()])
        );
        assert_eq!(records(b"\0\0\0\x03hi"), None);
    }
}
