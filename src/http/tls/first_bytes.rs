//! The first bytes of a client on a TLS port, for the log line of a failed handshake.

use std::cell::RefCell;
use std::fmt::{self, Display};

/// The bytes received first from a client: at most 2 KiB, which is enough for most ClientHellos.
#[derive(Debug, Default)]
pub(in crate::http) struct FirstBytes(RefCell<Vec<u8>>);

impl FirstBytes {
    const MAX_SIZE: usize = 2 << 10;

    pub(super) fn add(&self, bytes: &[u8]) {
        let mut first = self.0.borrow_mut();
        let room = Self::MAX_SIZE - first.len();
        first.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Whether the client has sent nothing, like a probe that only checks whether the port is open.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl Display for FirstBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let bytes = self.0.borrow();
        if let Some(line) = request_line(&bytes) {
            return write!(formatter, "the client speaks plain HTTP: '{line}'");
        }
        if bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
            return formatter.write_str(
                "the client sent a header of the PROXY protocol, and is not in --proxy-protocol-from",
            );
        }
        if let Some(hello) = hello(&bytes) {
            return write!(formatter, "the client offered {hello}");
        }
        formatter.write_str("the client sent")?;
        for byte in bytes.iter().take(SHOWN) {
            write!(formatter, " {byte:02X}")?;
        }
        match bytes.len() {
            0 => formatter.write_str(" nothing"),
            length if length > SHOWN => write!(formatter, " ... ({length} bytes)"),
            _ => Ok(()),
        }
    }
}

/// The first line of an HTTP request, escaped and cut.
fn request_line(bytes: &[u8]) -> Option<String> {
    const SHOWN: usize = 80;
    let line = bytes
        .split(|byte| *byte == b'\r' || *byte == b'\n')
        .next()?;
    let method = line.split(|byte| *byte == b' ').next()?;
    let is_method = (3..=10).contains(&method.len()) && method.iter().all(u8::is_ascii_uppercase);
    let is_request = is_method && line.len() > method.len() && method != b"PROXY";
    is_request.then(|| line[..line.len().min(SHOWN)].escape_ascii().to_string())
}

/// Returns the fields of a ClientHello (RFC 8446 §4.1.2) that explain a failed negotiation. `None`
/// if the first record is not a ClientHello, or ends before its extensions.
fn hello(mut bytes: &[u8]) -> Option<String> {
    const SERVER_NAME: u16 = 0;
    const SUPPORTED_VERSIONS: u16 = 43;
    const SHOWN: usize = 8;
    let [0x16, 0x03, _, _, _, 0x01, ..] = bytes else {
        return None;
    };
    // Record header (5 bytes), message header (4), version (2), random bytes (32).
    bytes.split_off(..5 + 4)?;
    let mut versions = vec![number(&mut bytes)?];
    bytes.split_off(..32)?;
    vector(&mut bytes, 1)?;
    let suites = numbers(vector(&mut bytes, 2)?);
    vector(&mut bytes, 1)?;
    bytes.split_off(..bytes.len().min(2))?;
    let mut server_name = None;
    while let Some(kind) = number(&mut bytes)
        && let Some(mut value) = vector(&mut bytes, 2)
    {
        match kind {
            // A list of names, each after its type.
            SERVER_NAME => {
                server_name = value.split_off(..3).and_then(|_| vector(&mut value, 2));
            }
            SUPPORTED_VERSIONS => versions = numbers(vector(&mut value, 1).unwrap_or_default()),
            _ => {}
        }
    }
    let versions: Vec<_> = versions.iter().take(SHOWN).map(version).collect();
    let mut told = format!("{}; cipher suites", versions.join(", "));
    for suite in suites.iter().take(SHOWN) {
        told += &format!(" {suite:04X}");
    }
    if suites.len() > SHOWN {
        told += &format!(" ... ({})", suites.len());
    }
    if let Some(name) = server_name {
        told += &format!("; server name '{:.100}'", name.escape_ascii().to_string());
    }
    Some(told)
}

fn version(number: &u16) -> String {
    match number {
        0x0300 => String::from("SSL 3.0"),
        0x0301..=0x0304 => format!("TLS 1.{}", number - 0x0301),
        _ => format!("version {number:04X}"),
    }
}

fn number(bytes: &mut &[u8]) -> Option<u16> {
    let number = bytes.split_off(..2)?;
    Some(u16::from_be_bytes([number[0], number[1]]))
}

/// Reads bytes after their length, which has `length_size` bytes.
fn vector<'b>(bytes: &mut &'b [u8], length_size: usize) -> Option<&'b [u8]> {
    let length = bytes.split_off(..length_size)?;
    let length = length
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    bytes.split_off(..length)
}

/// Reads two-byte numbers, without the meaningless GREASE values (RFC 8701).
fn numbers(bytes: &[u8]) -> Vec<u16> {
    let numbers = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    numbers
        .filter(|number| number & 0x0F0F != 0x0A0A || number >> 8 != number & 0xFF)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> String {
        let first = FirstBytes::default();
        first.add(bytes);
        first.to_string()
    }

    /// At every cut the parser does not panic, and the complete fields are reported.
    #[test]
    fn a_hello_is_told_by_its_versions_suites_and_name() {
        let extensions = b"\0\0\0\x0E\0\x0C\0\0\x09localhost\0\x2B\0\x05\x04\x03\x02\x0A\x0A";
        let mut hello = b"\x16\x03\x01\0\0\x01\0\0\0\x03\x03".to_vec();
        hello.extend([7; 32]);
        hello.extend(b"\0\0\x06\x0A\x0A\0\x35\0\x2F\x01\0\0\x1B");
        hello.extend(extensions);
        assert_eq!(
            told(&hello),
            "the client offered TLS 1.1; cipher suites 0035 002F; server name 'localhost'"
        );
        for length in 0..hello.len() {
            let told = told(&hello[..length]);
            assert!(told.starts_with("the client "), "{length}: {told}");
        }
        assert_eq!(
            told(&hello[..hello.len() - 9]),
            "the client offered TLS 1.2; cipher suites 0035 002F; server name 'localhost'"
        );
    }

    #[test]
    fn what_is_no_hello_is_told_as_what_it_is() {
        for (bytes, expected) in [
            (
                &b"GET /a\x1B HTTP/1.1\r\nHost: a\r\n"[..],
                "plain HTTP: 'GET /a\\x1b HTTP/1.1'",
            ),
            (b"PRI * HTTP/2.0\r\n", "plain HTTP: 'PRI * HTTP/2.0'"),
            (b"PROXY TCP4 1.2.3.4", "a header of the PROXY protocol"),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x20",
                "a header of the PROXY protocol",
            ),
            (b"\x80\x2E\x01", "the client sent 80 2E 01"),
            (b"", "the client sent nothing"),
            (&[7; 40], "07 07 ... (40 bytes)"),
            (b"HELLO", "the client sent 48 45 4C 4C 4F"),
        ] {
            let told = told(bytes);
            assert!(
                told.ends_with(expected) || told.contains(expected),
                "{told}"
            );
        }
    }
}
