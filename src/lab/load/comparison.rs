//! Compares two servers, measured in turn: ratios with confidence intervals.

use std::fmt;
use std::io;

use super::plan::Plan;
use super::report::{Report, Table, number, table_of_runs, time};
use super::{Interrupt, LoadOutcome, LoadProgress, Machine, run};

/// The results of measuring servers A and B in turn, and the ratios of B to A.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Comparison {
    /// The number of completed rounds.
    pub rounds: usize,
    /// The results of A and of B, each summed over all rounds.
    pub outcomes: [LoadOutcome; 2],
    /// Figures of B divided by those of A.
    pub ratios: Vec<Ratio>,
}

/// The ratio of one figure, B divided by A.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ratio {
    /// The name of the figure.
    pub figure: &'static str,
    /// The geometric means over all rounds, of A and of B. A time is in nanoseconds, CPU time in
    /// microseconds.
    pub means: [f64; 2],
    /// The mean of B divided by that of A. It is also the geometric mean of the rounds' ratios.
    pub middle: f64,
    /// The ends of the interval that contains the true ratio with 95 % confidence, if rounds
    /// differ only by chance. `None` with fewer than 5 rounds.
    pub interval: Option<[f64; 2]>,
}

/// The rounds that an interval needs. With fewer it is wider than any difference.
const LEAST_ROUNDS: usize = 5;

/// The compared figures: names for people, and names that [`Report::figure`] knows.
const FIGURES: [(&str, &str); 4] = [
    ("rate", "rate"),
    ("p50", "p50"),
    ("p99", "p99"),
    ("server CPU", "cpu"),
];

/// Runs both plans in turn, `rounds` times.
///
/// # Errors
/// The same errors as [`run`].
pub fn compare(
    plans: [&Plan; 2],
    rounds: usize,
    interrupt: &Interrupt,
    mut progress: impl FnMut(LoadProgress),
) -> io::Result<Comparison> {
    let machine = Machine::here();
    let mut outcomes: [Option<LoadOutcome>; 2] = [None, None];
    let mut logarithms: [Vec<[f64; 2]>; FIGURES.len()] = Default::default();
    let mut done = 0;
    while done < rounds && !interrupt.is_interrupted() {
        let mut round = Vec::new();
        for (plan, all) in plans.iter().zip(&mut outcomes) {
            let outcome = run(plan, interrupt, &mut progress)?;
            match all {
                Some(all) => all.add(&outcome),
                None => *all = Some(outcome.clone()),
            }
            round.push(outcome);
        }
        let [a, b] = [0, 1].map(|place| Report::new(plans[place], &round[place], &machine));
        for ((_, figure), logarithms) in FIGURES.iter().zip(&mut logarithms) {
            if let (Some(a), Some(b)) = (a.figure(figure), b.figure(figure))
                && a > 0.0
                && b > 0.0
            {
                logarithms.push([a.ln(), b.ln()]);
            }
        }
        done += 1;
    }
    let outcomes = outcomes.map(Option::unwrap_or_default);
    let named = FIGURES.iter().zip(&logarithms);
    let ratios = named.filter(|(_, logarithms)| !logarithms.is_empty());
    Ok(Comparison {
        rounds: done,
        outcomes,
        ratios: ratios
            .map(|((figure, _), logarithms)| ratio(figure, logarithms))
            .collect(),
    })
}

/// The means of the logarithms, and the confidence interval of their difference by Student's
/// t-distribution. There is at least one pair.
fn ratio(figure: &'static str, logarithms: &[[f64; 2]]) -> Ratio {
    let rounds = logarithms.len();
    let count = rounds as f64;
    let mean = |of: fn(&[f64; 2]) -> f64| logarithms.iter().map(of).sum::<f64>() / count;
    let middle = mean(|[a, b]| b - a);
    let squares = logarithms.iter().map(|[a, b]| (b - a - middle).powi(2));
    let interval = (rounds >= LEAST_ROUNDS).then(|| {
        let deviation = (squares.sum::<f64>() / (count - 1.0) / count).sqrt();
        let error = student(rounds - 1) * deviation;
        [(middle - error).exp(), (middle + error).exp()]
    });
    Ratio {
        figure,
        means: [mean(|[a, _]| *a).exp(), mean(|[_, b]| *b).exp()],
        middle: middle.exp(),
        interval,
    }
}

/// The 0.975 quantile of Student's t-distribution.
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    ];
    match TABLE.get(freedom.saturating_sub(1)) {
        Some(value) => *value,
        // An approximation that is slightly too high: 2.2 at 11, 2.04 at 30.
        None => 1.96 + 2.7 / freedom as f64,
    }
}

impl Comparison {
    /// The comparison as text for people.
    pub fn text(&self, plans: [&Plan; 2], machine: &Machine) -> String {
        let reports = [0, 1].map(|place| Report::new(plans[place], &self.outcomes[place], machine));
        let is_bound = reports.iter().any(Report::is_generator_bound);
        let title = reports[0].title();
        let names = ["A", "B"].map(String::from);
        let runs: Vec<_> = names.into_iter().zip(reports).collect();
        let table = table_of_runs("all rounds", &runs);
        format!(
            "A: {}\nB: {}\n{}, in {} rounds of A and B\n\n{table}\n{self}{}",
            plans[0].target.url,
            plans[1].target.url,
            title,
            self.rounds,
            match is_bound {
                true =>
                    "BOUNDED BY THE GENERATOR: rates and latencies are not the servers'; their CPU times are.\n",
                false => "",
            },
        )
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["mean of rounds", "A", "B", "B/A"]);
        for ratio in &self.ratios {
            let [a, b] = ratio.means.map(|mean| match ratio.figure {
                "rate" => format!("{}/s", number(mean.round())),
                "server CPU" => format!("{mean:.3} us"),
                _ => time(mean),
            });
            let row = vec![
                ratio.figure.to_owned(),
                a,
                b,
                format!("{:.3}", ratio.middle),
            ];
            table.row(row);
        }
        let table = table.to_string();
        let mut lines = table.lines();
        writeln!(out, "{}", lines.next().unwrap_or_default())?;
        for (line, ratio) in lines.zip(&self.ratios) {
            writeln!(out, "{line}  {}", ratio.verdict())?;
        }
        Ok(())
    }
}

impl Ratio {
    fn verdict(&self) -> String {
        let Some([low, high]) = self.interval else {
            return format!("too few rounds for an interval: --rounds {LEAST_ROUNDS}");
        };
        let verdict = match (low > 1.0, high < 1.0) {
            (false, false) => "no difference that shows",
            (true, _) => "B has more",
            (_, true) => "B has less",
        };
        format!("between {low:.3} and {high:.3} (95 %): {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_the_interval_of_student() {
        let pairs = |apart: &[f64]| apart.iter().map(|it| [1.0, 1.0 + it]).collect::<Vec<_>>();
        let equal = ratio("x", &pairs(&[2_f64.ln(); 5]));
        let [low, high] = equal.interval.unwrap();
        assert!((equal.middle - 2.0).abs() < 1e-9 && (low - high).abs() < 1e-9);
        assert!(
            (equal.means[1] / equal.means[0] - 2.0).abs() < 1e-9,
            "{equal:?}"
        );
        // Mean 0, standard deviation sqrt(2.5), five values: 2.776 * sqrt(2.5) / sqrt(5).
        let apart = ratio("x", &pairs(&[-2.0, -1.0, 0.0, 1.0, 2.0]));
        let [low, high] = apart.interval.unwrap();
        assert!((high.ln() - 1.9629).abs() < 1e-3, "{apart:?}");
        assert!((low * high - 1.0).abs() < 1e-9);
        let few = ratio("x", &pairs(&[0.0, 27.0]));
        assert_eq!(few.interval, None);
        assert!(few.verdict().starts_with("too few rounds for an interval"));
    }
}
