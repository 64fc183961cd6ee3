//! Options of all benches.

use std::{env, path::PathBuf};

use clap::Args;

use super::contestants::Contestant;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Length of each measurement; user time is sampled at 250 Hz, so 2 s at least to trust it
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,

    /// Times that all servers take their turn; medians are over rounds
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,

    /// Servers to compare, in this order [default: all that the bench knows]
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<Contestant>,

    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Cores that a server may use
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) server_cores: Vec<usize>,

    /// Core of the load generator
    #[arg(long, default_value_t = 0)]
    pub(crate) generator_core: usize,

    /// Worker threads of frameloop
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,

    /// Use this frameloop binary instead of the one just built
    #[arg(long, value_name = "FILE")]
    pub(crate) frameloop: Option<PathBuf>,

    /// A further argument for frameloop; may be given several times
    #[arg(long = "frameloop-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) frameloop_args: Vec<String>,

    /// Cargo passes this flag to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Whether `cargo test --all-targets` runs the bench. The bench then does nothing.
pub(crate) fn is_test_run() -> bool {
    env::args_os().len() == 1
}

impl Options {
    /// The requested servers that the bench supports, by default all of them.
    pub(crate) fn contestants(&self, known: &[Contestant]) -> Vec<Contestant> {
        if self.servers.is_empty() {
            return known.to_vec();
        }
        let wanted = self.servers.iter().copied();
        wanted.filter(|server| known.contains(server)).collect()
    }
}
