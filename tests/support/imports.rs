//! The imports between the modules of the crate, from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library, with the modules that it imports.
pub(crate) fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(&root) {
        let importer = module(&path, &root);
        if importer == "lib" || importer == "main" {
            continue;
        }
        let imported = imports(&code(&path));
        let others = imported.into_iter().filter(|name| *name != importer);
        edges.entry(importer.clone()).or_default().extend(others);
    }
    edges
}

/// The Rust files in a folder and its subfolders.
pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The module that a file belongs to: the first component below `src`.
pub(crate) fn module(path: &Path, root: &Path) -> String {
    let first = path.strip_prefix(root).unwrap().components().next();
    let first = Path::new(first.unwrap().as_os_str()).with_extension("");
    first.to_string_lossy().into_owned()
}

/// The modules of the crate that a source text names: after `crate::`, also inside braces.
pub(crate) fn imports(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        let parts: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list
                .split('}')
                .next()
                .unwrap_or_default()
                .split(',')
                .collect(),
            None => vec![rest],
        };
        for part in parts {
            let name: String = part
                .trim()
                .chars()
                .take_while(|character| character.is_ascii_lowercase() || *character == '_')
                .collect();
            if !name.is_empty() {
                modules.push(name);
            }
        }
    }
    modules
}

/// The text of a file without comments and unit tests.
pub(crate) fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}
