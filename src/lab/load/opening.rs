//! The client's side of the opening handshake (RFC 6455 §4.1).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fastrand::Rng;

use super::target::Target;
use crate::handshake::accept_key::accept_key;

/// The request, made once for all connections of a thread, and the rules for checking the answer.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) request: Vec<u8>,
    accept: String,
    subprotocols: Vec<String>,
    offers_deflate: bool,
}

/// Longest accepted head of an answer, in bytes.
pub(super) const MOST_HEAD: usize = 64 << 10;

impl Opening {
    /// Makes the request. All connections of this thread share one random key, because making a key
    /// takes longer than sending a message.
    pub(super) fn new(
        target: &Target,
        headers: &[(String, String)],
        subprotocols: &[String],
        offers_deflate: bool,
        random: &mut Rng,
    ) -> Opening {
        let key = BASE64_STANDARD.encode(random.u128(..).to_ne_bytes());
        let mut request = format!("GET {} HTTP/1.1\r\n", target.path);
        let is_given = |field: &str| {
            headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(field))
        };
        if !is_given("Host") {
            request += &format!("Host: {}\r\n", target.authority);
        }
        request += &format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if !subprotocols.is_empty() {
            request += &format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(", "));
        }
        if offers_deflate && !is_given("Sec-WebSocket-Extensions") {
            request += "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        Opening {
            request: request.into_bytes(),
            accept: accept_key(key.as_bytes()),
            subprotocols: subprotocols.to_vec(),
            offers_deflate,
        }
    }

    /// Checks that an answer opens the WebSocket. `head` includes the final empty line.
    ///
    /// # Errors
    /// A short text: the status, or the wrong field.
    pub(super) fn check(&self, head: &[u8]) -> Result<(), String> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let code = status.strip_prefix("HTTP/1.1 ").unwrap_or_default();
        match code.get(..3) {
            Some("101") => {}
            Some(code) if code.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(format!("HTTP {code}"));
            }
            _ => return Err(String::from("not HTTP/1.1")),
        }
        let fields: Vec<(&str, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim_matches([' ', '\t'])))
            .collect();
        let all = |wanted: &str| -> Vec<&str> {
            let named = |name: &str| name.eq_ignore_ascii_case(wanted);
            let mine = fields.iter().filter(|(name, _)| named(name));
            mine.map(|(_, value)| *value).collect()
        };
        let has = |wanted: &str, token: &str| {
            let mut tokens = fields
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .flat_map(|(_, value)| value.split(','));
            tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
        };
        if !has("Upgrade", "websocket") {
            return Err(String::from("wrong Upgrade"));
        }
        if !has("Connection", "upgrade") {
            return Err(String::from("wrong Connection"));
        }
        if all("Sec-WebSocket-Accept") != [self.accept.as_str()] {
            return Err(String::from("wrong Sec-WebSocket-Accept"));
        }
        match all("Sec-WebSocket-Protocol")[..] {
            [] => {}
            [one] if self.subprotocols.iter().any(|offered| offered == one) => {}
            _ => return Err(String::from("wrong Sec-WebSocket-Protocol")),
        }
        match all("Sec-WebSocket-Extensions")[..] {
            [] if self.offers_deflate => Err(String::from("no permessage-deflate")),
            [] => Ok(()),
            [one] if self.offers_deflate && one.starts_with("permessage-deflate") => Ok(()),
            _ => Err(String::from("wrong Sec-WebSocket-Extensions")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let target = Target::parse("ws://127.0.0.1:1/a").unwrap();
        let mut opening = Opening::new(
            &target,
            &[],
            &[String::from("chat")],
            false,
            &mut Rng::with_seed(1),
        );
        opening.accept = String::from("x");
        let with = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
        let good =
            "upgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: x";
        for (head, verdict) in [
            (with("101 Switching Protocols", good), Ok(())),
            (
                with("101", &format!("{good}\r\nSec-WebSocket-Protocol: chat")),
                Ok(()),
            ),
            (
                with("101", &format!("{good}\r\nSec-WebSocket-Protocol: other")),
                Err("wrong Sec-WebSocket-Protocol"),
            ),
            (
                with("101", &format!("{good}\r\nSec-WebSocket-Accept: x")),
                Err("wrong Sec-WebSocket-Accept"),
            ),
            (
                with("101", &format!("{good}\r\nSec-WebSocket-Extensions: y")),
                Err("wrong Sec-WebSocket-Extensions"),
            ),
            (with("101", "upgrade: websocket"), Err("wrong Connection")),
            (with("503 Busy", good), Err("HTTP 503")),
            (String::from("SSH-2.0-x"), Err("not HTTP/1.1")),
        ] {
            assert_eq!(
                opening.check(head.as_bytes()),
                verdict.map_err(String::from),
                "{head}"
            );
        }
    }
}
