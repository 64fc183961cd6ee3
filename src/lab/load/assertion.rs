//! Conditions on the figures of a run: `p99<5ms`, `rate>=100000`.

use std::fmt;
use std::str::FromStr;

use super::histogram::PERCENTILES;
use super::report::Report;

/// A figure and its bound.
#[derive(Clone, Debug)]
pub struct Assertion {
    text: String,
    /// A name that [`Report::figure`] knows.
    figure: String,
    relation: Relation,
    /// In nanoseconds if the figure is a time.
    bound: f64,
}

/// The figures that are no times.
const NUMBERS: [&str; 5] = ["rate", "errors", "lost", "cpu", "memory"];

/// Compares a value with its bound.
type Relation = fn(&f64, &f64) -> bool;

const RELATIONS: [(&str, Relation); 5] = [
    ("<=", f64::le),
    (">=", f64::ge),
    ("==", f64::eq),
    ("<", f64::lt),
    (">", f64::gt),
];

impl Assertion {
    /// Whether the figure is one of the server's process.
    pub fn needs_server(&self) -> bool {
        matches!(self.figure.as_str(), "cpu" | "memory")
    }

    /// Checks whether the assertion holds for a run.
    ///
    /// # Errors
    /// A sentence that says which assertion fails and why.
    pub fn judge(&self, report: &Report<'_>) -> Result<(), String> {
        let Some(value) = report.figure(&self.figure) else {
            return Err(format!("{self}: the run has no such figure"));
        };
        let shown = match is_time(&self.figure) {
            true => super::report::time(value),
            false => super::report::number(value),
        };
        match (self.relation)(&value, &self.bound) {
            true => Ok(()),
            false => Err(format!("{self}: it is {shown}")),
        }
    }
}

fn is_time(figure: &str) -> bool {
    let mut percentiles = PERCENTILES.iter();
    matches!(figure, "max" | "mean") || percentiles.any(|(name, _)| *name == figure)
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Assertion, String> {
        let wrong = || {
            let times = PERCENTILES.map(|(name, _)| name).join(", ");
            format!(
                "'{text}' is not an assertion; write 'p99<5ms' (also {times}, mean, max), 'rate>=100000', 'errors==0' or 'lost==0'; with --pid also 'cpu<7.5' (us) or 'memory<9000' (bytes)"
            )
        };
        let (at, (sign, relation)) = RELATIONS
            .iter()
            .filter_map(|it| Some((text.find(it.0)?, it)))
            .min_by_key(|(at, (sign, _))| (*at, usize::MAX - sign.len()))
            .ok_or_else(wrong)?;
        let (figure, bound) = (text[..at].trim(), text[at + sign.len()..].trim());
        let bound = match is_time(figure) {
            true => nanoseconds(bound),
            false => bound.parse().ok().filter(|_| NUMBERS.contains(&figure)),
        };
        Ok(Assertion {
            text: text.to_owned(),
            figure: figure.to_owned(),
            relation: *relation,
            bound: bound
                .filter(|bound: &f64| bound.is_finite())
                .ok_or_else(wrong)?,
        })
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Parses a time with a unit, for example `5ms`, `800us`, `1.5s` or `300ns`.
fn nanoseconds(text: &str) -> Option<f64> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let (number, unit) = units
        .iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    let number: f64 = number.trim().parse().ok()?;
    Some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assertions_are_read() {
        for (text, figure, sign, bound) in [
            ("p99<5ms", "p99", "<", 5e6),
            ("p99.99 <= 1.5s", "p99.99", "<=", 1.5e9),
            ("max>3us", "max", ">", 3e3),
            ("rate>=100000", "rate", ">=", 1e5),
            ("errors==0", "errors", "==", 0.0),
            ("cpu<7.5", "cpu", "<", 7.5),
        ] {
            let read: Assertion = text.parse().unwrap();
            assert_eq!((&*read.figure, read.bound), (figure, bound), "{text}");
            for value in [bound - 1.0, bound, bound + 1.0] {
                let holds = match sign {
                    "<" => value < bound,
                    "<=" => value <= bound,
                    ">" => value > bound,
                    ">=" => value >= bound,
                    _ => value == bound,
                };
                assert_eq!((read.relation)(&value, &bound), holds, "{text}: {value}");
            }
        }
        for text in [
            "",
            "p99",
            "p99<5",
            "p98<5ms",
            "rate>=fast",
            "rate=>5",
            "<5ms",
            "p99<nans",
        ] {
            assert!(text.parse::<Assertion>().is_err(), "{text}");
        }
    }
}
