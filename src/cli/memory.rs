//! How much memory this process may use, and giving back what it does not.

use std::hint::black_box;

use rlimit::Resource;
use sysinfo::{MemoryRefreshKind, System};

/// The assumed memory where /proc does not exist, as in an empty chroot.
const UNKNOWN: u64 = 4 << 30;

/// Has the allocator give back what this thread keeps of what was freed.
///
/// Rust has no call for that. But mimalloc collects all that is free, and tries once more, before an
/// allocation fails (`_mi_malloc_generic` in its `page.c`), and the allocation here is larger than any
/// memory. Other allocators fail at once.
pub(super) fn give_back() {
    const MORE_THAN_THERE_IS: usize = usize::MAX / 4;
    // Else the compiler removes an unused allocation.
    let _ = black_box(&mut Vec::<u8>::new()).try_reserve_exact(MORE_THAN_THERE_IS);
}

/// Bytes: the least of what the machine has, the control group allows and the process's own
/// limits do.
pub(super) fn available() -> usize {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let (machine, group) = match system.total_memory() {
        // Then sysinfo cannot read the limits of the group, either: it would panic.
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
