//! The report as JSON, as `docs/load.schema.json` describes it.

use serde_json::{Value, json};

use super::{Report, SATURATED};
use crate::lab::load::comparison::Comparison;
use crate::lab::load::histogram::{Latencies, PERCENTILES};
use crate::lab::load::machine::Machine;
use crate::lab::load::plan::{Check, Compression, Content, End, Mode, Text};
use crate::lab::load::sweep::Sweep;

/// The version of the schema.
const VERSION: u32 = 1;

/// One or more runs, and what they say together.
pub fn document(
    machine: &Machine,
    runs: &[Report<'_>],
    comparison: Option<&Comparison>,
    sweep: Option<&Sweep>,
) -> Value {
    json!({
        "version": VERSION,
        "machine": machine,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
        "comparison": comparison.map(|comparison| json!({
            "rounds": comparison.rounds,
            "confidence": 0.95,
            "ratios": comparison.ratios.iter().map(|ratio| json!({
                "figure": ratio.figure,
                "ratio": figure(ratio.middle),
                "low": figure(ratio.low),
                "high": figure(ratio.high),
            })).collect::<Vec<_>>(),
        })),
        "sweep": sweep.map(|sweep| json!({
            "peak_per_second": sweep.peak.map(figure),
            "knee_per_second": sweep.knee.map(figure),
        })),
    })
}

fn run(report: &Report<'_>) -> Value {
    let outcome = report.outcome;
    let mut counts = json!({
        "sent": outcome.counts.sent,
        "received": outcome.counts.received,
        "lost": outcome.counts.lost,
        "repeated": outcome.counts.repeated,
        "reordered": outcome.counts.reordered,
        "corrupt": outcome.counts.corrupt,
        "timed_out": outcome.counts.timed_out,
        "late": outcome.counts.late,
        "unsent": outcome.counts.unsent,
        "opened": outcome.counts.opened,
        "refused": outcome.counts.refused,
        "violations": outcome.counts.violations,
        "pings": outcome.counts.pings,
        "errors": outcome.counts.errors(),
    });
    let closed = outcome.counts.closed.iter();
    counts["closed"] = closed
        .map(|(code, count)| (code.to_string(), *count))
        .collect();
    json!({
        "url": report.plan.target.url,
        "title": report.title(),
        "plan": plan(report),
        "interrupted": outcome.is_interrupted,
        "counts": counts,
        "measured": {
            "seconds": figure(outcome.measured.time.as_secs_f64()),
            "operation": report.operation(),
            "operations": report.operations(),
            "per_second": figure(report.rate()),
            "offered_per_second": report.plan.rate.map(figure),
            "bytes_per_second": figure(
                outcome.measured.received_bytes as f64
                    / outcome.measured.time.as_secs_f64().max(1e-9)
            ),
        },
        "latency": {
            "response": latencies(&outcome.response),
            "service": latencies(&outcome.service),
            "to_the_last": latencies(&outcome.reach),
        },
        "connecting": {
            "tcp": latencies(&outcome.opening.tcp),
            "tls": latencies(&outcome.opening.tls),
            "handshake": latencies(&outcome.opening.upgrade),
            "together": latencies(&outcome.opening.whole),
        },
        "generator": {
            "threads": outcome.threads.iter().map(|share| figure(*share)).collect::<Vec<_>>(),
            "saturated_above": SATURATED,
            "bounds_the_figures": report.is_generator_bound(),
            "bytes_per_connection": report.own_memory().map(figure),
        },
        "server": server(report),
    })
}

fn plan(report: &Report<'_>) -> Value {
    let plan = report.plan;
    let (duration, messages) = match plan.end {
        End::Time(time) => (Some(time.as_secs_f64()), None),
        End::Messages(messages) => (None, Some(messages)),
    };
    let (smallest, largest) = match &plan.messages.content {
        Content::Sizes { from, to } => (*from, *to),
        Content::File(messages) => {
            let sizes = messages.iter().map(Vec::len);
            (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0))
        }
    };
    json!({
        "mode": match plan.mode {
            Mode::Echo => "echo",
            Mode::Broadcast { .. } => "broadcast",
            Mode::Connect => "connect",
            Mode::Churn => "churn",
            Mode::Idle => "idle",
        },
        "loop": if plan.rate.is_some() { "open" } else { "closed" },
        "publishers": match plan.mode {
            Mode::Broadcast { publishers } => Some(publishers),
            _ => None,
        },
        "connections": plan.connections,
        "depth": plan.depth,
        "smallest_bytes": smallest,
        "largest_bytes": largest,
        "text": plan.messages.text.map(|text| match text {
            Text::Ascii => "ascii",
            Text::Multibyte => "multibyte",
        }),
        "compressed": plan.messages.compression.map(|compression| match compression {
            Compression::Once => "once",
            Compression::Fresh => "fresh",
        }),
        "raw": plan.is_raw,
        "duration_seconds": duration,
        "messages": messages,
        "warm_up_seconds": plan.warm_up.as_secs_f64(),
        "threads": plan.threads,
        "cpus": plan.cpus,
        "seed": plan.seed,
        "compared": match plan.check {
            Check::All => "all",
            Check::First => "first",
            Check::None => "none",
        },
    })
}

fn server(report: &Report<'_>) -> Option<Value> {
    let [before, begin, end] = report.outcome.server.as_ref()?;
    let seconds = report.outcome.measured.time.as_secs_f64().max(1e-9);
    let cpu = report.server_cpu();
    let user = cpu.and_then(|(_, user)| user);
    let switches = end
        .voluntary_switches
        .saturating_sub(begin.voluntary_switches);
    Some(json!({
        "pid": report.plan.server,
        "cpu_us_per_operation": cpu.map(|(each, _)| figure(each)),
        "user_us_per_operation": user.map(figure),
        "cores": figure(end.cpu.saturating_sub(begin.cpu).as_secs_f64() / seconds),
        "waited_cores": figure(end.waited.saturating_sub(begin.waited).as_secs_f64() / seconds),
        "resident_bytes_before": before.resident,
        "resident_bytes": end.resident,
        "bytes_per_connection": report.server_memory().map(figure),
        "descriptors": end.descriptors,
        "voluntary_switches_per_second": figure(switches as f64 / seconds),
    }))
}

/// `null` where there is none.
fn latencies(latencies: &Latencies) -> Option<Value> {
    if latencies.count() == 0 {
        return None;
    }
    let percentiles = PERCENTILES.iter().map(|(name, quantile)| {
        let figures = json!({
            "nanoseconds": latencies.at(*quantile),
            "samples": latencies.behind(*quantile),
        });
        ((*name).to_owned(), figures)
    });
    Some(json!({
        "count": latencies.count(),
        "mean_nanoseconds": figure(latencies.mean()),
        "max_nanoseconds": latencies.max(),
        "percentiles": percentiles.collect::<serde_json::Map<_, _>>(),
    }))
}

/// Five significant digits, which is more than any figure is good for.
fn figure(value: f64) -> Option<f64> {
    format!("{value:.4e}")
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
}
