//! Runs the load, prints and writes the report, and decides the exit code.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::progress::{ProgressLine, interrupt_on_signal};
use super::{Load, Refusal};
use crate::cli::Exit;
use crate::lab::load::report::{Report, hdr, html, json};
use crate::lab::load::{
    Comparison, Interrupt, LoadOutcome, Machine, Plan, Sweep, compare, run, sweep,
};

/// The results of all runs of a command.
struct Measurement {
    plans: Vec<Plan>,
    outcomes: Vec<LoadOutcome>,
    comparison: Option<Comparison>,
    sweep: Option<Sweep>,
    machine: Machine,
}

impl Load {
    pub(in crate::cli) fn run(&self) -> Exit {
        match self.measure_and_report() {
            Ok(exit) => exit,
            Err(Refusal(exit, why)) => {
                eprintln!("frameloop load: {why}");
                exit
            }
        }
    }

    fn measure_and_report(&self) -> Result<Exit, Refusal> {
        let measurement = self.measure(self.plans()?)?;
        let text = measurement.text();
        self.write(&measurement, &text)?;
        Ok(match crate::cli::print(text.as_bytes()) {
            Exit::Done => self.verdict(&measurement),
            failed => failed,
        })
    }

    fn measure(&self, plans: Vec<Plan>) -> io::Result<Measurement> {
        let interrupt = Interrupt::default();
        interrupt_on_signal(interrupt.clone());
        let mut measurement = Measurement {
            plans: Vec::new(),
            outcomes: Vec::new(),
            comparison: None,
            sweep: None,
            machine: Machine::here(),
        };
        let mut line = ProgressLine::new();
        let show = |progress| line.show(progress);
        match (&plans[..], &self.sweep) {
            ([a, b], _) => {
                let comparison = compare([a, b], self.rounds.into(), &interrupt, show)?;
                measurement.outcomes = comparison.outcomes.to_vec();
                measurement.comparison = Some(comparison);
            }
            ([plan, ..], Some(loads)) => {
                let found = sweep(plan, loads, &interrupt, show)?;
                for point in &found.points {
                    measurement.plans.push(point.plan.clone());
                    measurement.outcomes.push(point.outcome.clone());
                }
                measurement.sweep = Some(found);
            }
            ([plan, ..], None) => measurement.outcomes.push(run(plan, &interrupt, show)?),
            ([], _) => {}
        }
        line.clear();
        if measurement.plans.is_empty() {
            measurement.plans = plans;
        }
        Ok(measurement)
    }

    fn write(&self, measurement: &Measurement, text: &str) -> io::Result<()> {
        let reports = measurement.reports();
        let write = |path: &PathBuf, bytes: &[u8]| {
            fs::write(path, bytes)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        };
        if let Some(path) = &self.json {
            let document = json::document(
                &measurement.machine,
                &reports,
                measurement.comparison.as_ref(),
                measurement.sweep.as_ref(),
            );
            write(path, format!("{document:#}\n").as_bytes())?;
        }
        if let Some(path) = &self.hdr {
            let mut log = Vec::new();
            hdr::write(&mut log, &reports)?;
            write(path, &log)?;
        }
        if let Some(path) = &self.html {
            let page = html::page(&reports, measurement.sweep.as_ref(), text);
            write(path, page.as_bytes())?;
        }
        Ok(())
    }

    fn verdict(&self, measurement: &Measurement) -> Exit {
        let mut exit = Exit::Done;
        for (place, report) in measurement.reports().into_iter().enumerate() {
            let counts = &report.outcome.counts;
            if counts.opened == 0 && !report.outcome.is_interrupted {
                let why = counts.refused.keys().next();
                let why = why.map_or("no time", String::as_str);
                let what = match counts.reached > 0 && !report.plan.is_raw {
                    true => "no WebSocket could be opened",
                    false => "cannot connect",
                };
                let run = measurement.name(place);
                eprintln!("frameloop load: {what}{run}: {why}");
                return Exit::NoAddress;
            }
            let is_wrong = counts.lost > 0 || counts.corrupt > 0;
            if is_wrong || counts.errors() > self.max_errors.unwrap_or(0) {
                exit = Exit::Failed;
            }
            for assertion in &self.assertions {
                if let Err(why) = assertion.judge(&report) {
                    let run = measurement.name(place);
                    eprintln!("frameloop load: does not hold{run}: {why}");
                    exit = Exit::Failed;
                }
            }
        }
        exit
    }
}

impl Measurement {
    fn reports(&self) -> Vec<Report<'_>> {
        let pairs = self.plans.iter().zip(&self.outcomes);
        pairs
            .map(|(plan, outcome)| Report::new(plan, outcome, &self.machine))
            .collect()
    }

    /// Tells one of several runs apart: ` for A`, ` at 1000/s`.
    fn name(&self, place: usize) -> String {
        let offered = self.plans.get(place).and_then(|plan| plan.rate);
        match (&self.comparison, &self.sweep, offered) {
            (Some(_), ..) => String::from([" for A", " for B"][place % 2]),
            (_, Some(_), Some(rate)) => format!(" at {rate:.0}/s"),
            (_, Some(_), None) => String::from(" in the closed loop"),
            _ => String::new(),
        }
    }

    fn text(&self) -> String {
        match (&self.comparison, &self.sweep, &self.plans[..]) {
            (Some(comparison), _, [a, b]) => comparison.text([a, b], &self.machine),
            (_, Some(sweep), [plan, ..]) => sweep.text(plan, &self.machine),
            _ => self.reports().iter().map(Report::to_string).collect(),
        }
    }
}
