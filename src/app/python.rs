//! JSON as Python reads and writes it: `json.loads`, and `json.dumps` with its separators `", "`
//! and `": "`, ASCII output, and floats as `repr` prints them.
//!
//! A parsed value is a MessagePack value, as Django Channels' layers carry it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write};

use jiter::JsonValue;
use rmpv::Value;

/// Parses a JSON text. `None` where `json.loads` raises an exception, and for integers beyond 64
/// bits, which the layers cannot carry.
pub(super) fn loads(text: &str) -> Option<Value> {
    const ALLOW_INF_NAN: bool = true;
    from_json(&JsonValue::parse(text.as_bytes(), ALLOW_INF_NAN).ok()?)
}

fn from_json(json: &JsonValue<'_>) -> Option<Value> {
    Some(match json {
        JsonValue::Null => Value::Nil,
        JsonValue::Bool(value) => Value::Boolean(*value),
        JsonValue::Int(value) => Value::from(*value),
        JsonValue::BigInt(value) => Value::from(u64::try_from(value).ok()?),
        JsonValue::Float(value) => Value::F64(*value),
        JsonValue::Str(value) => Value::from(&**value),
        JsonValue::Array(items) => {
            // `collect` into an option reserves four places for every array.
            let mut values = Vec::with_capacity(items.len());
            for item in items.iter() {
                values.push(from_json(item)?);
            }
            Value::Array(values)
        }
        JsonValue::Object(entries) => {
            let mut map: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
            let mut places = HashMap::<&str, usize>::new();
            for (key, value) in entries.iter() {
                let value = from_json(value)?;
                match places.entry(&**key) {
                    // The last value of a repeated key replaces the first, in the first's position.
                    Entry::Occupied(place) => map[*place.get()].1 = value,
                    Entry::Vacant(place) => {
                        place.insert(map.len());
                        map.push((Value::from(&**key), value));
                    }
                }
            }
            Value::Map(map)
        }
    })
}

/// Writes a value as JSON. `None` where `json.dumps` raises an exception, as for bytes.
pub(super) fn dumps(value: &Value) -> Option<String> {
    let mut text = String::new();
    write_value(&mut text, value).ok()?;
    Some(text)
}

fn write_value(text: &mut String, value: &Value) -> fmt::Result {
    match value {
        Value::Nil => text.write_str("null"),
        Value::Boolean(value) => write!(text, "{value}"),
        Value::Integer(integer) => write!(text, "{integer}"),
        Value::F32(float) => write_float(text, f64::from(*float)),
        Value::F64(float) => write_float(text, *float),
        Value::String(string) => write_string(text, string.as_str()),
        Value::Array(items) => write_items(text, ['[', ']'], items, write_value),
        Value::Map(entries) => write_items(text, ['{', '}'], entries, |text, (key, item)| {
            write_string(text, key.as_str())?;
            text.write_str(": ")?;
            write_value(text, item)
        }),
        Value::Binary(_) | Value::Ext(..) => Err(fmt::Error),
    }
}

/// Writes items between brackets, with commas.
pub(super) fn write_items<T>(
    text: &mut String,
    [begin, end]: [char; 2],
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut String, T) -> fmt::Result,
) -> fmt::Result {
    text.push(begin);
    for (index, item) in items.into_iter().enumerate() {
        text.push_str(if index > 0 { ", " } else { "" });
        write(text, item)?;
    }
    text.push(end);
    Ok(())
}

/// Writes a string in ASCII. `None` is a string that is not UTF-8, or a key of another type.
fn write_string(text: &mut String, string: Option<&str>) -> fmt::Result {
    let json = serde_json::Value::from(string.ok_or(fmt::Error)?).to_string();
    for character in json.chars() {
        match character {
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(text, "\\u{unit:04x}")?;
                }
            }
        }
    }
    Ok(())
}

/// Writes the shortest digits that parse to the same number, in plain notation for exponents from
/// -4 to 15.
pub(super) fn write_float(text: &mut String, float: f64) -> fmt::Result {
    if float.is_nan() {
        return text.write_str("NaN");
    }
    if float.is_infinite() {
        return text.write_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        // Unlike `{}`, `{:?}` writes `.0` after whole numbers; it is plain in this range.
        write!(text, "{float:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(text, "{mantissa}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left: the input of `json.loads`. Right: the output of `json.dumps` in CPython 3.11.
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
            ("[NaN,Infinity,-Infinity]", "[NaN, Infinity, -Infinity]"),
            ("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}"),
            ("-0.1e-7", "-1e-08"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            (
                "\"/\\u007f\\b\\f\\n\\r\\t\\\\\\\"\"",
                "\"/\\u007f\\b\\f\\n\\r\\t\\\\\\\"\"",
            ),
            ("\"é😀\"", "\"\\u00e9\\ud83d\\ude00\""),
        ] {
            let value = loads(json).unwrap();
            assert_eq!(dumps(&value).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn values_that_python_or_the_layers_refuse_are_refused() {
        for json in [
            "18446744073709551616",
            "-9223372036854775809",
            "",
            "01",
            "+1",
            "1.",
            "nan",
            "[1,]",
            "'a'",
            "\"\n\"",
            "\"\\ud800\"",
            "1 2",
        ] {
            assert_eq!(loads(json), None, "{json}");
        }
        for value in [
            Value::Binary(vec![1]),
            Value::Map(vec![(Value::Nil, Value::Nil)]),
        ] {
            assert_eq!(dumps(&value), None, "{value}");
        }
    }
}
