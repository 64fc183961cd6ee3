//! Raises the limit of open files.

/// Raises the soft limit of open files to the hard limit. Returns the limit that applies now.
pub(super) fn raise_open_files() -> usize {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!("cannot read the limit of open files: {error}");
            1_024
        }
    }
}
