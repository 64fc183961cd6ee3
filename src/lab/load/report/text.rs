//! The report as text that fits on one screen.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use super::{Report, Table, number, size, time};
use crate::lab::load::histogram::{Latencies, PERCENTILES};
use crate::lab::load::plan::{Check, Compression, Content, Mode};

impl Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.plan.target.url)?;
        writeln!(out, "{}\n", self.title())?;
        self.counts(out)?;
        self.latency_tables(out)?;
        self.openings(out)?;
        self.server(out)?;
        self.generator(out)?;
        self.notes(out)
    }
}

impl Report<'_> {
    fn counts(&self, out: &mut impl Write) -> fmt::Result {
        let (plan, outcome) = (self.plan, self.outcome);
        let counts = &outcome.counts;
        if self.outcome.is_interrupted {
            writeln!(
                out,
                "interrupted after {:.1} s",
                outcome.measured.time.as_secs_f64()
            )?;
        }
        let rate = number(self.rate());
        match plan.mode {
            Mode::Connect | Mode::Churn => writeln!(
                out,
                "connections  {} opened, {rate}/s",
                number(counts.opened as f64)
            )?,
            Mode::Idle => writeln!(out, "connections  {} open", number(counts.opened as f64))?,
            _ => {}
        }
        if plan.mode != Mode::Connect {
            write!(
                out,
                "messages     {} sent, {} received",
                number(counts.sent as f64),
                number(counts.received as f64)
            )?;
            if matches!(plan.mode, Mode::Echo | Mode::Broadcast { .. }) {
                let bytes = size_of_rate(self.bytes_per_second());
                write!(out, "; {rate}/s, {bytes}/s")?;
            }
            writeln!(out)?;
        }
        if let Some(offered) = plan.rate {
            writeln!(out, "offered      {}/s, achieved {rate}/s", number(offered))?;
        }
        if let Mode::Broadcast { .. } = plan.mode {
            writeln!(out, "reach        {:.4} %", self.reach() * 100.0)?;
        }
        self.errors(out)
    }

    fn errors(&self, out: &mut impl Write) -> fmt::Result {
        let counts = &self.outcome.counts;
        let mut errors = Vec::new();
        // A reply that times out comes late or is lost.
        let silent = counts.timed_out.saturating_sub(counts.late);
        let silent = match silent.min(counts.lost) {
            0 => String::from("lost"),
            silent => format!("lost ({} timed out)", number(silent as f64)),
        };
        for (what, count) in [
            (silent.as_str(), counts.lost),
            ("repeated", counts.repeated),
            ("reordered", counts.reordered),
            ("corrupt", counts.corrupt),
            ("late, after the timeout", counts.late),
            ("never sent", counts.unsent),
        ] {
            if count > 0 {
                errors.push(format!("{} {what}", number(count as f64)));
            }
        }
        let mut named = |what: &str, counts: &BTreeMap<String, u64>| {
            for (why, count) in counts {
                errors.push(format!("{} {what}: {why}", number(*count as f64)));
            }
        };
        named("refused", &counts.refused);
        named("against the protocol", &counts.violations);
        for (code, count) in &counts.closed {
            errors.push(format!("{} closed with {code}", number(*count as f64)));
        }
        match errors.is_empty() {
            true => writeln!(out, "errors       none"),
            false => writeln!(out, "errors       {}", errors.join("; ")),
        }
    }

    fn latency_tables(&self, out: &mut impl Write) -> fmt::Result {
        let rows = self.named_latencies();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        table(out, "latency     ", &rows, true)?;
        if self.plan.rate.is_some() {
            writeln!(
                out,
                "response: from when a message was due; service: from when it was written"
            )
        } else {
            writeln!(
                out,
                "closed loop: a slow server is asked less, which hides its pauses; --rate shows them"
            )
        }
    }

    fn openings(&self, out: &mut impl Write) -> fmt::Result {
        let rows = self.named_openings();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        table(out, "connecting  ", &rows, false)
    }

    fn server(&self, out: &mut impl Write) -> fmt::Result {
        let (Some([before, _, end]), Some([cores, _, switches])) =
            (&self.outcome.server, self.server_pace())
        else {
            return Ok(());
        };
        write!(out, "\nserver       ")?;
        if let Some((cpu, user)) = self.server_cpu() {
            let [operation, _] = self.operation();
            write!(out, "{cpu:.3} us of CPU a {operation}")?;
            if let Some(user) = user {
                write!(out, " ({user:.3} user, {:.3} system)", cpu - user)?;
            }
            write!(out, "; ")?;
        }
        writeln!(
            out,
            "{cores:.2} cores; {} descriptors; {} voluntary switches/s",
            end.descriptors,
            number(switches)
        )?;
        write!(
            out,
            "             {} resident",
            size_of_rate(end.resident as f64)
        )?;
        if let Some(each) = self.server_memory() {
            write!(
                out,
                ", {} before: {} B a connection",
                size_of_rate(before.resident as f64),
                number(each.max(0.0))
            )?;
        }
        writeln!(out)
    }

    fn generator(&self, out: &mut impl Write) -> fmt::Result {
        let machine = self.machine;
        let threads: Vec<String> = self
            .outcome
            .threads
            .iter()
            .map(|share| format!("{:.0} %", share * 100.0))
            .collect();
        write!(out, "\ngenerator    {} of a core", threads.join(", "))?;
        if !self.plan.cpus.is_empty() {
            write!(out, ", pinned to {:?}", self.plan.cpus)?;
        }
        if self.plan.mode == Mode::Idle
            && let Some(each) = self.own_memory()
        {
            write!(out, "; {} B a connection", number(each.max(0.0)))?;
        }
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| String::from("unknown"));
        writeln!(
            out,
            "\nmachine      {}; {} cores; {}; {}",
            known(&machine.cpu),
            machine.cores,
            known(&machine.kernel),
            known(&machine.congestion_control)
        )
    }

    /// Warnings about the figures.
    fn notes(&self, out: &mut impl Write) -> fmt::Result {
        let plan = self.plan;
        if self.is_generator_bound() {
            writeln!(
                out,
                "BOUNDED BY THE GENERATOR: a thread used more than 90 % of its core. Rate and latency are not the server's; its CPU time is. Give the generator --threads and cores of its own, or the server less to do: --rate, larger messages."
            )?;
        }
        let counted_only = match &plan.messages.content {
            _ if plan.mode == Mode::Connect => None,
            _ if plan.messages.compression == Some(Compression::Once) => {
                writeln!(
                    out,
                    "messages that were compressed once carry no number: replies are counted only"
                )?;
                None
            }
            Content::File(_) => Some("messages of a file carry no number"),
            Content::Sizes { from, .. } if *from < 8 => {
                Some("messages below 8 bytes carry no number")
            }
            Content::Sizes { .. } => None,
        };
        if let Some(why) = counted_only {
            writeln!(
                out,
                "{why}: replies are counted and compared in order; a lost one makes those after it corrupt"
            )?;
        }
        match plan.check {
            Check::All => Ok(()),
            Check::First => writeln!(
                out,
                "only the first reply of each connection was compared; of the others number and length"
            ),
            Check::None => writeln!(
                out,
                "replies were not compared; only their number and length"
            ),
        }
    }
}

/// Writes rows of percentiles. If `behind` is true, also writes the number of samples behind each
/// percentile.
fn table(
    out: &mut impl Write,
    title: &str,
    rows: &[(&str, &Latencies)],
    behind: bool,
) -> fmt::Result {
    let heads = PERCENTILES.map(|(name, _)| format!("{name:>8}"));
    let heads = heads.each_ref().map(String::as_str);
    let mut table = Table::new(&[&[title][..], &heads, &["     max"]].concat());
    for (name, latencies) in rows {
        let cells = PERCENTILES.map(|(_, quantile)| time(latencies.at(quantile) as f64));
        let max = time(latencies.max() as f64);
        table.row([&[(*name).to_owned()][..], &cells, &[max]].concat());
        if behind {
            let cells = PERCENTILES.map(|(_, quantile)| latencies.behind(quantile).to_string());
            let max = latencies.count().min(1).to_string();
            table.row([&[String::from("  samples")][..], &cells, &[max]].concat());
        }
    }
    write!(out, "{table}")
}

fn size_of_rate(bytes: f64) -> String {
    match bytes {
        small if small < 1024.0 => format!("{small:.0} B"),
        small if small < 1024.0 * 1024.0 => format!("{:.1} KiB", small / 1024.0),
        large if large < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", large / 1024.0 / 1024.0),
        large => size((large / 1024.0 / 1024.0) as usize * (1 << 20)),
    }
}
