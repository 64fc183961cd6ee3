//! How much memory this process may use.

use rlimit::Resource;
use sysinfo::{MemoryRefreshKind, System};

/// Octets: the least of what the machine has, the control group allows and the process's own
/// limits do.
pub(super) fn available() -> usize {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let group = system.cgroup_limits().map(|limits| limits.total_memory);
    let own = [Resource::AS, Resource::DATA].map(|resource| resource.get_soft().ok());
    let least = own
        .into_iter()
        .chain([group])
        .flatten()
        .fold(system.total_memory(), u64::min);
    usize::try_from(least).unwrap_or(usize::MAX)
}
