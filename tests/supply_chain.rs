//! The dependencies of the server: no version with a known vulnerability, a reason for each, and no
//! hash map whose order a client can predict.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use report::{Kind, figure};

/// The first versions that fix the advisories that concern a server on a public address. A crate
/// that is not in the tree has none.
const FLOOR: [(&str, &str); 10] = [
    ("bytes", "1.11.1"),
    ("h2", "0.4.16"),
    ("hyper", "1.12.0"),
    ("rustls", "0.23.18"),
    ("rustls-webpki", "0.103.13"),
    ("slab", "0.4.11"),
    ("smallvec", "1.6.1"),
    ("tokio", "1.44.2"),
    ("tracing-subscriber", "0.3.20"),
    ("tungstenite", "0.30.0"),
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Major, minor and patch.
fn version(text: &str) -> Vec<u32> {
    text.split(['.', '-', '+'])
        .map_while(|part| part.parse().ok())
        .collect()
}

#[test]
fn attack_46_no_dependency_has_a_known_vulnerability() {
    let lock = read("Cargo.lock");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find(|line| line.starts_with(name)).unwrap();
            line.split('"').nth(1).unwrap()
        };
        let (name, version) = (field("name = "), field("version = "));
        versions.entry(name).or_default().push(version);
    }
    let mut checked = 0;
    for (name, floor) in FLOOR {
        for found in versions.get(name).into_iter().flatten() {
            assert!(version(found) >= version(floor), "{name} {found} < {floor}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "the lock file was not parsed");
    figure(
        Kind::Attack,
        46,
        "crates below the first version without a known vulnerability",
        0,
        format_args!("0 of {checked}"),
    );
}

#[test]
fn every_direct_dependency_has_a_reason() {
    let manifest = read("Cargo.toml");
    for section in ["[dependencies]", "[dev-dependencies]"] {
        let lines = manifest.split(section).nth(1).unwrap();
        let lines = lines.split("\n[").next().unwrap().lines();
        let mut dependencies = 0;
        for line in lines.filter(|line| line.contains(" = ")) {
            let why = line.rsplit_once("# ").map_or("", |(_, why)| why);
            assert!(why.len() >= 10, "a dependency without a reason: {line}");
            dependencies += 1;
        }
        assert!(dependencies > 3, "{section} was not parsed");
    }
}

/// Attack 20: maps of the standard library have a new random key in every process. Other hashers
/// are faster, but a client can choose names that collide.
#[test]
fn attack_20_every_map_has_a_randomly_keyed_hasher() {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut maps = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            maps += source.matches("HashMap<").count() + source.matches("HashSet<").count();
            for other in [
                "BuildHasher",
                "with_hasher",
                "hashbrown",
                "FxHash",
                "ahash",
                "foldhash",
            ] {
                assert!(!source.contains(other), "{}: {other}", path.display());
            }
        }
    }
    assert!(maps > 2, "the sources were not parsed");
    figure(
        Kind::Attack,
        20,
        "maps in the server without a random key per process",
        0,
        format_args!("0 of {maps}"),
    );
}

/// Tests, benchmarks and fuzzers change no lock file: every cargo command that resolves
/// dependencies has `--locked`.
#[test]
fn every_cargo_command_in_a_script_is_locked() {
    const RESOLVE: [&str; 11] = [
        "bench",
        "build",
        "check",
        "clippy",
        "deny",
        "doc",
        "install",
        "run",
        "tarpaulin",
        "test",
        "update",
    ];
    let mut commands = 0;
    for script in [
        "Dockerfile",
        "benches/run",
        "fuzz/run",
        "package/build-static",
        "tests/interop/run",
        "tests/package/run",
        "tests/package/docker",
        "tests/run",
    ] {
        let text = read(script).replace("\\\n", " ");
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        for command in lines.flat_map(|line| line.split(['|', ';', '&'])) {
            let Some((_, rest)) = command.split_once("cargo ") else {
                continue;
            };
            let name = rest.split_whitespace().next().unwrap_or_default();
            // Skips commands that are only mentioned.
            let is_run = !command.contains("'cargo") && !rest.contains("--version");
            if RESOLVE.contains(&name) && is_run {
                assert!(rest.contains("--locked"), "{script}: {command}");
                commands += 1;
            }
        }
    }
    assert!(commands > 12, "the scripts were not parsed");
}

/// New fuzz inputs go to a folder that git ignores.
#[test]
fn new_fuzz_inputs_are_kept_in_target() {
    let run = read("fuzz/run");
    let (_, fuzz) = run.split_once("\nfuzz() {").unwrap();
    let (fuzz, _) = fuzz.split_once("\n}").unwrap();
    assert!(run.contains("found=$PWD/target/fuzz\n"));
    // libFuzzer writes new inputs to the first folder of its arguments.
    assert!(fuzz.contains(r#"run "$1" "$found/corpus/$1" "fuzz/corpus/$1" --"#));
    assert!(fuzz.contains(r#"-artifact_prefix="$found/artifacts/$1/""#));
}
