//! Imports go down the floors of DESIGN, and the protocol core does no I/O.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

#[allow(dead_code, reason = "tests/architecture.rs uses the rest")]
#[path = "support/imports.rs"]
mod imports;

use imports::{code, imports, module, sources};

/// The floor of each module of the crate. A module may import what is on its own floor's modules
/// below, and itself.
const FLOORS: [(&str, u8); 17] = [
    ("protocol", 0),
    ("handshake", 1),
    ("engine", 2),
    ("log", 2),
    ("duration", 0),
    ("lock", 0),
    ("redis_link", 0),
    ("metrics", 2),
    ("rooms", 3),
    ("http", 5),
    ("server", 6),
    ("tls", 6),
    ("socketio", 6),
    ("app", 6),
    ("lab", 7),
    ("cli", 8),
    ("main", 9),
];

/// Neighbours on one floor that may know each other, one way: who, whom.
const NEIGHBOURS: [(&str, &str); 3] = [
    ("metrics", "engine"),
    ("server", "tls"),
    ("app", "socketio"),
];

/// The types that the log prints come from above it.
const EXCEPTIONS: [(&str, &str); 1] = [("log", "engine")];

/// What may not be imported although it is below: `http` joins the first two, and a tool that is a
/// client knows nothing of the server.
const STRANGERS: [(&str, &str); 10] = [
    ("engine", "handshake"),
    ("lab", "engine"),
    ("lab", "log"),
    ("lab", "metrics"),
    ("lab", "rooms"),
    ("lab", "http"),
    ("lab", "server"),
    ("lab", "socketio"),
    ("lab", "faults"),
    ("lab", "app"),
];

fn floor(module: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .unwrap_or_else(|| panic!("module '{module}' has no floor: add it to FLOORS"))
        .1
}

/// Whether a module may import another.
fn may_import(importer: &str, imported: &str) -> bool {
    importer == imported
        || (floor(importer) > floor(imported) && !STRANGERS.contains(&(importer, imported)))
        || NEIGHBOURS.contains(&(importer, imported))
        || EXCEPTIONS.contains(&(importer, imported))
}

#[test]
fn imports_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 30, "the sources were not found");
    let mut wrong = Vec::new();
    for path in files {
        let importer = module(&path, &root);
        if importer == "lib" {
            continue;
        }
        for imported in imports(&code(&path)) {
            if !may_import(&importer, &imported) {
                wrong.push(format!("{} imports {imported}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that go up:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_protocol_core_does_no_io_and_knows_no_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol");
    let files = sources(&root);
    for path in files {
        let code = code(&path);
        for word in [
            "tokio", "std::net", "std::io", "Instant", "rand", "async", "mio", "hyper",
        ] {
            let names_it = code
                .split(|character: char| {
                    !(character.is_ascii_alphanumeric() || character == '_' || character == ':')
                })
                .any(|token| token == word || token.starts_with(&format!("{word}::")));
            assert!(!names_it, "{} names {word}", path.display());
        }
    }
}

#[test]
fn the_rules_catch_what_they_are_for() {
    assert_eq!(imports("use crate::{http, log::refused};"), ["http", "log"]);
    assert!(!may_import("protocol", "engine"));
    assert!(!may_import("handshake", "engine"));
    assert!(!may_import("engine", "handshake"));
}
