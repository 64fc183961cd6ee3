//! Durations as text: one grammar for flags, environment variables and query parameters.

use std::time::Duration;

/// Parses `10s`, `500ms`, `0.1s`, `2m` or `1h`; `None` for any other text. A number without a unit
/// is read in the unit `bare` (`ms`, `s`, `m` or `h`); an empty `bare` makes the unit required.
pub(crate) fn parse(text: &str, bare: &str) -> Option<Duration> {
    let is_number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let digits = text.bytes().take_while(|byte| is_number(*byte)).count();
    let (number, unit) = text.split_at(digits);
    let nanoseconds: u64 = match if unit.is_empty() { bare } else { unit } {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let parts: u128 = fraction.parse().ok()?;
    let part = parts * u128::from(nanoseconds) / 10_u128.pow(fraction.len() as u32);
    whole
        .checked_mul(nanoseconds)
        .and_then(|whole| whole.checked_add(u64::try_from(part).ok()?))
        .map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_fractions() {
        for (text, microseconds) in [
            ("0", 0),
            ("7", 7_000),
            ("7ms", 7_000),
            ("0.5ms", 500),
            ("1s", 1_000_000),
            ("0.1s", 100_000),
            ("1.5m", 90_000_000),
            ("0.25h", 900_000_000),
        ] {
            let expected = Some(Duration::from_micros(microseconds));
            assert_eq!(parse(text, "ms"), expected, "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5s",
            "1.2.3s",
            "-1s",
            "+1s",
            "1 s",
            "1d",
            "s",
            "1S",
            "1e3s",
            "0.0000000001s",
            "99999999999h",
        ] {
            assert_eq!(parse(text, "ms"), None, "{text}");
        }
        assert_eq!(parse("7", ""), None);
    }
}
