//! `docs/architecture.md` shows the current modules, and names files that exist.
//!
//! To update its picture and list: `FRAMELOOP_WRITE_DOCS=1 cargo test --all-features --test architecture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

#[allow(dead_code, reason = "tests/layers.rs uses the rest")]
#[path = "support/imports.rs"]
mod imports;

type Edges = BTreeMap<String, BTreeSet<String>>;

const BEGIN: &str = "<!-- modules: written by tests/architecture.rs -->\n";
const END: &str = "<!-- end of modules -->\n";

#[test]
fn the_picture_shows_the_current_imports() {
    let path = root().join("docs/architecture.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the list has a start marker");
    let (_, after) = rest.split_once(END).expect("the list has an end marker");
    let edges = imports::edges();
    for module in edges.keys() {
        let row = format!("`{module}`");
        assert!(
            before.contains(&row),
            "the document does not describe {module}"
        );
    }
    let expected = format!("{before}{BEGIN}{}{END}{after}", shown(&edges));
    if std::env::var_os("FRAMELOOP_WRITE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "the modules have changed: run FRAMELOOP_WRITE_DOCS=1 cargo test --test architecture, which writes:\n{expected}"
    );
}

#[test]
fn an_import_implied_by_others_is_not_drawn() {
    let edges = Edges::from([
        ("top".into(), ["middle".into(), "bottom".into()].into()),
        ("middle".into(), ["bottom".into()].into()),
        ("bottom".into(), BTreeSet::new()),
    ]);
    assert_eq!(
        drawn(&edges),
        [("middle", "bottom"), ("top", "middle")].into()
    );
}

/// Every file that a document names in backquotes or links to exists.
#[test]
fn the_documents_name_files_that_exist() {
    let mut missing = Vec::new();
    let mut found = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for (line, text) in text.lines().enumerate() {
            for (name, exists) in named_files(text, folder) {
                found += 1;
                if !exists {
                    let document = document.display();
                    missing.push(format!("{document}:{}: {name}", line + 1));
                }
            }
        }
    }
    assert!(found > 50, "only {found} names were found");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn names_and_links_are_found() {
    let seen = |line: &str| named_files(line, root());
    assert_eq!(
        seen("`src/lib.rs` and `src/none.rs`"),
        [("src/lib.rs".into(), true), ("src/none.rs".into(), false)]
    );
    assert_eq!(seen("[a](README.md#top)"), [("README.md".into(), true)]);
    assert_eq!(seen("[a](https://example.com) `GET /x.rs`"), []);
}

/// Every `module::test_name` in a document is a test of that module.
#[test]
fn the_documents_name_tests_that_exist() {
    let files = imports::sources(&root().join("tests"));
    let texts: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    let document = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let names = document.split('`').skip(1).step_by(2);
    let tests: Vec<(&str, &str)> = names
        .filter_map(|name| name.split_once("::"))
        .filter(|(module, _)| module.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();
    assert!(tests.len() > 20, "only {} tests were found", tests.len());
    for (module, test) in tests {
        let exists = texts.iter().any(|(path, text)| {
            path.file_stem().is_some_and(|stem| stem == module)
                && text.contains(&format!("fn {test}("))
        });
        assert!(exists, "no test {module}::{test}");
    }
}

/// The picture, then a list of all imports.
fn shown(edges: &Edges) -> String {
    let mut text = String::from("\n```mermaid\ngraph TD\n");
    for (importer, imported) in drawn(edges) {
        writeln!(text, "  {importer} --> {imported}").unwrap();
    }
    text += "```\n\n| module | imports |\n|---|---|\n";
    for (importer, imported) in edges {
        let imported: Vec<String> = imported.iter().map(|name| format!("`{name}`")).collect();
        let imported = match imported.is_empty() {
            true => "nothing of the crate".into(),
            false => imported.join(", "),
        };
        writeln!(text, "| `{importer}` | {imported} |").unwrap();
    }
    text + "\n"
}

/// The imports without those that follow from others.
fn drawn(edges: &Edges) -> BTreeSet<(&str, &str)> {
    let mut drawn = BTreeSet::new();
    for (importer, imported) in edges {
        for name in imported {
            let others = imported.iter().filter(|other| *other != name);
            let mut seen = BTreeSet::from([importer.as_str()]);
            if !others
                .into_iter()
                .any(|other| leads(edges, other, name, &mut seen))
            {
                drawn.insert((importer.as_str(), name.as_str()));
            }
        }
    }
    drawn
}

fn leads<'a>(edges: &'a Edges, from: &'a str, to: &str, seen: &mut BTreeSet<&'a str>) -> bool {
    from == to
        || (seen.insert(from)
            && edges
                .get(from)
                .is_some_and(|next| next.iter().any(|next| leads(edges, next, to, seen))))
}

/// The files that a line names in backquotes, relative to the root, or links to, relative to the
/// document; and whether they exist.
fn named_files(line: &str, folder: &Path) -> Vec<(String, bool)> {
    const FOLDERS: [&str; 7] = [
        "src/",
        "tests/",
        "benches/",
        "fuzz/",
        "docs/",
        "examples/",
        "package/",
    ];
    let mut named = Vec::new();
    for quoted in line.split('`').skip(1).step_by(2) {
        let is_path = FOLDERS.iter().any(|folder| quoted.starts_with(folder));
        if is_path && !quoted.contains([' ', '*', '{', '<']) {
            named.push((quoted.to_owned(), root().join(quoted).exists()));
        }
    }
    for (start, _) in line.match_indices("](") {
        let link = line[start + 2..].split(')').next().unwrap_or_default();
        let path = link.split('#').next().unwrap_or_default();
        if !path.is_empty() && !path.contains(':') {
            named.push((path.to_owned(), folder.join(path).exists()));
        }
    }
    named
}

fn documents() -> Vec<PathBuf> {
    let paths = fs::read_dir(root().join("docs")).unwrap();
    let paths = paths.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
