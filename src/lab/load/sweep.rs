//! Measures latency at rising loads, up to the knee of the curve.

use std::io;
use std::time::Duration;

use super::plan::{End, Plan};
use super::report::{Report, number, table_of_runs};
use super::{Interrupt, LoadOutcome, LoadProgress, Machine, run};

/// A series of open-loop runs with rising load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sweep {
    /// Operations per second in a closed loop; `None` if the caller gave the loads.
    pub peak: Option<f64>,
    /// The loads and their runs.
    pub points: Vec<Point>,
    /// The load, in operations per second, at which p99 of the response time exceeds ten times its
    /// value at the first load (by default a tenth of the peak); `None` if no load exceeds it.
    pub knee: Option<f64>,
}

/// One load of a sweep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Point {
    /// The plan of an open loop.
    pub plan: Plan,
    /// The result of the run.
    pub outcome: LoadOutcome,
}

/// The default loads, as shares of the peak.
const SHARES: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2];
/// At the knee, p99 is this multiple of its value at the first load.
const KNEE: f64 = 10.0;

/// Runs an open loop at each of `loads`. If `loads` is empty, first measures the peak rate in a
/// closed loop, then runs at a tenth of the peak, two tenths and so on. Stops one step after the
/// knee.
///
/// # Errors
/// The same errors as [`run`].
pub fn sweep(
    plan: &Plan,
    loads: &[f64],
    interrupt: &Interrupt,
    mut progress: impl FnMut(LoadProgress),
) -> io::Result<Sweep> {
    let machine = Machine::here();
    let mut sweep = Sweep {
        peak: None,
        points: Vec::new(),
        knee: None,
    };
    let mut loads = loads.to_vec();
    if loads.is_empty() {
        let mut closed = plan.clone();
        closed.rate = None;
        if let End::Time(time) = closed.end {
            closed.end = End::Time(time.min(Duration::from_secs(3)));
        }
        let outcome = run(&closed, interrupt, &mut progress)?;
        let peak = Report::new(&closed, &outcome, &machine).rate();
        sweep.peak = Some(peak);
        loads = SHARES.map(|share| (share * peak).max(1.0)).to_vec();
    }
    let mut behind = 0;
    for offered in loads {
        if interrupt.is_interrupted() || behind > 1 {
            break;
        }
        let mut plan = plan.clone();
        plan.rate = Some(offered);
        let outcome = run(&plan, interrupt, &mut progress)?;
        sweep.points.push(Point { plan, outcome });
        let latencies: Vec<_> = sweep.points.iter().map(Point::offered_and_p99).collect();
        sweep.knee = knee(&latencies);
        behind += usize::from(sweep.knee.is_some());
    }
    Ok(sweep)
}

impl Point {
    /// Messages due per second.
    pub fn offered(&self) -> f64 {
        self.plan.rate.unwrap_or_default()
    }

    fn offered_and_p99(&self) -> (f64, f64) {
        (self.offered(), self.outcome.response.at(0.99).max(1) as f64)
    }
}

/// The load at which the latency exceeds ten times its first value. Between two points, the
/// logarithm of the latency is interpolated linearly.
fn knee(points: &[(f64, f64)]) -> Option<f64> {
    let bound = points.first()?.1 * KNEE;
    let pairs = points.iter().zip(points.get(1..)?);
    pairs
        .filter(|(_, (_, above))| *above > bound)
        .map(|((load, below), (next, above))| {
            let part = (bound / below).ln() / (above / below).ln();
            load + (next - load) * part.clamp(0.0, 1.0)
        })
        .next()
}

impl Sweep {
    /// The sweep as text for people.
    pub fn text<'a>(&'a self, plan: &Plan, machine: &'a Machine) -> String {
        let report = |point: &'a Point| {
            let name = format!("{}/s", number(point.offered().round()));
            (name, Report::new(&point.plan, &point.outcome, machine))
        };
        let runs: Vec<_> = self.points.iter().map(report).collect();
        let is_bound = runs.iter().any(|(_, report)| report.is_generator_bound());
        let table = table_of_runs("offered", &runs);
        let mut text = format!(
            "{}\n{}\n",
            plan.target.url,
            Report::new(plan, &LoadOutcome::default(), machine).title_with("open loops, each ")
        );
        if let Some(peak) = self.peak {
            text += &format!("a closed loop reached {}/s\n", number(peak.round()));
        }
        text += &format!("\n{table}\n");
        text += &match self.knee {
            Some(knee) => format!(
                "knee: {}/s, where p99 of the response time passes ten times that of the first load\n",
                number(knee.round())
            ),
            None => String::from("knee: not reached\n"),
        };
        if is_bound {
            text += "BOUNDED BY THE GENERATOR in rows where it used more than 90 % of a core: their latency is not the server's.\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_p99_passes_ten_times_its_first_value() {
        assert_eq!(knee(&[]), None);
        assert_eq!(knee(&[(1.0, 5.0)]), None);
        assert_eq!(knee(&[(1.0, 5.0), (2.0, 50.0)]), None);
        // On a logarithmic scale, 100 is halfway between 10 and 1,000.
        let found = knee(&[(100.0, 10.0), (200.0, 10.0), (300.0, 1_000.0), (400.0, 1e6)]);
        assert!((found.unwrap() - 250.0).abs() < 1e-9);
        let at_once = knee(&[(100.0, 10.0), (200.0, 100.1)]);
        assert!((at_once.unwrap() - 200.0).abs() < 1.0);
    }
}
