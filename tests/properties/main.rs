//! The properties of the fuzz targets (`fuzz/properties.rs`) on a stable toolchain: with random
//! inputs from proptest, and with the whole fuzz corpus. Inputs that were bugs once have a name in
//! `tests/vectors`.

#![cfg(all(feature = "deflate", feature = "socketio"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod inputs;
#[path = "../../fuzz/properties.rs"]
mod properties;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

/// Each property is checked with the corpus, with random bytes, and with inputs that are mostly
/// valid.
macro_rules! properties {
    ($($name:ident: $cases:literal of $inputs:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn holds_for_the_corpus() {
                replay(stringify!($name), properties::$name::check);
            }

            proptest! {
                #![proptest_config(ProptestConfig {
                    cases: $cases,
                    failure_persistence: None,
                    ..ProptestConfig::default()
                })]

                #[test]
                fn holds_for_random_bytes(input in prop::collection::vec(any::<u8>(), 0..300)) {
                    properties::$name::check(&input);
                }

                #[test]
                fn holds_for_likely_inputs(input in $inputs) {
                    properties::$name::check(&input);
                }
            }
        }
    )*};
}

properties! {
    receiver: 2_000 of inputs::receiver();
    oracle: 2_000 of inputs::frames();
    connection: 500 of inputs::long();
    frame_loop: 500 of inputs::long();
    handshake: 200 of inputs::request();
    extensions: 500 of inputs::extensions();
    headers: 500 of inputs::long();
    deflate: 200 of inputs::deflate();
    server_session: 300 of inputs::long();
    socketio: 200 of inputs::socketio();
}

/// Checks every file of the property's corpus.
fn replay(name: &str, check: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = files(&root.join("fuzz/corpus").join(name));
    assert!(!corpus.is_empty(), "the corpus of {name} is empty");
    for input in corpus {
        println!("{}", input.display()); // shown if it fails
        check(&fs::read(&input).unwrap());
    }
    for vector in files(&root.join("tests/vectors").join(name)) {
        println!("{}", vector.display());
        check(&from_hex(&fs::read_to_string(&vector).unwrap()));
    }
}

/// All files of a directory, if it exists.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Bytes in hexadecimal, in groups; `#` begins a comment.
fn from_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let digits: String = lines.flat_map(str::split_whitespace).collect();
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// tungstenite agrees on large frames, too.
mod large {
    use super::*;
    use frameloop::protocol::SizeLimits;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn tungstenite_agrees(bytes in inputs::frames()) {
            let limits = SizeLimits { max_message_size: 100_000, max_frame_size: 80_000 };
            properties::oracle::compare(&bytes, limits);
        }
    }
}
