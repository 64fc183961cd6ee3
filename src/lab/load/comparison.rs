//! Compares two servers, measured in turn: ratios with confidence intervals.

use std::fmt;
use std::io;

use super::plan::Plan;
use super::report::{Report, table_of_runs};
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
    /// The geometric mean of the ratio over all rounds.
    pub middle: f64,
    /// The lower end of the interval that contains the true ratio with 95 % confidence, if rounds
    /// differ only by chance.
    pub low: f64,
    /// The upper end of the interval. See [`Ratio::low`].
    pub high: f64,
}

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
    let mut logarithms: [Vec<f64>; FIGURES.len()] = Default::default();
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
                logarithms.push((b / a).ln());
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

/// The mean of the logarithms and its confidence interval by Student's t-distribution.
fn ratio(figure: &'static str, logarithms: &[f64]) -> Ratio {
    let count = logarithms.len() as f64;
    let mean = logarithms.iter().sum::<f64>() / count;
    let squares: f64 = logarithms.iter().map(|it| (it - mean).powi(2)).sum();
    let error = match logarithms.len() {
        1 => f64::INFINITY,
        _ => student(logarithms.len() - 1) * (squares / (count - 1.0) / count).sqrt(),
    };
    Ratio {
        figure,
        middle: mean.exp(),
        low: (mean - error).exp(),
        high: (mean + error).exp(),
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
        let table = table_of_runs("", &runs);
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
        for Ratio {
            figure,
            middle,
            low,
            high,
        } in &self.ratios
        {
            let verdict = match (*low > 1.0, *high < 1.0) {
                (false, false) => "no difference that shows",
                (true, _) => "B has more",
                (_, true) => "B has less",
            };
            writeln!(
                out,
                "{figure:<11} B/A {middle:.3}, between {low:.3} and {high:.3} (95 %): {verdict}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_the_interval_of_student() {
        let equal = ratio("x", &[2_f64.ln(); 5]);
        assert!((equal.middle - 2.0).abs() < 1e-9 && (equal.high - 2.0).abs() < 1e-9);
        // Mean 0, standard deviation 1, three values: 4.303 / sqrt(3).
        let apart = ratio("x", &[-1.0, 0.0, 1.0]);
        assert!((apart.high.ln() - 2.4844).abs() < 1e-3, "{apart:?}");
        assert!((apart.low * apart.high - 1.0).abs() < 1e-9);
        assert_eq!(ratio("x", &[0.0]).low, 0.0);
    }
}
