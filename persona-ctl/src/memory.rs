//! Memory of a process that runs for months and needs much of it at times: it goes back to the system.
#![expect(unsafe_code, reason = "mallopt(3) and malloc_trim(3) have no safe form in the standard library")]

/// Pools of memory that threads share. glibc makes eight for each processor, and what one thread has freed there stays with it.
#[cfg(target_env = "gnu")]
const POOL_COUNT: libc::c_int = 2;

/// Has threads share few pools. For the beginning of a process, before it has threads.
pub fn share_pools() {
    // SAFETY: two integers; it changes how later allocations are made and touches none that there are.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, POOL_COUNT);
    }
}

/// Gives what is free back to the system.
pub fn give_back() {
    // SAFETY: it takes the allocator's own locks and touches only what nobody has allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
