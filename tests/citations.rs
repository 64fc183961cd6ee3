//! Every row that a test cites, by its name or in a comment, is in `tests/tables`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The prefixes by which tests cite the rows of each table.
const CITED: [(&str, &[&str]); 4] = [
    ("attacks", &["attack_", "attack ", "attacks "]),
    ("faults", &["fault_", "fault "]),
    ("handshake", &["r"]),
    ("closing", &["c"]),
];

#[test]
fn every_cited_row_is_in_its_table() {
    let tables: BTreeMap<&str, BTreeSet<String>> = CITED
        .iter()
        .map(|(table, _)| (*table, rows(table)))
        .collect();
    for (table, rows) in &tables {
        assert!(rows.len() > 15, "{table}.md has no rows: {rows:?}");
    }
    let mut missing = Vec::new();
    let mut found = 0;
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (line, text) in text.lines().enumerate() {
            for (table, row) in citations(text) {
                found += 1;
                if !tables[table].contains(&row) {
                    let file = file.display();
                    missing.push(format!("{file}:{}: {table} row {row}", line + 1));
                }
            }
        }
    }
    assert!(found > 100, "only {found} citations were found");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn citations_are_found_in_names_and_comments() {
    for (line, expected) in [
        ("fn attack_47_attachments() {", Some(("attacks", "47"))),
        (
            "/// Attack 47: JSON is nested 64 deep at most.",
            Some(("attacks", "47")),
        ),
        (
            "async fn c26_close_then_reset() {",
            Some(("closing", "C26")),
        ),
        ("fn r7_one_byte_per_segment() {", Some(("handshake", "7"))),
        ("// Fault 21 is a storm.", Some(("faults", "21"))),
        ("let c26 = 1;", None),
        ("the attack of 3 clients", None),
    ] {
        let found = citations(line);
        let expected: Vec<_> = expected
            .map(|(table, row)| (table, row.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(found, expected, "{line}");
    }
}

/// The rows that a line cites.
fn citations(line: &str) -> Vec<(&'static str, String)> {
    let line = line.to_ascii_lowercase();
    let mut cited = Vec::new();
    for (table, prefixes) in CITED {
        for prefix in prefixes {
            // A single letter cites a row only in a test name: elsewhere it is a variable.
            let is_letter = prefix.len() == 1;
            let pattern = match is_letter {
                true => format!("fn {prefix}"),
                false => (*prefix).to_owned(),
            };
            for (start, _) in line.match_indices(&pattern) {
                let rest = &line[start + pattern.len()..];
                let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let after = rest[number.len()..].chars().next();
                if !number.is_empty() && (!is_letter || after == Some('_')) {
                    let row = match is_letter && *prefix != "r" {
                        true => format!("{}{number}", prefix.to_uppercase()),
                        false => number,
                    };
                    cited.push((table, row));
                }
            }
        }
    }
    cited
}

/// The first cells of a table's rows.
fn rows(table: &str) -> BTreeSet<String> {
    let file = root().join("tests/tables").join(format!("{table}.md"));
    let text = fs::read_to_string(file).unwrap();
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.map(str::to_owned).collect()
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = ["src", "tests", "fuzz/properties", "benches"]
        .map(|folder| root().join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() && !path.ends_with("target") => folders.push(path),
                Some("rs") if !path.ends_with("tests/citations.rs") => files.push(path),
                _ => {}
            }
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
