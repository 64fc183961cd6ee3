//! Values as Python prints them in an f-string. The tutorial prints messages in this way.

use std::fmt::{self, Write};

use super::python::{write_float, write_items};
use crate::socketio::{Args, Value};

/// The text of `f"{value}"` of the first argument: a string unchanged, any other value as `repr`
/// writes it.
pub(super) fn formatted(args: &Args) -> String {
    match args.values.first() {
        Some(Value::String(text)) => text.clone(),
        value => {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = write_value(&mut text, value.unwrap_or(&Value::Null), args);
            text
        }
    }
}

fn write_value(text: &mut String, value: &Value, args: &Args) -> fmt::Result {
    match value {
        Value::Null => text.write_str("None"),
        Value::Bool(true) => text.write_str("True"),
        Value::Bool(false) => text.write_str("False"),
        Value::Number(number) => write_number(text, number.as_str()),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => write_items(text, ['[', ']'], items, |text, item| {
            write_value(text, item, args)
        }),
        Value::Object(members) => match args.binary(value) {
            Some(bytes) => {
                text.push('b');
                let characters = bytes.iter().map(|byte| char::from(*byte));
                write_quoted(text, characters, |character| matches!(character, ' '..='~'))
            }
            None => write_items(text, ['{', '}'], members, |text, (name, value)| {
                write_string(text, name)?;
                text.write_str(": ")?;
                write_value(text, value, args)
            }),
        },
    }
}

fn write_number(text: &mut String, digits: &str) -> fmt::Result {
    match (digits.contains(['.', 'e', 'E']), digits.parse::<f64>()) {
        (true, Ok(float)) if float.is_finite() => write_float(text, float),
        (true, Ok(float)) => text.write_str(if float > 0.0 { "inf" } else { "-inf" }),
        _ => text.write_str(if digits == "-0" { "0" } else { digits }),
    }
}

fn write_string(text: &mut String, string: &str) -> fmt::Result {
    write_quoted(text, string.chars(), |character| {
        character == ' ' || !character.is_control() && !character.is_whitespace()
    })
}

/// Writes characters in single quotes, unless they contain single quotes and no double quotes.
/// Those that are not printed are escaped.
fn write_quoted(
    text: &mut String,
    characters: impl Iterator<Item = char> + Clone,
    is_printed: impl Fn(char) -> bool,
) -> fmt::Result {
    let has = |quote| characters.clone().any(|character| character == quote);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    text.push(quote);
    for character in characters {
        let code = u32::from(character);
        match character {
            '\n' => write!(text, "\\n"),
            '\r' => write!(text, "\\r"),
            '\t' => write!(text, "\\t"),
            '\\' => write!(text, "\\\\"),
            _ if character == quote => write!(text, "\\{quote}"),
            _ if is_printed(character) => text.write_char(character),
            '\0'..='\u{FF}' => write!(text, "\\x{code:02x}"),
            '\0'..='\u{FFFF}' => write!(text, "\\u{code:04x}"),
            _ => write!(text, "\\U{code:08x}"),
        }?;
    }
    text.write_char(quote)
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
