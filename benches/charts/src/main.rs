//! Draws `benches/results/*.svg` from `benches/results/*.json`: one bar for each server, shorter
//! is better. The colours and greys are readable on a light and on a dark page.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A chart of horizontal bars in groups.
struct Chart {
    title: &'static str,
    conditions: String,
    groups: Vec<Group>,
}

/// Bars to compare with each other. Each group has its own scale.
struct Group {
    name: String,
    bars: Vec<Bar>,
}

struct Bar {
    server: String,
    value: f64,
    label: String,
}

fn main() -> Result<()> {
    let results = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results"));
    let charts = [
        ("echo", echo(&read(&results, "echo")?)),
        ("fanout", fan_out(&read(&results, "fanout")?)),
        ("memory", memory(&read(&results, "connections")?)),
        ("handshakes", handshakes(&read(&results, "connections")?)),
    ];
    for (name, chart) in charts {
        let file = results.join(name).with_extension("svg");
        chart.draw(&file)?;
        println!("drawn: {}", file.display());
    }
    Ok(())
}

fn read(results: &Path, name: &str) -> Result<Value> {
    let file = results.join(name).with_extension("json");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn echo(results: &Value) -> Chart {
    /// Size, connections and depth of the drawn cells.
    const DRAWN: [(u64, u64, u64); 5] = [
        (20, 50, 1),
        (20, 50, 16),
        (1 << 10, 50, 16),
        (16 << 10, 50, 1),
        (1 << 20, 50, 1),
    ];
    let cell = |(size, connections, depth): (u64, u64, u64)| {
        let cell = cells(results).find(|cell| {
            cell["size"] == size
                && cell["connections"] == connections
                && cell["depth"] == depth
                && cell["kind"] == "binary"
        })?;
        Some(Group {
            name: format!("{}, {depth} deep", bytes(size)),
            bars: bars(cell, "cpu_us", |value| format!("{value:.3} µs")),
        })
    };
    Chart {
        title: "Echo: CPU time of the server for a message",
        conditions: conditions(results, "binary, 50 connections"),
        groups: DRAWN.into_iter().filter_map(cell).collect(),
    }
}

fn fan_out(results: &Value) -> Chart {
    let group = |cell: &Value| Group {
        name: match (cell["members"].as_u64(), cell["burst"].as_u64()) {
            (Some(members), Some(1)) => format!("{members} members"),
            (Some(members), Some(burst)) => format!("{members} members, bursts of {burst}"),
            _ => String::new(),
        },
        bars: bars(cell, "cpu_us", |value| format!("{value:.3} µs")),
    };
    Chart {
        title: "Fan-out: CPU time of the server for a delivery",
        conditions: conditions(results, "messages of 100 bytes, raw-tcp is a loop of sends"),
        groups: cells(results).map(group).collect(),
    }
}

fn memory(results: &Value) -> Chart {
    let group = |cell: &Value| Group {
        name: format!("{} connections", cell["idle"]),
        bars: bars(cell, "resident_bytes", |value| format!("{value:.0} bytes")),
    };
    Chart {
        title: "Idle connections: resident memory of each, after one echo",
        conditions: conditions(results, "kernel memory not counted"),
        groups: cells(results)
            .filter(|cell| cell["part"] == "memory")
            .map(group)
            .collect(),
    }
}

fn handshakes(results: &Value) -> Chart {
    let group = |cell: &Value| Group {
        name: String::from("connect, handshake, close"),
        bars: bars(cell, "cpu_us", |value| format!("{value:.1} µs")),
    };
    Chart {
        title: "Opening handshakes: CPU time of the server for each",
        conditions: conditions(
            results,
            "hyper closes after the 101, raw-tcp echoes the request",
        ),
        groups: cells(results)
            .filter(|cell| cell["part"] == "handshakes")
            .map(group)
            .collect(),
    }
}

fn cells(results: &Value) -> impl Iterator<Item = &Value> {
    results["cells"].as_array().into_iter().flatten()
}

fn bars(cell: &Value, figure: &str, label: impl Fn(f64) -> String) -> Vec<Bar> {
    let servers = cell["servers"].as_object().into_iter().flatten();
    let mut bars: Vec<Bar> = servers
        .filter_map(|(server, figures)| {
            let value = figures[figure].as_f64()?;
            Some(Bar {
                server: server.clone(),
                value,
                label: label(value),
            })
        })
        .collect();
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    bars
}

fn conditions(results: &Value, of_the_bench: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!(
        "{of_the_bench}; one core of {}, Linux {}, loopback; {}, commit {}",
        text(&results["machine"]["cpu"]),
        // Older results have the version alone.
        text(&results["machine"]["kernel"]).trim_start_matches("linux "),
        text(&results["date"]).split('T').next().unwrap_or_default(),
        text(&results["versions"]["commit"]),
    )
}

fn bytes(size: u64) -> String {
    match size {
        0..1_024 => format!("{size} B"),
        1_024..1_048_576 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}

impl Chart {
    const WIDTH: u32 = 760;
    const HEAD: i32 = 64;
    const GROUP_HEAD: i32 = 26;
    const BAR: i32 = 20;
    const GROUP_GAP: i32 = 10;
    /// Left end of the bars, and length of the longest bar, in pixels.
    const LEFT: i32 = 150;
    const LONGEST: i32 = 480;
    const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);

    fn draw(&self, file: &Path) -> Result<()> {
        let height = |group: &Group| {
            Self::GROUP_HEAD + Self::BAR * group.bars.len() as i32 + Self::GROUP_GAP
        };
        let total = Self::HEAD + self.groups.iter().map(height).sum::<i32>();
        let area = SVGBackend::new(file, (Self::WIDTH, total as u32)).into_drawing_area();
        text(&area, self.title, (10, 16), 18, HPos::Left)?;
        text(&area, &self.conditions, (10, 40), 12, HPos::Left)?;
        let mut top = Self::HEAD;
        for group in &self.groups {
            text(&area, &group.name, (10, top + 10), 14, HPos::Left)?;
            let longest = group.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
            for (index, bar) in group.bars.iter().enumerate() {
                let middle = top + Self::GROUP_HEAD + Self::BAR * index as i32 + Self::BAR / 2;
                let length = (bar.value / longest * f64::from(Self::LONGEST)).max(1.0) as i32;
                text(
                    &area,
                    &bar.server,
                    (Self::LEFT - 8, middle),
                    13,
                    HPos::Right,
                )?;
                area.draw(&Rectangle::new(
                    [(Self::LEFT, middle - 7), (Self::LEFT + length, middle + 7)],
                    colour(&bar.server).filled(),
                ))?;
                let end = (Self::LEFT + length + 6, middle);
                text(&area, &bar.label, end, 13, HPos::Left)?;
            }
            top += height(group);
        }
        area.present()?;
        Ok(())
    }
}

fn text(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    text: &str,
    at: (i32, i32),
    size: u32,
    horizontal: HPos,
) -> Result<()> {
    let style = ("sans-serif", size)
        .into_font()
        .color(&Chart::GREY)
        .pos(Pos::new(horizontal, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

fn colour(server: &str) -> RGBColor {
    match server {
        "frameloop" => RGBColor(0xE0, 0x6C, 0x2B),
        "raw-tcp" | "hyper" => RGBColor(0x9A, 0xA0, 0xA6),
        _ => RGBColor(0x4C, 0x86, 0xC6),
    }
}
