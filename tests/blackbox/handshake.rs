//! The opening handshake, RFC 6455 §4: tables of requests with the expected answers.
//!
//! Each request is sent in one write; in one write with FIN after it; and, unless it is long, one
//! byte per segment.

use std::fmt;
use std::io::{Read, Write};

use frameloop::handshake::HandshakeError;

use crate::client::{Client, close_frame, request};
use crate::server::TestServer;

/// Requests that get the same answer.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    expected: Expected,
    requests: Vec<Vec<u8>>,
    has_end: bool,
}

/// A row: its number and name, the expected answer, the requests.
pub(crate) fn row<R: Into<Vec<u8>>>(
    name: impl Into<String>,
    expected: Expected,
    requests: impl IntoIterator<Item = R>,
) -> Row {
    Row {
        name: name.into(),
        expected,
        requests: requests.into_iter().map(R::into).collect(),
        has_end: true,
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delivery {
    Whole,
    WithFin,
    InBytes,
}

impl Row {
    /// For input that is not a request head and never ends one. hyper parses the first segment and
    /// then waits for an empty line, so in several segments such input may instead run into the
    /// deadline.
    pub(crate) fn only_whole(mut self) -> Row {
        self.has_end = false;
        self
    }

    fn deliveries(&self, request: &[u8]) -> &'static [Delivery] {
        const LONGEST_IN_BYTES: usize = 1 << 10;
        match (self.has_end, request.len()) {
            (false, _) => &[Delivery::Whole],
            (true, ..=LONGEST_IN_BYTES) => &[Delivery::Whole, Delivery::WithFin, Delivery::InBytes],
            (true, _) => &[Delivery::Whole, Delivery::WithFin],
        }
    }
}

/// The expected answer, exact except for the date.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// 101, then frames.
    Accepted(Agreed),
    /// A refusal with this status and the text of this error, then FIN.
    Refused(u16, HandshakeError),
    /// hyper's own refusal, then FIN.
    Unread(u16),
    /// FIN.
    Nothing,
}

/// The headers of a 101 that vary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) accept: &'static str,
    pub(crate) subprotocol: Option<&'static str>,
}

/// The answer to the example key of RFC 6455 §1.3.
pub(crate) const AGREED: Agreed = Agreed {
    accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    subprotocol: None,
};

pub(crate) const ACCEPTED: Expected = Expected::Accepted(AGREED);

/// 101 with this subprotocol.
pub(crate) const fn speaks(subprotocol: &'static str) -> Expected {
    Expected::Accepted(Agreed {
        subprotocol: Some(subprotocol),
        ..AGREED
    })
}

/// Sends each request on its own connection. Panics with a list of all unexpected answers.
#[track_caller]
pub(crate) fn check(server: &TestServer, rows: impl IntoIterator<Item = Row>) {
    let mut faults = String::new();
    for row in rows {
        assert!(!row.requests.is_empty(), "{} has no request", row.name);
        for request in &row.requests {
            for delivery in row.deliveries(request) {
                let expected = match delivery {
                    Delivery::WithFin => row.expected.answer(request).without_close(),
                    _ => row.expected.answer(request),
                };
                let answer = exchange(server, request, *delivery);
                if answer.as_ref() != Ok(&expected) {
                    faults.push_str(&format!(
                        "\n{}, {delivery:?}\n  sent     {}\n  expected {expected:?}\n  \
                         received {answer:?}\n",
                        row.name,
                        abridged(request),
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

/// Everything that the server sends, up to FIN.
#[derive(Eq, PartialEq)]
pub(crate) enum Answer {
    Silence,
    Response {
        /// The status line without its reason phrase.
        status: String,
        /// Lower-case names with their values, in alphabetical order; a date reads `DATE`.
        fields: Vec<(String, String)>,
        rest: Vec<u8>,
    },
}

fn exchange(server: &TestServer, request: &[u8], delivery: Delivery) -> Result<Answer, String> {
    let mut client = Client::connect(server);
    let segment = match delivery {
        Delivery::Whole | Delivery::WithFin => request.len(),
        Delivery::InBytes => 1,
    };
    for segment in request.chunks(segment) {
        let sent = client.stream.write_all(segment);
        sent.map_err(|error| format!("{error} while sending"))?;
    }
    if delivery == Delivery::WithFin {
        client.finish();
        return receive_to_fin(&mut client, |_| ());
    }
    receive_answer(&mut client)
}

/// Reads up to FIN. Closes an accepted WebSocket first, so that the last bytes are its Close.
pub(crate) fn receive_answer(client: &mut Client) -> Result<Answer, String> {
    receive_to_fin(client, |client| client.send(&close_frame(1000, b"")))
}

fn receive_to_fin(client: &mut Client, when_open: impl Fn(&mut Client)) -> Result<Answer, String> {
    let (mut bytes, mut buffer, mut is_open) = (Vec::new(), [0; 4 << 10], false);
    loop {
        match client.stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend(&buffer[..length]),
            Err(error) => return Err(format!("{error} after {}", bytes.escape_ascii())),
        }
        if !is_open && bytes.starts_with(b"HTTP/1.1 101 ") && end_of_head(&bytes).is_some() {
            is_open = true;
            when_open(client);
        }
    }
    Answer::parse(&bytes).ok_or_else(|| bytes.escape_ascii().to_string())
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Silence => formatter.write_str("silence"),
            Answer::Response {
                status,
                fields,
                rest,
            } => write!(formatter, "{status} {fields:?} {}", rest.escape_ascii()),
        }
    }
}

impl Answer {
    /// The answer to a client that sends FIN instead of a Close: without a Close.
    fn without_close(mut self) -> Answer {
        if let Answer::Response { status, rest, .. } = &mut self
            && status.ends_with(" 101")
        {
            rest.clear();
        }
        self
    }

    fn parse(bytes: &[u8]) -> Option<Answer> {
        if bytes.is_empty() {
            return Some(Answer::Silence);
        }
        let (head, rest) = bytes.split_at(end_of_head(bytes)?);
        let mut lines = std::str::from_utf8(head).ok()?.trim_end().split("\r\n");
        let mut status = String::from(lines.next()?);
        status.truncate("HTTP/1.1 101".len());
        let mut fields = lines
            .map(|line| line.split_once(": "))
            .map(|field| field.map(|(name, value)| Self::field(name, value)))
            .collect::<Option<Vec<_>>>()?;
        fields.sort();
        Some(Answer::Response {
            status,
            fields,
            rest: rest.to_vec(),
        })
    }

    fn field(name: &str, value: &str) -> (String, String) {
        let name = name.to_ascii_lowercase();
        let value = match name.as_str() {
            "connection" => value.to_ascii_lowercase(),
            // As in Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110 §5.6.7).
            "date" if value.len() == 29 && value.ends_with(" GMT") => String::from("DATE"),
            _ => value.to_owned(),
        };
        (name, value)
    }
}

impl Expected {
    /// The answer to this request, which matters only for HEAD and HTTP/1.0.
    pub(crate) fn answer(self, request: &[u8]) -> Answer {
        let line = request.split(|byte| *byte == b'\r').next().unwrap();
        // hyper answers in the version of the request, or in 1.1 if it cannot read it.
        let version = match self {
            Expected::Refused(..) if line.ends_with(b" HTTP/1.0") => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let (status, mut fields, rest) = match self {
            Expected::Nothing => return Answer::Silence,
            Expected::Accepted(agreed) => {
                let mut fields = vec![
                    ("upgrade", "websocket".to_owned()),
                    ("connection", "upgrade".to_owned()),
                    ("sec-websocket-accept", agreed.accept.to_owned()),
                ];
                let subprotocol = agreed.subprotocol.map(str::to_owned);
                fields.extend(subprotocol.map(|name| ("sec-websocket-protocol", name)));
                (101, fields, b"\x88\x02\x03\xE8".to_vec())
            }
            Expected::Unread(status) => (status, vec![closed(), length(0)], vec![]),
            Expected::Refused(status, error) => {
                let advice = error.advice().as_bytes();
                let mut fields = vec![
                    ("content-type", "text/plain; charset=utf-8".to_owned()),
                    ("x-content-type-options", "nosniff".to_owned()),
                    length(advice.len()),
                ];
                fields.extend(match status {
                    401 => vec![closed(), ("www-authenticate", "Bearer".to_owned())],
                    // A page serves HEAD as well.
                    405 if line.windows(10).any(|part| part == b" /healthz ") => {
                        vec![closed(), ("allow", "GET, HEAD".to_owned())]
                    }
                    405 => vec![closed(), ("allow", "GET".to_owned())],
                    426 => vec![
                        ("connection", "upgrade, close".to_owned()),
                        ("upgrade", "websocket".to_owned()),
                        ("sec-websocket-version", "13".to_owned()),
                    ],
                    503 => vec![closed(), ("retry-after", "1".to_owned())],
                    _ => vec![closed()],
                });
                // The response to HEAD has no body (RFC 9110 §9.3.2).
                let is_head = request.starts_with(b"HEAD ");
                (status, fields, if is_head { &[] } else { advice }.to_vec())
            }
        };
        // The 101 has no date, so its bytes are constant.
        if status != 101 {
            fields.push(("date", "DATE".to_owned()));
        }
        fields.sort();
        Answer::Response {
            status: format!("{version} {status}"),
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            rest,
        }
    }
}

fn closed() -> (&'static str, String) {
    ("connection", "close".to_owned())
}

fn length(length: usize) -> (&'static str, String) {
    ("content-length", length.to_string())
}

fn abridged(request: &[u8]) -> String {
    const LONGEST_SHOWN: usize = 400;
    let shown = &request[..request.len().min(LONGEST_SHOWN)];
    format!("{} ({} bytes)", shown.escape_ascii(), request.len())
}

/// A request to modify. Its headers keep their order.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    method: String,
    target: String,
    version: String,
    fields: Vec<Vec<u8>>,
    after: Vec<u8>,
}

/// The request of RFC 6455 §1.3, to `/ws`.
pub(crate) fn valid() -> Head {
    let request = request("/ws");
    let lines = request.trim_end().split("\r\n").skip(1);
    Head {
        method: "GET".into(),
        target: "/ws".into(),
        version: "HTTP/1.1".into(),
        fields: lines.map(|line| line.as_bytes().to_vec()).collect(),
        after: vec![],
    }
}

impl Head {
    pub(crate) fn method(mut self, method: &str) -> Head {
        self.method = method.into();
        self
    }

    pub(crate) fn target(mut self, target: impl Into<String>) -> Head {
        self.target = target.into();
        self
    }

    pub(crate) fn version(mut self, version: &str) -> Head {
        self.version = version.into();
        self
    }

    /// Adds a header line.
    pub(crate) fn and(mut self, line: impl AsRef<[u8]>) -> Head {
        self.fields.push(line.as_ref().to_vec());
        self
    }

    /// Removes all headers of this name.
    pub(crate) fn without(mut self, name: &str) -> Head {
        self.fields
            .retain(|line| !name_of(line).eq_ignore_ascii_case(name.as_bytes()));
        self
    }

    /// Replaces all headers of this name with this line.
    pub(crate) fn with(self, line: impl AsRef<[u8]>) -> Head {
        let name = String::from_utf8(name_of(line.as_ref()).to_vec()).unwrap();
        self.without(&name).and(line)
    }

    /// Appends these bytes after the head.
    pub(crate) fn before(mut self, after: &[u8]) -> Head {
        self.after.extend(after);
        self
    }

    /// Adds a header that brings the head to this many bytes.
    pub(crate) fn padded_to(self, bytes: usize) -> Head {
        let padding = "X-Padding: ";
        let length = Vec::from(self.clone()).len() + padding.len() + "\r\n".len();
        self.and(format!("{padding}{}", "a".repeat(bytes - length)))
    }
}

fn name_of(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap()
}

impl From<Head> for Vec<u8> {
    fn from(head: Head) -> Vec<u8> {
        let line = [head.method, head.target, head.version].join(" ");
        let mut bytes = line.into_bytes();
        for line in &head.fields {
            bytes.extend(b"\r\n");
            bytes.extend(line);
        }
        bytes.extend(b"\r\n\r\n");
        bytes.extend(head.after);
        bytes
    }
}

/// `prefix000000, prefix000001, ...`
pub(crate) fn numbered(prefix: &str, count: usize) -> String {
    let names: Vec<String> = (0..count)
        .map(|number| format!("{prefix}{number:06}"))
        .collect();
    names.join(", ")
}
