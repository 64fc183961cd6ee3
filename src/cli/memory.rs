//! Finds how much memory this process may use, and returns free memory to the operating system.

use std::hint::black_box;

use rlimit::Resource;
use sysinfo::{MemoryRefreshKind, System};

/// The assumed memory, in bytes, if /proc does not exist, as in an empty chroot.
const UNKNOWN: u64 = 4 << 30;

/// Makes the allocator return the freed memory that it keeps for this thread.
///
/// Rust has no call for that. But before an allocation fails, mimalloc collects all free memory and
/// tries again (`_mi_malloc_generic` in its `page.c`), and the allocation here is larger than any
/// memory. Other allocators fail at once.
pub(super) fn give_back() {
    const MORE_THAN_THERE_IS: usize = usize::MAX / 4;
    // Without `black_box` the compiler removes an unused allocation.
    let _ = black_box(&mut Vec::<u8>::new()).try_reserve_exact(MORE_THAN_THERE_IS);
}

/// The available memory in bytes: the minimum of the machine's memory, the control group's limit
/// and the process's own limits.
pub(super) fn available() -> usize {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let (machine, group) = match system.total_memory() {
        // sysinfo cannot read the group's limits either: it would panic.
        0 => (UNKNOWN, None),
        total => (
            total,
            system.cgroup_limits().map(|limits| limits.total_memory),
        ),
    };
    let own = [Resource::AS, Resource::DATA].map(|resource| resource.get_soft().ok());
    let least = own
        .into_iter()
        .chain([group])
        .flatten()
        .fold(machine, u64::min);
    usize::try_from(least).unwrap_or(usize::MAX)
}
