//! JSON as Python's `json.dumps` writes it: `", "` and `": "` between, ASCII only, floats as
//! `repr` prints them.

use std::fmt::Write;

use serde_json::{Number, Value};

/// The text of a value; `None` for an integer beyond 64 bits, which Django Channels' layers
/// cannot carry.
pub(super) fn dumps(value: &Value) -> Option<String> {
    let mut text = String::new();
    write_value(&mut text, value)?;
    Some(text)
}

fn write_value(text: &mut String, value: &Value) -> Option<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number)?,
        Value::String(string) => write_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_value(text, item)?;
            }
            text.push(']');
        }
        Value::Object(entries) => {
            text.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_string(text, key);
                text.push_str(": ");
                write_value(text, item)?;
            }
            text.push('}');
        }
    }
    Some(())
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{C}' => text.push_str("\\f"),
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

fn write_number(text: &mut String, number: &Number) -> Option<()> {
    let digits = number.as_str();
    if !digits.contains(['.', 'e', 'E']) {
        let is_carried = digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok();
        text.push_str(if digits == "-0" { "0" } else { digits });
        return is_carried.then_some(());
    }
    write_float(text, digits.parse().ok()?);
    Some(())
}

/// The shortest digits that read back as the same number, in plain notation for exponents from
/// -4 to 15.
pub(crate) fn write_float(text: &mut String, float: f64) {
    if float.is_infinite() {
        return text.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = if (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        let fraction = if plain.contains('.') { "" } else { ".0" };
        write!(text, "{plain}{fraction}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(text, "{mantissa}e{sign}{:02}", exponent.abs())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left what `json.loads` is given, right what `json.dumps` made of it (CPython 3.11).
    #[test]
    fn values_are_written_as_cpython_writes_them() {
        for (json, expected) in [
            ("null", "null"),
            ("[]", "[]"),
            ("{}", "{}"),
            ("[1,[2,{\"a\":false}]]", "[1, [2, {\"a\": false}]]"),
            ("1.50", "1.5"),
            ("1.0", "1.0"),
            ("1e5", "100000.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("1.5e300", "1.5e+300"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("-0.0", "-0.0"),
            ("-0", "0"),
            ("1e400", "Infinity"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            (
                "\"/\\u007f\\b\\f\\n\\r\\t\\\\\\\"\"",
                "\"/\\u007f\\b\\f\\n\\r\\t\\\\\\\"\"",
            ),
            ("\"é😀\"", "\"\\u00e9\\ud83d\\ude00\""),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(dumps(&value).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn integers_beyond_64_bits_are_refused() {
        for json in ["18446744073709551616", "-9223372036854775809"] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(dumps(&value), None, "{json}");
        }
    }
}
