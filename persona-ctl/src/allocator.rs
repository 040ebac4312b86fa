//! Where a process gets its memory, by its role. Agents, edges and commands use the system's allocator, which takes little. A manager
//! serves a fleet from several threads, one of which frees what another has allocated; there the system's allocator took half of the
//! time that its writer worked, and waited for its own locks. It uses mimalloc, for some 30 MiB.
//!
//! A process begins with the system's allocator and may go over to the other one; what it has by then goes back to where it is from.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use mimalloc::MiMalloc;

/// Whether memory comes from mimalloc from now on. Once set it stays so.
static SERVES_MANY: AtomicBool = AtomicBool::new(false);

/// musl's own allocator has one lock for all threads: there everybody uses the other one.
const IS_ALWAYS_MIMALLOC: bool = cfg!(target_env = "musl");

/// The process serves many: its memory comes from mimalloc from here on.
pub fn serve_many() {
    SERVES_MANY.store(true, Ordering::Relaxed);
}

/// The allocator of every role.
#[derive(Debug)]
pub struct ByRole;

/// Whether mimalloc gives memory. A thread that frees what another one got from mimalloc sees this set: that one saw it before, and
/// what hands memory from thread to thread orders what both see.
fn serves_many() -> bool {
    IS_ALWAYS_MIMALLOC || SERVES_MANY.load(Ordering::Relaxed)
}

fn is_of_mimalloc(memory: *mut u8) -> bool {
    // SAFETY: it looks the address up in mimalloc's own map of pages and reads nothing behind it.
    IS_ALWAYS_MIMALLOC || (serves_many() && unsafe { libmimalloc_sys::mi_is_in_heap_region(memory.cast()) })
}

// SAFETY: each piece of memory comes from one of two allocators that keep the trait's promises, and goes back to that one, which is
// found by its address.
unsafe impl GlobalAlloc for ByRole {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match serves_many() {
            // SAFETY: the caller keeps what the trait asks for, here and below.
            true => unsafe { MiMalloc.alloc(layout) },
            // SAFETY: as above.
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match serves_many() {
            // SAFETY: as above.
            true => unsafe { MiMalloc.alloc_zeroed(layout) },
            // SAFETY: as above.
            false => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match is_of_mimalloc(memory) {
            // SAFETY: as above, and it goes back to where it is from.
            true => unsafe { MiMalloc.dealloc(memory, layout) },
            // SAFETY: the same.
            false => unsafe { System.dealloc(memory, layout) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match is_of_mimalloc(memory) {
            // SAFETY: as above, and it stays with whom it is from.
            true => unsafe { MiMalloc.realloc(memory, layout, size) },
            // SAFETY: the same.
            false => unsafe { System.realloc(memory, layout, size) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes all of it, so that an allocator that gave too little is found out.
    fn filled(layout: Layout, byte: u8) -> *mut u8 {
        // SAFETY: the layout has a size, and what is written lies within it.
        unsafe {
            let memory = ByRole.alloc(layout);
            assert!(!memory.is_null());
            memory.write_bytes(byte, layout.size());
            memory
        }
    }

    #[test]
    fn what_there_was_before_goes_back_to_where_it_is_from() {
        let layouts = [(1, 1), (24, 8), (4_096, 64), (3_000_000, 4_096)];
        let layouts = layouts.map(|(size, align)| Layout::from_size_align(size, align).unwrap());
        let before = layouts.map(|layout| filled(layout, 1));
        assert!(IS_ALWAYS_MIMALLOC || before.iter().all(|memory| !is_of_mimalloc(*memory)));
        serve_many();
        assert!(IS_ALWAYS_MIMALLOC || before.iter().all(|memory| !is_of_mimalloc(*memory)));
        let after = layouts.map(|layout| filled(layout, 2));
        assert!(after.iter().all(|memory| is_of_mimalloc(*memory)));
        let all =
            before.into_iter().zip(layouts).map(|it| (it, 1)).chain(after.into_iter().zip(layouts).map(|it| (it, 2)));
        for ((memory, layout), byte) in all {
            // SAFETY: it is of this layout, and is used under its new size only.
            unsafe {
                let size = layout.size() * 2;
                let larger = ByRole.realloc(memory, layout, size);
                assert!(!larger.is_null());
                assert!((0..layout.size()).all(|at| larger.add(at).read() == byte));
                ByRole.dealloc(larger, Layout::from_size_align(size, layout.align()).unwrap());
            }
        }
    }
}
