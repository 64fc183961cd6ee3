//! Values as Python prints them in an f-string. The tutorial prints messages in this way.

use std::fmt::Write;

use super::python::write_float;
use crate::socketio::{Args, Value};

/// The text of `f"{value}"` of the first argument: a string unchanged, any other value as `repr`
/// writes it.
pub(super) fn formatted(args: &Args) -> String {
    match args.values.first() {
        Some(Value::String(text)) => text.clone(),
        value => {
            let mut text = String::new();
            write_value(&mut text, value.unwrap_or(&Value::Null), args);
            text
        }
    }
}

fn write_value(text: &mut String, value: &Value, args: &Args) {
    match value {
        Value::Null => text.push_str("None"),
        Value::Bool(true) => text.push_str("True"),
        Value::Bool(false) => text.push_str("False"),
        Value::Number(number) => write_number(text, number.as_str()),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => write_items(text, "[]", items, |text, item| {
            write_value(text, item, args);
        }),
        Value::Object(members) => match args.binary(value) {
            Some(bytes) => write_bytes(text, bytes),
            None => write_items(text, "{}", members, |text, (name, value)| {
                write_string(text, name);
                text.push_str(": ");
                write_value(text, value, args);
            }),
        },
    }
}

fn write_items<T>(
    text: &mut String,
    braces: &str,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut String, T),
) {
    text.push_str(&braces[..1]);
    for (index, item) in items.into_iter().enumerate() {
        text.push_str(if index > 0 { ", " } else { "" });
        write(text, item);
    }
    text.push_str(&braces[1..]);
}

fn write_number(text: &mut String, digits: &str) {
    match (digits.contains(['.', 'e', 'E']), digits.parse::<f64>()) {
        (true, Ok(float)) if float.is_finite() => write_float(text, float),
        (true, Ok(float)) => text.push_str(if float > 0.0 { "inf" } else { "-inf" }),
        _ => text.push_str(if digits == "-0" { "0" } else { digits }),
    }
}

/// Single quotes, unless the text contains single quotes and no double quotes.
fn quote_for(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

fn write_string(text: &mut String, string: &str) {
    let quote = quote_for(string.contains('\''), string.contains('"'));
    text.push(quote);
    for character in string.chars() {
        let code = u32::from(character);
        // Writing to a string cannot fail.
        let _ = match character {
            '\n' => write!(text, "\\n"),
            '\r' => write!(text, "\\r"),
            '\t' => write!(text, "\\t"),
            '\\' => write!(text, "\\\\"),
            _ if character == quote => write!(text, "\\{quote}"),
            ' ' => write!(text, " "),
            _ if !character.is_control() && !character.is_whitespace() => {
                write!(text, "{character}")
            }
            '\0'..='\u{FF}' => write!(text, "\\x{code:02x}"),
            '\0'..='\u{FFFF}' => write!(text, "\\u{code:04x}"),
            _ => write!(text, "\\U{code:08x}"),
        };
    }
    text.push(quote);
}

fn write_bytes(text: &mut String, bytes: &[u8]) {
    let quote = quote_for(bytes.contains(&b'\''), bytes.contains(&b'"'));
    text.push('b');
    text.push(quote);
    for &byte in bytes {
        // Writing to a string cannot fail.
        let _ = match byte {
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            b'\\' => write!(text, "\\\\"),
            _ if char::from(byte) == quote => write!(text, "\\{quote}"),
            b' '..=b'~' => write!(text, "{}", char::from(byte)),
            _ => write!(text, "\\x{byte:02x}"),
        };
    }
    text.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left: a value. Right: its text in an f-string of CPython 3.11.
    #[test]
    fn values_are_written_as_cpython_writes_them() {
        for (json, expected) in [
            (r#""it's""#, "it's"),
            (
                r#"{"x":1,"y":[true,null,"é",1.5]}"#,
                "{'x': 1, 'y': [True, None, 'é', 1.5]}",
            ),
            ("true", "True"),
            ("[]", "[]"),
            ("{}", "{}"),
            ("1.50", "1.5"),
            ("1e400", "inf"),
            ("-1e400", "-inf"),
            ("-0", "0"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            (r#"["it's"]"#, r#"["it's"]"#),
            (r#"["it's \"so\""]"#, r#"['it\'s "so"']"#),
            (
                r#"["\n\t\\\u0000\u0085\u2028😀"]"#,
                r"['\n\t\\\x00\x85\u2028😀']",
            ),
        ] {
            let value = serde_json::from_str::<serde_json::Value>(json).unwrap();
            assert_eq!(formatted(&value.into()), expected, "{json}");
        }
        let bytes = bytes::Bytes::from_static(b"\0'\x01\xffa\n");
        assert_eq!(formatted(&bytes.into()), r#"b"\x00'\x01\xffa\n""#);
    }
}
