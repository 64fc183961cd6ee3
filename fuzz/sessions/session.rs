//! A client's actions from its connection to its end, and their text form.
//!
//! One step per line: `connect` (another connection, which the next steps use), `send BYTES`,
//! `await` (some answer, for a short time), and as the last line the end of all its connections:
//! `finish` (FIN, then read up to the server's), `leave` (close) or `reset`. Bytes are ASCII with
//! `\r`, `\n`, `\\` and `\xNN`; `{sid}` stands for the most recent session id from the server.
//! Lines that begin with `#` are comments.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Session {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Connect,
    Send(Vec<u8>),
    Await,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Finish,
    Leave,
    Reset,
}

impl Session {
    /// Bytes that are sent.
    pub(crate) fn len(&self) -> usize {
        let bytes = self.steps.iter().map(|step| match step {
            Step::Send(bytes) => bytes.len(),
            Step::Connect | Step::Await => 0,
        });
        bytes.sum()
    }
}

impl fmt::Display for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Connect => writeln!(formatter, "connect")?,
                Step::Await => writeln!(formatter, "await")?,
                Step::Send(bytes) => writeln!(formatter, "send {}", escaped(bytes))?,
            }
        }
        formatter.write_str(match self.end {
            End::Finish => "finish",
            End::Leave => "leave",
            End::Reset => "reset",
        })
    }
}

/// The bytes as a line shows them.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

impl FromStr for Session {
    type Err = String;

    fn from_str(text: &str) -> Result<Session, String> {
        let mut steps = Vec::new();
        let mut end = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let step = match line.split_once(' ') {
                Some(("send", bytes)) => Step::Send(unescaped(bytes)?),
                None if line == "connect" => Step::Connect,
                None if line == "await" => Step::Await,
                _ => {
                    end = Some(match line {
                        "finish" => End::Finish,
                        "leave" => End::Leave,
                        "reset" => End::Reset,
                        _ => return Err(format!("no step: {line}")),
                    });
                    break;
                }
            };
            steps.push(step);
        }
        let end = end.ok_or("its last line must be finish, leave or reset")?;
        Ok(Session { steps, end })
    }
}

fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, length) = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'\\', ..]) => (b'\\', 1),
            (b'\\', [b'x', digits @ ..]) => {
                let digits = digits
                    .get(..2)
                    .and_then(|digits| str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.ok_or("two digits must follow \\x")?, 3)
            }
            (b'\\', _) => return Err(String::from("\\ is followed by r, n, \\ or xNN")),
            (byte, _) => (*byte, 0),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_session_is_read_back() {
        let session = Session {
            steps: vec![
                Step::Connect,
                Step::Send((0..=255).collect()),
                Step::Await,
                Step::Send(Vec::new()),
            ],
            end: End::Reset,
        };
        assert_eq!(session.to_string().parse(), Ok(session));
    }
}
