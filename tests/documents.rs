//! The commands in README.md and docs/*.md work, and their links lead somewhere.
//!
//! The test of a block depends on its kind:
//!
//! - `sh` runs in a new folder, against a server of this build in place of 127.0.0.1:8000. A command
//!   that starts a server must have `--print-config`. Commands that take minutes (cargo, tests/run and
//!   the like) do not run: the script and the targets that they name must exist.
//! - `python` and `js` run likewise. `nginx`, `haproxy` and `yaml` are checked by that program.
//! - `rust` is compiled as a doctest: src/lib.rs must include the document.
//! - Other kinds are not commands.
//!
//! `<!-- not run: REASON -->` before a block skips it. A missing tool counts as skipped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use process::{FRAMELOOP, ServerProcess, succeeds};
use support::*;

#[test]
fn each_block_of_commands_runs() {
    let server = ServerProcess::start(&[]);
    let (mut ran, mut marked, mut failures) = (0, 0, Vec::new());
    let mut skipped: Vec<String> = Vec::new();
    for (at, outcome) in outcomes(&server.address.to_string()) {
        match outcome {
            Outcome::Ran => ran += 1,
            Outcome::Marked => marked += 1,
            Outcome::NoCommand => {}
            Outcome::Skipped(tool) => skipped.push(format!("{at} ({tool})")),
            Outcome::Failed(why) => failures.push(format!("{at}: {why}")),
        }
    }
    println!("{ran} blocks ran, {marked} are marked as not run");
    for skipped in &skipped {
        println!("skipped block: {skipped}");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    assert!(ran >= 15, "only {ran} blocks ran");
}

#[test]
fn the_instruction_counts_are_the_stored_ones() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let stored = read("benches/results/instructions.json");
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let document = read("docs/benchmarks.md");
    for (operation, count) in stored["counts"].as_object().unwrap() {
        let count = count.as_u64().unwrap();
        let count = match count {
            0..1_000 => count.to_string(),
            _ => format!("{},{:03}", count / 1_000, count % 1_000),
        };
        let row = format!("| {operation} | {count} |");
        assert!(document.contains(&row), "docs/benchmarks.md lacks: {row}");
    }
}

#[test]
fn each_link_leads_to_an_existing_file_and_heading() {
    let mut broken = Vec::new();
    let mut found = 0;
    // Links of the surrounding documents count, too.
    let around = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name));
    for file in documents().into_iter().chain(around) {
        let text = without_code(&fs::read_to_string(&file).unwrap());
        for link in links(&text) {
            found += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            let is_there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !is_there {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(found > 20, "only {found} links were found");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn readme_stays_short() {
    for name in ["README.md", "README.zh-CN.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 150, "{name} has {lines} lines");
    }
}

/// The outcome of each block, with its place. The blocks run concurrently, because most of their
/// time is waiting.
fn outcomes(address: &str) -> Vec<(String, Outcome)> {
    const SIDE_BY_SIDE: usize = 4;
    let documents: Vec<_> = documents()
        .into_iter()
        .flat_map(|file| {
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            let blocks = blocks(&fs::read_to_string(&file).unwrap());
            blocks.into_iter().map(move |block| (name.clone(), block))
        })
        .collect();
    let run = &|first: usize| {
        let own = documents.iter().skip(first).step_by(SIDE_BY_SIDE);
        let run = |(name, block): &(String, Block)| {
            (format!("{name}:{}", block.line), block.run(name, address))
        };
        own.map(run).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|first| scope.spawn(move || run(first)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A fenced block of a document.
struct Block {
    line: usize,
    kind: String,
    text: String,
    is_marked: bool,
}

enum Outcome {
    Ran,
    Marked,
    NoCommand,
    Skipped(&'static str),
    Failed(String),
}

impl Block {
    fn run(&self, document: &str, address: &str) -> Outcome {
        if self.is_marked {
            return Outcome::Marked;
        }
        let text = self.text.replace("127.0.0.1:8000", address);
        match self.kind.as_str() {
            "sh" => self.shell(&text),
            "python" => {
                let python = root().join("target/interop/venv/bin/python");
                let python = python.to_str().unwrap();
                let imports = text.lines().filter(|line| line.contains("import "));
                let imports = imports.collect::<Vec<_>>().join("\n");
                match succeeds(python, &["-c", &imports]) {
                    true => run(python, &["-c", &text]),
                    false => Outcome::Skipped("python with the packages of tests/interop"),
                }
            }
            "js" => match succeeds(
                "node",
                &["-e", "new WebSocket('ws://127.0.0.1:1').onerror = () => {}"],
            ) {
                true => run("node", &["-e", &text]),
                false => Outcome::Skipped("node with WebSocket"),
            },
            "nginx" => match succeeds("nginx", &["-v"]) {
                true => nginx(&text),
                false => Outcome::Skipped("nginx"),
            },
            "haproxy" => match succeeds("haproxy", &["-v"]) {
                true => checked("haproxy.cfg", &text, |file| {
                    run("haproxy", &["-c", "-f", file])
                }),
                false => Outcome::Skipped("haproxy"),
            },
            "yaml" => match succeeds("/usr/bin/python3", &["-c", "import yaml"]) {
                true => checked("block.yaml", &text, |file| {
                    let load = "import sys, yaml; yaml.safe_load(open(sys.argv[1]))";
                    run("/usr/bin/python3", &["-c", load, file])
                }),
                false => Outcome::Skipped("python3-yaml"),
            },
            kind if kind.starts_with("rust") => {
                let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
                match library.contains(&format!("include_str!(\"../{document}\")")) {
                    true => Outcome::Ran,
                    false => {
                        Outcome::Failed(String::from("src/lib.rs does not include it as a doctest"))
                    }
                }
            }
            _ => Outcome::NoCommand,
        }
    }

    fn shell(&self, text: &str) -> Outcome {
        const SLOW: [&str; 8] = [
            "cargo ",
            "tests/",
            "fuzz/",
            "benches/",
            "package/",
            "git ",
            "docker ",
            "valgrind ",
        ];
        let (mut script, mut is_slow) = (String::new(), false);
        for line in text.lines() {
            let command = line.trim_start();
            let words = command.split(' ').skip_while(|word| word.contains('='));
            let command = words.collect::<Vec<_>>().join(" ");
            if SLOW.iter().any(|slow| command.starts_with(slow)) {
                is_slow = true;
                if let Err(why) = names_what_exists(&command) {
                    return Outcome::Failed(why);
                }
            } else {
                script.push_str(line);
                script.push('\n');
            }
        }
        for tool in ["websocat", "redis-cli", "openssl"] {
            if script.contains(tool) && !succeeds("which", &[tool]) {
                return Outcome::Skipped(tool);
            }
        }
        if is_slow
            && script
                .lines()
                .all(|line| line.trim().is_empty() || line.starts_with('#'))
        {
            return Outcome::Ran;
        }
        run(
            "timeout",
            &["20", "bash", "-euo", "pipefail", "-c", &script],
        )
    }
}

/// Whether the script and the cargo targets of a slow command exist.
fn names_what_exists(command: &str) -> Result<(), String> {
    let words: Vec<&str> = command
        .split('#')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    if words[0].contains('/') && !root().join(words[0]).exists() {
        return Err(format!("{} does not exist", words[0]));
    }
    let folders = [
        ("--test", "tests"),
        ("--bench", "benches"),
        ("--example", "examples"),
    ];
    for pair in words.windows(2) {
        let Some((_, folder)) = folders.iter().find(|(flag, _)| *flag == pair[0]) else {
            continue;
        };
        let file = root().join(folder).join(format!("{}.rs", pair[1]));
        let main = root().join(folder).join(pair[1]).join("main.rs");
        if !pair[1].starts_with('-') && !file.exists() && !main.exists() {
            return Err(format!("{} {} does not exist", pair[0], pair[1]));
        }
    }
    Ok(())
}

/// Checks a server block with nginx.
fn nginx(text: &str) -> Outcome {
    let folder = temporary("nginx");
    let folder = folder.display();
    let text = format!(
        "pid {folder}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; {text} }}\n"
    );
    checked("nginx.conf", &text, |file| {
        run("nginx", &["-t", "-q", "-c", file])
    })
}

fn checked(name: &str, text: &str, check: impl Fn(&str) -> Outcome) -> Outcome {
    let file = temporary("checked").join(name);
    fs::write(&file, text).unwrap();
    check(file.to_str().unwrap())
}

/// Runs a program in a new folder, with this build's frameloop first in the path.
fn run(program: &str, arguments: &[&str]) -> Outcome {
    let binaries = Path::new(FRAMELOOP).parent().unwrap().display();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(temporary("blocks"))
        .env("PATH", format!("{binaries}:{path}"))
        .env("FRAMELOOP_LOAD_DURATION", "200ms")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match output.status.success() {
        true => Outcome::Ran,
        false => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Outcome::Failed(format!(
                "{}\n{}{}",
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            ))
        }
    }
}

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("documents")
        .join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn documents() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.extend(["README.md", "README.zh-CN.md"].map(|name| root().join(name)));
    files.sort();
    files
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut is_marked = false;
    for (line, text) in text.lines().enumerate() {
        match (&mut open, text.trim_start().strip_prefix("```")) {
            (None, Some(kind)) => {
                open = Some(Block {
                    line: line + 1,
                    kind: kind.to_owned(),
                    text: String::new(),
                    is_marked,
                });
            }
            (None, None) if text.trim().is_empty() => {}
            (None, None) => is_marked = text.starts_with("<!-- not run: "),
            (Some(_), Some(_)) => {
                blocks.extend(open.take());
                is_marked = false;
            }
            (Some(block), None) => {
                block.text.push_str(text);
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

fn without_code(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of links and pictures, without web addresses.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://") && !target.contains(' '))
        .collect()
}

/// The anchors of headings, by GitHub's rules.
fn anchors(text: &str) -> BTreeSet<String> {
    let text = without_code(text);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
