//! The report as a self-contained HTML page, which loads no other resources.

use std::fmt::Write;

use super::{Report, time};
use crate::lab::load::histogram::Latencies;
use crate::lab::load::sweep::{Point, Sweep};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 80.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 4] = ["#2563eb", "#d97706", "#059669", "#dc2626"];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1f2937;background:#fff}pre{overflow-x:auto;background:#f3f4f6;padding:1rem;border-radius:6px}\
svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#4b5563}h1{font-size:1.4rem}h2{font-size:1.1rem}\
@media(prefers-color-scheme:dark){body{color:#e5e7eb;background:#111827}pre{background:#1f2937}text{fill:#9ca3af}}";

/// A line of a chart: its name and its points.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The page: charts, and below them the printed report `text`.
pub fn page(runs: &[Report<'_>], sweep: Option<&Sweep>, text: &str) -> String {
    let title = runs.first().map_or("", |run| &run.plan.target.url);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>frameloop load {0}</title><style>{STYLE}</style><h1>frameloop load {0}</h1>",
        escape(title)
    );
    if let Some(sweep) = sweep {
        page += "<h2>Latency against offered load</h2>";
        page += &load_chart(sweep);
    } else {
        let lines: Vec<_> = runs
            .iter()
            .enumerate()
            .flat_map(|(place, run)| lines(place, runs.len(), run))
            .collect();
        if !lines.is_empty() {
            page += "<h2>Latency by percentile</h2>";
            page += &percentile_chart(&lines);
        }
    }
    let _ = writeln!(
        page,
        "<h2>All figures</h2><pre>{}</pre></html>",
        escape(text)
    );
    page
}

fn lines(place: usize, runs: usize, run: &Report<'_>) -> Vec<Line> {
    run.named_latencies()
        .into_iter()
        .map(|(name, latencies)| Line {
            name: match runs {
                1 => name.to_owned(),
                _ => format!("{name}, {}", ["A", "B"].get(place).unwrap_or(&"?")),
            },
            points: percentiles(latencies),
        })
        .collect()
}

/// Points of latency against the number of nines of the percentile (2 is p99), up to six nines and
/// only where at least one sample lies behind the percentile.
fn percentiles(latencies: &Latencies) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut nines = 0.0;
    while nines <= 6.0 {
        let behind = 10_f64.powf(-nines);
        if behind * latencies.count() as f64 >= 1.0 {
            points.push((nines, latencies.at(1.0 - behind).max(1) as f64));
        }
        nines += 0.05;
    }
    points
}

fn percentile_chart(lines: &[Line]) -> String {
    let ticks = [
        (0.301, "p50"),
        (1.0, "p90"),
        (2.0, "p99"),
        (3.0, "p99.9"),
        (4.0, "p99.99"),
        (5.0, "p99.999"),
    ];
    let ticks = ticks.map(|(at, name)| (at, name.to_owned()));
    chart(lines, &ticks, None)
}

fn load_chart(sweep: &Sweep) -> String {
    let line = |name: &str, quantile: f64| Line {
        name: name.to_owned(),
        points: sweep
            .points
            .iter()
            .map(|point| {
                (
                    point.offered(),
                    point.outcome.response.at(quantile).max(1) as f64,
                )
            })
            .collect(),
    };
    let most = sweep.points.iter().map(Point::offered).fold(0.0, f64::max);
    let ticks: Vec<_> = (0..=5)
        .map(|part| most * f64::from(part) / 5.0)
        .map(|at| (at, format!("{}/s", super::number(at.round()))))
        .collect();
    chart(
        &[line("p50", 0.5), line("p99", 0.99), line("p99.9", 0.999)],
        &ticks,
        sweep.knee,
    )
}

/// Maps values to positions in a chart. The horizontal axis is linear. The vertical axis is a time
/// and logarithmic.
struct PlotArea {
    right: f64,
    low: f64,
    high: f64,
}

impl PlotArea {
    fn around(lines: &[Line]) -> PlotArea {
        let all = || lines.iter().flat_map(|line| &line.points);
        let times = || all().map(|point| point.1.log10());
        let low = times().fold(f64::MAX, f64::min).floor();
        PlotArea {
            right: all().map(|point| point.0).fold(f64::MIN_POSITIVE, f64::max),
            low,
            high: times().fold(0.0, f64::max).ceil().max(low + 1.0),
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - 20.0) * value / self.right
    }

    fn y(&self, time: f64) -> f64 {
        let part = (time.log10() - self.low) / (self.high - self.low);
        (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 20.0) * part
    }

    /// Draws a horizontal line for each power of ten, and the names of `ticks` below the chart.
    fn axes(&self, ticks: &[(f64, String)]) -> String {
        let mut svg = String::new();
        let mut exponent = self.low;
        while exponent <= self.high {
            let at = self.y(10_f64.powf(exponent));
            let _ = write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#9ca3af\" stroke-width=\".5\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                time(10_f64.powf(exponent))
            );
            exponent += 1.0;
        }
        for (at, name) in ticks.iter().filter(|(at, _)| *at <= self.right * 1.001) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{name}</text>",
                self.x(*at),
                HEIGHT - BOTTOM + 18.0
            );
        }
        svg
    }
}

fn chart(lines: &[Line], ticks: &[(f64, String)], mark: Option<f64>) -> String {
    let frame = PlotArea::around(lines);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    svg += &frame.axes(ticks);
    if let Some(mark) = mark {
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"10\" y2=\"{1:.0}\" stroke=\"#6b7280\" stroke-dasharray=\"4\"/>\
             <text x=\"{0:.1}\" y=\"10\" text-anchor=\"end\">knee </text>",
            frame.x(mark),
            HEIGHT - BOTTOM
        );
    }
    for (place, line) in lines.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let points: Vec<_> = line
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", frame.x(point.0), frame.y(point.1)))
            .collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" style=\"fill:{colour}\">{}</text>",
            points.join(" "),
            LEFT + 10.0,
            24.0 + 16.0 * place as f64,
            escape(&line.name)
        );
    }
    svg + "</svg>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
