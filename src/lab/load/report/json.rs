//! The report as JSON. `docs/load.schema.json` is its schema.

use serde_json::{Value, json};

use super::{Report, SATURATED};
use crate::lab::load::comparison::Comparison;
use crate::lab::load::histogram::{Latencies, PERCENTILES};
use crate::lab::load::machine::Machine;
use crate::lab::load::plan::{Content, End, Mode};
use crate::lab::load::sweep::Sweep;

/// The version of the schema.
const VERSION: u32 = 1;

/// The JSON document of one or more runs, with the comparison or the sweep of these runs.
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
                "a": figure(ratio.means[0]),
                "b": figure(ratio.means[1]),
                "ratio": figure(ratio.middle),
                "low": ratio.interval.and_then(|[low, _]| figure(low)),
                "high": ratio.interval.and_then(|[_, high]| figure(high)),
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
    let mut counts = json!(outcome.counts);
    counts["errors"] = outcome.counts.errors().into();
    json!({
        "url": report.plan.target.url,
        "title": report.title(),
        "plan": plan(report),
        "interrupted": outcome.is_interrupted,
        "counts": counts,
        "measured": {
            "seconds": figure(outcome.measured.time.as_secs_f64()),
            "operation": report.operation()[1],
            "operations": report.operations(),
            "per_second": figure(report.rate()),
            "offered_per_second": report.plan.rate.map(figure),
            "bytes_per_second": figure(report.bytes_per_second()),
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
        "text": plan.messages.text,
        "compressed": plan.messages.compression,
        "raw": plan.is_raw,
        "duration_seconds": duration,
        "messages": messages,
        "warm_up_seconds": plan.warm_up.as_secs_f64(),
        "threads": plan.threads,
        "cpus": plan.cpus,
        "seed": plan.seed,
        "compared": plan.check,
    })
}

fn server(report: &Report<'_>) -> Option<Value> {
    let [before, _, end] = report.outcome.server.as_ref()?;
    let [cores, waited, switches] = report.server_pace()?;
    let cpu = report.server_cpu();
    let user = cpu.and_then(|(_, user)| user);
    Some(json!({
        "pid": report.plan.server,
        "cpu_us_per_operation": cpu.map(|(each, _)| figure(each)),
        "user_us_per_operation": user.map(figure),
        "cores": figure(cores),
        "waited_cores": figure(waited),
        "resident_bytes_before": before.resident,
        "resident_bytes": end.resident,
        "bytes_per_connection": report.server_memory().map(figure),
        "descriptors": end.descriptors,
        "voluntary_switches_per_second": figure(switches),
    }))
}

/// The JSON of latencies; `null` if there are none.
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

/// Rounds to five significant digits, more than the precision of any figure. `null` if not finite.
fn figure(value: f64) -> Option<f64> {
    format!("{value:.4e}")
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
}
