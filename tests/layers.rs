//! The architecture: which module may import which. The list is the table on the front page of
//! `cargo doc` (`src/lib.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The modules that each module may import, besides itself.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Modules whose code depends only on its arguments.
const PURE: [&str; 3] = ["protocol", "handshake", "lab/script"];

/// Names that pure code must not use: I/O, clocks, randomness, asynchrony.
const IMPURE: [&str; 11] = [
    "tokio",
    "mio",
    "hyper",
    "rustix",
    "fastrand",
    "Instant",
    "SystemTime",
    "File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

#[test]
fn every_import_is_in_the_list() {
    let edges = listed_edges();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let files = sources();
    assert!(files.len() > 30, "the sources were not found");
    for file in &files {
        let source = Source::read(file);
        wrong.extend(source.violations(&edges));
        used.extend(source.edges());
    }
    for (importer, imported) in &edges {
        for imported in imported {
            if !used.contains(&(importer.clone(), imported.clone())) {
                wrong.push(format!(
                    "src/lib.rs lists {importer} -> {imported}, but no code uses it"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_list_has_no_cycle() {
    let mut edges = listed_edges();
    while let Some(leaf) = edges
        .iter()
        .find_map(|(module, imported)| imported.is_empty().then(|| module.clone()))
    {
        edges.remove(&leaf);
        for imported in edges.values_mut() {
            imported.remove(&leaf);
        }
    }
    assert!(edges.is_empty(), "on a cycle, or above one: {edges:?}");
}

/// A test of the test: each rule finds code that breaks it, in unit tests and macros, too.
#[test]
fn each_rule_finds_its_violations() {
    let edges = Edges::from([("engine".into(), BTreeSet::from(["protocol".into()]))]);
    for (file, text, expected) in [
        ("engine/a.rs", "use crate::protocol::Message;", None),
        ("engine/a.rs", "use crate::engine::Peer;", None),
        (
            "engine/a.rs",
            "use crate::http::Router;",
            Some("engine -> http"),
        ),
        (
            "engine/a.rs",
            "use crate::{protocol, http::Router};",
            Some("engine -> http"),
        ),
        (
            "engine/a.rs",
            "fn f() { crate::http::serve() }",
            Some("engine -> http"),
        ),
        (
            "engine/a.rs",
            "fn f(_: &crate::http::Router) {}",
            Some("engine -> http"),
        ),
        (
            "engine/a.rs",
            r#"fn f() { print!("{}", crate::http::NAME) }"#,
            Some("engine -> http"),
        ),
        (
            "engine/a.rs",
            "#[cfg(test)] mod tests { use crate::http::Router; }",
            Some("engine -> http"),
        ),
        ("engine/a.rs", "// use crate::http::Router;", None),
        ("engine/a.rs", "use crate::Router;", Some("re-export")),
        ("engine/a.rs", "use super::Peer;", None),
        (
            "engine/a.rs",
            "use super::super::Peer;",
            Some("super::super"),
        ),
        (
            "engine/mod.rs",
            "use super::http::Router;",
            Some("leaves its module"),
        ),
        ("engine/mod.rs", "mod tests { use super::Peer; }", None),
        (
            "new/mod.rs",
            "use crate::protocol::Message;",
            Some("new -> protocol"),
        ),
        (
            "protocol/a.rs",
            "use std::time::Instant;",
            Some("names Instant"),
        ),
        (
            "protocol/a.rs",
            "fn f() { tokio::spawn(g()) }",
            Some("names tokio"),
        ),
        ("protocol/a.rs", "async fn f() {}", Some("is asynchronous")),
        ("protocol/a.rs", "use std::fs::File;", Some("names File")),
    ] {
        let found = Source::parse(file, text).violations(&edges);
        match expected {
            None => assert!(found.is_empty(), "{text}: {found:?}"),
            Some(rule) => assert!(
                found.len() == 1 && found[0].contains(rule),
                "{text}: {found:?}, not {rule}"
            ),
        }
    }
}

/// The list: rows of `module | what it holds | imports` in the documentation of `src/lib.rs`.
fn listed_edges() -> Edges {
    let text = fs::read_to_string(root().join("lib.rs")).unwrap();
    let names = |cell: &str| -> Vec<String> {
        let names = cell.split(&[',', '`', '[', ']', ' ']);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut edges = Edges::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("//! | ") else {
            continue;
        };
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [module, _, imports] = cells[..] else {
            continue;
        };
        if let [module] = &names(module)[..]
            && module != "module"
        {
            let imports = names(imports).into_iter().filter(|name| name != "-");
            edges.insert(module.clone(), imports.collect());
        }
    }
    assert!(
        edges.len() > 8,
        "src/lib.rs has no list of modules: {edges:?}"
    );
    edges
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file except `lib.rs`, whose re-exports are the public API.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path != root().join("lib.rs")
            {
                files.push(path);
            }
        }
    }
    files
}

/// A source file and every path that it names.
struct Source {
    /// Relative to `src`.
    file: String,
    /// The module that the file belongs to: the first part of its path.
    module: String,
    paths: Paths,
}

/// The paths in `use` items, expressions, types, attributes and macros of a file.
#[derive(Default)]
struct Paths {
    /// Each with the number of inline modules around it.
    paths: Vec<(usize, Vec<String>)>,
    depth: usize,
    is_async: bool,
}

impl Source {
    fn read(path: &Path) -> Source {
        let file = path.strip_prefix(root()).unwrap().to_string_lossy();
        Source::parse(&file, &fs::read_to_string(path).unwrap())
    }

    fn parse(file: &str, text: &str) -> Source {
        let first = file.split('/').next().unwrap();
        let mut paths = Paths::default();
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        paths.visit_file(&parsed);
        Source {
            file: file.to_owned(),
            module: first.trim_end_matches(".rs").to_owned(),
            paths,
        }
    }

    /// The modules of the crate that the file imports.
    fn edges(&self) -> BTreeSet<(String, String)> {
        let imported = self
            .paths
            .paths
            .iter()
            .filter_map(|(_, path)| match &path[..] {
                [root, module, ..] if root == "crate" => Some(module.clone()),
                _ => None,
            });
        imported
            .filter(|module| *module != self.module && !module.starts_with(char::is_uppercase))
            .map(|module| (self.module.clone(), module))
            .collect()
    }

    fn violations(&self, edges: &Edges) -> Vec<String> {
        let mut wrong = BTreeSet::new();
        for (importer, imported) in self.edges() {
            let listed = edges.get(&importer);
            if !listed.is_some_and(|listed| listed.contains(&imported)) {
                wrong.insert(format!("{importer} -> {imported} is not in the list"));
            }
        }
        let stem = self.file.trim_end_matches(".rs").trim_end_matches("/mod");
        let is_root = !stem.contains('/');
        let is_pure = PURE.contains(&&*self.module) || PURE.contains(&stem);
        for (depth, path) in &self.paths.paths {
            let shown = path.join("::");
            match &path[..] {
                [root, name, ..] if root == "crate" && name.starts_with(char::is_uppercase) => {
                    wrong.insert(format!("{shown} is a re-export: name the module itself"));
                }
                [first, second, ..] if first == "super" && second == "super" => {
                    wrong.insert(format!("{shown}: super::super"));
                }
                [first, ..] if first == "super" && is_root && *depth == 0 => {
                    wrong.insert(format!("{shown} leaves its module"));
                }
                _ => {}
            }
            if is_pure && let Some(name) = path.iter().find(|name| IMPURE.contains(&&***name)) {
                wrong.insert(format!("pure code names {name}"));
            }
        }
        if is_pure && self.paths.is_async {
            wrong.insert("pure code is asynchronous".to_owned());
        }
        let named = wrong
            .into_iter()
            .map(|rule| format!("src/{}: {rule}", self.file));
        named.collect()
    }
}

impl Paths {
    fn add(&mut self, path: Vec<String>) {
        self.paths.push((self.depth, path));
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
            syn::UseTree::Name(name) => self.add(with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before.to_vec()),
        }
    }

    /// The paths among the tokens of a macro: names joined by `::`.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.add(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add(std::mem::take(&mut path));
                    self.add_tokens(group.stream());
                }
                _ => self.add(std::mem::take(&mut path)),
            }
        }
        self.add(path);
    }
}

impl Visit<'_> for Paths {
    fn visit_item_mod(&mut self, module: &syn::ItemMod) {
        self.depth += 1;
        visit::visit_item_mod(self, module);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.add(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &syn::Macro) {
        self.add_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_signature(&mut self, signature: &syn::Signature) {
        self.is_async |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &syn::ExprAsync) {
        self.is_async = true;
        visit::visit_expr_async(self, block);
    }
}
