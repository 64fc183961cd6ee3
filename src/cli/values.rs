//! Parsers for the values of flags.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::service_manager::SYSTEMD;
use crate::duration;
use crate::server::UnixAddress;

/// Flags whose values are secrets, or may contain a password. No output shows the secrets.
pub(super) const SECRETS: [&str; 3] = ["token", "redis-url", "socketio-redis"];

/// `10`, `10s`, `0.5s`, `500ms`, `2m`, `1h`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text, "s")
        .ok_or_else(|| format!("invalid duration '{text}': use 10s, 500ms, 2m or 1h, or 0 for off"))
}

/// `1048576`, `1024KiB`, `1MiB`, `1GiB`; a bare number is bytes.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("invalid size '{text}': use 65536, 64KiB, 16MiB or 1GiB");
    let (number, unit) = split(text);
    let number: usize = number.parse().map_err(|_| wrong())?;
    let bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(number),
        "k" | "kib" => number.checked_mul(1 << 10),
        "m" | "mib" => number.checked_mul(1 << 20),
        "g" | "gib" => number.checked_mul(1 << 30),
        _ => None,
    };
    bytes.ok_or_else(wrong)
}

/// Writes a size as [`size`] reads it: in the largest unit that divides it.
pub(super) fn written_size(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let is_whole = |(bits, _): &&(u32, _)| bytes > 0 && bytes.trailing_zeros() >= *bits;
    match units.iter().find(is_whole) {
        Some((bits, unit)) => format!("{}{unit}", bytes >> bits),
        None => bytes.to_string(),
    }
}

/// A URL without the secrets in it: `redis://user:***@host`. A query may hold a password, too.
pub(super) fn without_secrets(url: &str) -> String {
    let (address, query) = match url.split_once('?') {
        Some((_, query)) if query.contains('@') => return String::from("set"),
        Some((address, _)) => (address, "?***"),
        None => (url, ""),
    };
    let Some((scheme, rest)) = address.split_once("://") else {
        return String::from("set");
    };
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}{query}"),
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}{query}"),
            None => format!("{scheme}://***@{host}{query}"),
        },
    }
}

/// A list of at least one address.
#[derive(Clone, Debug)]
pub(super) struct AddressList(pub(super) Vec<String>);

/// Parses addresses separated by commas. A part that is `name=value` belongs to the address before
/// it.
pub(super) fn addresses(text: &str) -> Result<AddressList, String> {
    let mut addresses: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let name = part.split_once('=').map_or("", |(name, _)| name);
        let is_option = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        match addresses.last_mut().filter(|_| is_option) {
            Some(address) => {
                address.push(',');
                address.push_str(part);
            }
            None => addresses.push(part.to_owned()),
        }
    }
    for text in &addresses {
        address(text)?;
    }
    Ok(AddressList(addresses))
}

/// Parses one value of a list, without the spaces around it.
pub(super) fn item<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.trim().parse()
}

/// `HOST:PORT`, `unix:PATH`, or [`SYSTEMD`].
pub(super) fn address(text: &str) -> Result<String, String> {
    let is_tcp = || {
        text.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    match text.strip_prefix(UnixAddress::PREFIX) {
        Some(_) => text
            .parse::<UnixAddress>()
            .map(|_| text.to_owned())
            .map_err(|error| error.to_string()),
        None if is_tcp() || text == SYSTEMD => Ok(text.to_owned()),
        _ => Err(format!(
            "invalid address '{text}': use 127.0.0.1:8000, [::1]:8000, unix:/run/frameloop.sock or systemd"
        )),
    }
}

/// Parses one of these names to the value beside it. The last column is the help, which may be
/// empty.
pub(super) fn one_of<T: Clone + Send + Sync + 'static, const N: usize>(
    values: [(&'static str, T, &'static str); N],
) -> impl TypedValueParser<Value = T> {
    let names = values.each_ref().map(|(name, _, what)| {
        PossibleValue::new(*name).help(Some(*what).filter(|what| !what.is_empty()))
    });
    PossibleValuesParser::new(names).try_map(move |name| {
        let found = values.iter().find(|(known, ..)| *known == name);
        found.map(|(_, value, _)| value.clone()).ok_or("unknown")
    })
}

/// `ADDRESS` or `ADDRESS/BITS`.
pub(super) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let text = text.trim();
    text.parse()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
        .map_err(|_| format!("invalid network '{text}': use 10.0.0.7, 10.0.0.0/8 or fd00::/8"))
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in [
            ("0", 0),
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.1s", 100),
            ("1.5", 1_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "s", "-1", "10 s", "1d", "99999999999999999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("16MiB", 16 << 20),
            ("1g", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1TiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_written_size_is_read_as_itself() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1 << 10, "1KiB"),
            (3 << 29, "1536MiB"),
            (5 << 30, "5GiB"),
            ((1 << 30) + 1, "1073741825"),
        ] {
            assert_eq!(written_size(bytes), text);
            assert_eq!(size(text), Ok(bytes));
        }
    }

    #[test]
    fn a_url_is_written_without_its_password() {
        for (url, written) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("rediss://me:a:b/c@d@host/1", "rediss://me:***@host/1"),
            ("redis://:secret@host", "redis://:***@host"),
            ("redis://secret@host", "redis://***@host"),
            ("redis://a:b?c@host", "set"),
            ("unix:///run/redis?pass=secret", "unix:///run/redis?***"),
            ("secret", "set"),
        ] {
            assert_eq!(without_secrets(url), written, "{url}");
        }
    }

    #[test]
    fn addresses_are_tcp_or_unix() {
        for text in [
            "127.0.0.1:8000",
            "[::1]:0",
            "localhost:80",
            "unix:/tmp/x",
            "unix:/tmp/x,mode=0660",
            "unix:/tmp/x,group=www-data,mode=660",
            "unix:/tmp/x,y",
            "systemd",
        ] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "8000",
            ":8000",
            "localhost",
            "localhost:99999",
            "unix:",
            "unix:,mode=0660",
            "unix:/tmp/x,mode=0888",
            "unix:/tmp/x,mode=",
            "unix:/tmp/x,mode=10660",
            "unix:/tmp/x,group=",
            "unix:/tmp/x,owner=me",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_of_addresses_may_have_spaces_and_options() {
        let list = "127.0.0.1:0, unix:/tmp/x,mode=0660, group=www-data ,systemd";
        let AddressList(addresses) = addresses(list).unwrap();
        let expected = [
            "127.0.0.1:0",
            "unix:/tmp/x,mode=0660,group=www-data",
            "systemd",
        ];
        assert_eq!(addresses, expected);
        for list in ["mode=0660", "127.0.0.1:0,", "127.0.0.1:0,mode=0660"] {
            assert!(super::addresses(list).is_err(), "{list}");
        }
    }
}
