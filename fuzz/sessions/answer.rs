//! What a server may send, for any input.

use crate::frames::{self, Sent};

/// Checks the output of one connection, up to where it was cut. Returns what is wrong with it.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    // Pipelined requests get responses in sequence.
    while !rest.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(()),
            Err(error) => return Err(format!("no response: {error}")),
        };
        let status = response.code.unwrap_or_default();
        let field = |name: &str| {
            let field = response
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name));
            field.map(|field| String::from_utf8_lossy(field.value).into_owned())
        };
        match status {
            101 => {
                let compressed = field("Sec-WebSocket-Extensions").is_some();
                return check_frames(&rest[length..], compressed);
            }
            100 => rest = &rest[length..],
            200 | 204 | 304 | 400..=431 | 501 | 503 | 505 => {
                // A response to HEAD, or one of unknown length, cannot be recognised here.
                let body = field("Content-Length").and_then(|length| length.parse().ok());
                let Some(body) = body.and_then(|body: usize| rest.get(length..)?.get(body..))
                else {
                    return Ok(());
                };
                rest = body;
                if !rest.is_empty() && !rest.starts_with(b"HTTP/1.1 ") {
                    return Ok(());
                }
            }
            _ => return Err(format!("status {status}")),
        }
    }
    Ok(())
}

/// RFC 6455 §5, §7: frames of a server, none after a Close.
fn check_frames(bytes: &[u8], compressed: bool) -> Result<(), String> {
    let (frames, _) = frames::read_frames(bytes);
    let (mut in_message, mut closed) = (false, false);
    for frame in frames {
        let Sent { first, payload } = &frame;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        let wrong = |what: &str| Err(format!("{what}: {first:02x}, {} bytes", payload.len()));
        if closed {
            return wrong("a frame after the Close");
        }
        if first & 0x30 != 0 || (first & 0x40 != 0 && !(compressed && matches!(opcode, 1 | 2))) {
            return wrong("a reserved bit");
        }
        match opcode {
            0 if !in_message => return wrong("a continuation without a message"),
            1 | 2 if in_message => return wrong("a message inside another"),
            0..=2 => in_message = !last,
            8..=10 if !last || payload.len() > 125 => return wrong("a long control frame"),
            8 => {
                closed = true;
                let codeless = payload.is_empty();
                if !codeless && !frame.close_code().is_some_and(frames::may_travel) {
                    return wrong("an invalid Close code");
                }
                if payload
                    .get(2..)
                    .is_some_and(|reason| str::from_utf8(reason).is_err())
                {
                    return wrong("a reason that is not UTF-8");
                }
            }
            9 | 10 => {}
            _ => return wrong("an unknown opcode"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_answers_are_reported() {
        const SWITCHES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let cases: [(&[u8], bool); 10] = [
            (b"", true),
            (b"\x81\x02hi\x88\x02\x03\xe8", true),
            (b"\x01\x02hi\x80\x00", true),
            (b"\x81\x02h", true),
            (b"\x88\x00\x81\x00", false),
            (b"\xc1\x00", false),
            (b"\x80\x00", false),
            (b"\x01\x00\x81\x00", false),
            (b"\x88\x02\x03\xed", false),
            (b"\x83\x00", false),
        ];
        for (frames, valid) in cases {
            let answer = [SWITCHES, frames].concat();
            assert_eq!(check(&answer).is_ok(), valid, "{frames:02x?}");
        }
        assert!(check(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").is_err());
        assert!(check(b"nonsense").is_err());
    }
}
