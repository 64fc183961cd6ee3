//! The arguments of an event: JSON values, and the binary data that they name.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use super::errors::{EngineResult, EngineViolation};
use crate::engine::for_socketio::charge;

/// All arguments of an event, or of its acknowledgement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    /// JSON values. An object `{"_placeholder":true,"num":N}` stands for attachment N.
    pub values: Vec<Value>,
    /// Binary data. An attachment that the values do not name is not sent.
    pub attachments: Vec<Bytes>,
}

/// Maximum number of values in all arguments of one packet.
const MAX_VALUES: usize = 10_000;

/// The [charge] for each value: mostly for its memory.
const VALUE: usize = 256;

/// Maximum nesting depth of arguments.
const MAX_DEPTH: usize = 64;

impl Args {
    /// Returns arguments with other values and the same attachments.
    #[must_use]
    pub fn with(&self, values: impl Into<Vec<Value>>) -> Args {
        let attachments = self.attachments.clone();
        Args {
            values: values.into(),
            attachments,
        }
    }

    /// Returns the attachment for a placeholder; `None` if the value is not a placeholder or the
    /// attachment does not exist.
    pub fn binary(&self, value: &Value) -> Option<&Bytes> {
        is_placeholder(value).then_some(())?;
        self.attachments.get(number(value.get("num")?)?)
    }

    /// Reads a JSON array that names each attachment exactly once.
    pub(super) fn parse(json: &str, attachments: Vec<Bytes>) -> EngineResult<Args> {
        charge(check_bounds(json)? * VALUE);
        // Counted before parsing: an object needs far more memory than its text.
        if json.matches(r#""_placeholder":true"#).count() > attachments.len() {
            return Err(EngineViolation("not each attachment once"));
        }
        let values = serde_json::from_str(json);
        let values = values.map_err(|_| EngineViolation("not an array of arguments"))?;
        Args::bind(values, attachments)
    }

    /// Returns arguments, if the values name each attachment exactly once.
    pub(super) fn bind(mut values: Vec<Value>, attachments: Vec<Bytes>) -> EngineResult<Args> {
        let mut named = Vec::new();
        each_placeholder(&mut values, &mut |num| named.push(number(num)));
        named.sort_unstable();
        if !named.into_iter().eq((0..attachments.len()).map(Some)) {
            return Err(EngineViolation("not each attachment once"));
        }
        Ok(Args {
            values,
            attachments,
        })
    }

    /// Returns the values and the attachments that they name, renumbered in the order of their
    /// placeholders.
    pub(super) fn numbered(&self) -> (Cow<'_, [Value]>, Vec<Bytes>) {
        let mut named = Vec::new();
        if self.attachments.is_empty() {
            return (Cow::Borrowed(&self.values), named);
        }
        let mut values = self.values.clone();
        each_placeholder(&mut values, &mut |num| {
            if let Some(bytes) = number(num).and_then(|index| self.attachments.get(index)) {
                *num = named.len().into();
                named.push(bytes.clone());
            }
        });
        (Cow::Owned(values), named)
    }
}

/// Refuses JSON with too many values or too deep nesting, before the parser allocates memory.
/// Returns the number of values.
fn check_bounds(json: &str) -> EngineResult<usize> {
    let (mut depth, mut values, mut deepest) = (0_usize, 0_usize, 0);
    let (mut in_string, mut is_escaped, mut last) = (false, false, b' ');
    for byte in json.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => {
                let is_empty = matches!(last, b'[' | b'{');
                (depth, values) = (depth.saturating_sub(1), values - usize::from(is_empty));
            }
            b',' => values += 1,
            _ => {}
        }
        deepest = depth.max(deepest);
        last = byte;
    }
    // The outer array of arguments does not count.
    match (deepest > 1 + MAX_DEPTH, values > MAX_VALUES) {
        (true, _) => Err(EngineViolation("nested too deeply")),
        (_, true) => Err(EngineViolation("too many values")),
        _ => Ok(values),
    }
}

fn is_placeholder(value: &Value) -> bool {
    value.get("_placeholder") == Some(&Value::Bool(true))
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64()?.try_into().ok()
}

/// Calls `visit` with the number of each placeholder.
fn each_placeholder<'v>(
    values: impl IntoIterator<Item = &'v mut Value>,
    visit: &mut impl FnMut(&mut Value),
) {
    for value in values {
        let is_placeholder = is_placeholder(value);
        match value {
            Value::Array(items) => each_placeholder(items, visit),
            Value::Object(members) if is_placeholder => {
                visit(members.entry("num").or_insert(Value::Null));
            }
            Value::Object(members) => each_placeholder(members.values_mut(), visit),
            _ => {}
        }
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Args {
    fn from(values: [T; N]) -> Args {
        Args::default().with(values.map(T::into))
    }
}

impl From<Bytes> for Args {
    fn from(bytes: Bytes) -> Args {
        Args {
            values: vec![serde_json::json!({"_placeholder": true, "num": 0})],
            attachments: vec![bytes],
        }
    }
}

/// Implements the conversion of a single value into arguments.
macro_rules! argument {
    ($($type:ty)+) => {$(
        impl From<$type> for Args {
            fn from(value: $type) -> Args {
                Args::from([Value::from(value)])
            }
        }
    )+};
}

argument!(&str String bool i64 u64 Value);

impl fmt::Display for Args {
    /// Writes the values as JSON, with placeholders for binary data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&json_of(&self.numbered().0))
    }
}

/// Returns values as a JSON array.
pub(super) fn json_of(values: &[Value]) -> String {
    serde_json::to_string(values).unwrap_or_default() // never fails for JSON values
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

    fn read(json: &str) -> EngineResult<Args> {
        Args::parse(json, vec![Bytes::from_static(b"\x01\x02")])
    }

    #[test]
    fn arguments_come_back_as_they_were() {
        for json in [
            format!(r#"["e",null,true,1.50,"x",[{{"b":1,"a":{PLACEHOLDER}}}]]"#),
            format!(r#"[{PLACEHOLDER},"\"\\\n\u0001é😀",{{}},[],-7,1e+400]"#),
        ] {
            let args = read(&json).unwrap();
            assert_eq!(args.to_string(), json);
        }
        assert_eq!(Args::parse("[]", Vec::new()), Ok(Args::default()));
    }

    #[test]
    fn what_is_not_an_array_of_arguments_is_refused() {
        for json in ["", "{}", "7", r#"["e""#, "[]1"] {
            assert_eq!(
                read(json),
                Err(EngineViolation("not an array of arguments")),
                "{json}"
            );
        }
    }

    /// Attack 57.
    #[test]
    fn each_attachment_is_named_exactly_once() {
        for json in [
            r#"["e"]"#.to_owned(),
            format!(r#"["e",{PLACEHOLDER},{PLACEHOLDER}]"#),
            r#"["e",{"_placeholder":true,"num":1}]"#.into(),
            r#"["e",{"_placeholder":true,"num":-1}]"#.into(),
            r#"["e",{"_placeholder":true,"num":"constructor"}]"#.into(),
            r#"["e",{"_placeholder":true}]"#.into(),
        ] {
            assert_eq!(
                read(&json),
                Err(EngineViolation("not each attachment once")),
                "{json}"
            );
        }
    }

    /// Attacks 47 and 61.
    #[test]
    fn arguments_are_bounded_in_depth_and_number() {
        let nested = |depth| format!(r#"["e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
        let parse = |json: &str| Args::parse(json, Vec::new());
        assert!(parse(&nested(64)).is_ok());
        assert_eq!(
            parse(&nested(65)),
            Err(EngineViolation("nested too deeply"))
        );
        for depth in [130, 300_000] {
            assert!(parse(&nested(depth)).is_err(), "{depth}");
        }
        let many = |number: usize| format!(r#"["e",[{}1]]"#, "1,".repeat(number - 1));
        assert!(parse(&many(9_998)).is_ok());
        assert_eq!(parse(&many(9_999)), Err(EngineViolation("too many values")));
    }
}
