//! Conditions on the figures of a run: `p99<5ms`, `rate>=100000`.

use std::fmt;
use std::str::FromStr;

use super::histogram::PERCENTILES;
use super::report::Report;

/// A figure and its bound.
#[derive(Clone, Debug)]
pub struct Assertion {
    text: String,
    figure: Figure,
    relation: Relation,
    /// In nanoseconds if the figure is a time.
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Quantile(f64),
    Max,
    Mean,
    Rate,
    Errors,
    Lost,
    /// Server CPU time per operation, in microseconds.
    Cpu,
    /// Server memory per connection, in bytes.
    Memory,
}

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
    /// Checks whether the assertion holds for a run.
    ///
    /// # Errors
    /// A sentence that says which assertion fails and why.
    pub fn judge(&self, report: &Report<'_>) -> Result<(), String> {
        let Some(value) = self.figure.of(report) else {
            return Err(format!("{self}: the run has no such figure"));
        };
        let shown = match self.figure {
            Figure::Quantile(_) | Figure::Max | Figure::Mean => super::report::time(value),
            _ => super::report::number(value),
        };
        match (self.relation)(&value, &self.bound) {
            true => Ok(()),
            false => Err(format!("{self}: it is {shown}")),
        }
    }
}

impl Figure {
    fn of(self, report: &Report<'_>) -> Option<f64> {
        let latencies = report.latencies();
        let some = (latencies.count() > 0).then_some(latencies);
        match self {
            Figure::Quantile(quantile) => some.map(|it| it.at(quantile) as f64),
            Figure::Max => some.map(|it| it.max() as f64),
            Figure::Mean => some.map(|it| it.mean()),
            Figure::Rate => Some(report.rate()),
            Figure::Errors => Some(report.outcome.counts.errors() as f64),
            Figure::Lost => Some(report.outcome.counts.lost as f64),
            Figure::Cpu => report.server_cpu().map(|(each, _)| each),
            Figure::Memory => report.server_memory(),
        }
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Assertion, String> {
        let wrong = || {
            format!(
                "'{text}' is not an assertion; write 'p99<5ms', 'rate>=100000', 'errors==0', or one of mean, max, lost, cpu (us), memory (bytes)"
            )
        };
        let (at, (sign, relation)) = RELATIONS
            .iter()
            .filter_map(|it| Some((text.find(it.0)?, it)))
            .min_by_key(|(at, (sign, _))| (*at, usize::MAX - sign.len()))
            .ok_or_else(wrong)?;
        let (name, bound) = (text[..at].trim(), text[at + sign.len()..].trim());
        let quantile = PERCENTILES.iter().find(|(known, _)| *known == name);
        let figure = match (quantile, name) {
            (Some((_, quantile)), _) => Figure::Quantile(*quantile),
            (_, "max") => Figure::Max,
            (_, "mean") => Figure::Mean,
            (_, "rate") => Figure::Rate,
            (_, "errors") => Figure::Errors,
            (_, "lost") => Figure::Lost,
            (_, "cpu") => Figure::Cpu,
            (_, "memory") => Figure::Memory,
            _ => return Err(wrong()),
        };
        let bound = match figure {
            Figure::Quantile(_) | Figure::Max | Figure::Mean => nanoseconds(bound),
            _ => bound.parse().ok(),
        };
        Ok(Assertion {
            text: text.to_owned(),
            figure,
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
            ("p99<5ms", Figure::Quantile(0.99), "<", 5e6),
            ("p99.99 <= 1.5s", Figure::Quantile(0.9999), "<=", 1.5e9),
            ("max>3us", Figure::Max, ">", 3e3),
            ("rate>=100000", Figure::Rate, ">=", 1e5),
            ("errors==0", Figure::Errors, "==", 0.0),
            ("cpu<7.5", Figure::Cpu, "<", 7.5),
        ] {
            let read: Assertion = text.parse().unwrap();
            assert_eq!((read.figure, read.bound), (figure, bound), "{text}");
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
