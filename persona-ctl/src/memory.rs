//! Memory of a process that runs for months and needs much of it at times: it goes back to the system.
#![expect(unsafe_code, reason = "mallopt(3), malloc_trim(3), dl_iterate_phdr(3) and madvise(2) have no safe form")]

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

/// Lets go of what was read of the program's own file: code that only starting, applying and full looks run, and the programs for the
/// kernel. What is needed of it is mapped again when it is, mostly from the page cache, sixteen pages at a time; all of it, some
/// twenty MiB, takes less than a millisecond.
pub fn let_go_of_program() {
    // SAFETY: the function is called with what `dl_iterate_phdr` promises, while it is there, and takes no pointer of ours.
    unsafe {
        libc::dl_iterate_phdr(Some(let_go), std::ptr::null_mut());
    }
}

/// Unmaps the pages of an object's segments that are never written to.
///
/// # Safety
/// `info` is of an object that is loaded and stays so, as in a callback of `dl_iterate_phdr`.
unsafe extern "C" fn let_go(info: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the caller says that it is of a loaded object; its headers are an array of that length.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    let fixed = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
    for header in fixed {
        let start = (base + header.p_vaddr as usize).next_multiple_of(PAGE_BYTES);
        let end = (base + header.p_vaddr as usize + header.p_filesz as usize) / PAGE_BYTES * PAGE_BYTES;
        if start < end {
            // SAFETY: the range lies in a private mapping of a file that nobody writes to, so its pages are the file's and come
            // back as they were. Pages that were written to all the same, for a debugger or before relocations were sealed, lie
            // in segments with `PF_W`. A failure leaves them mapped.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    // The program comes first; libraries are small, and others have them too.
    1
}

/// Bytes of a page on every architecture that is supported.
const PAGE_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_of_files_kib() -> u64 {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn the_programs_file_is_let_go_and_read_again() {
        let objects = [crate::dataplane::object::node(), crate::dataplane::object::edge()];
        let sum = || objects.iter().flat_map(|object| object.iter()).map(|byte| u64::from(*byte)).sum::<u64>();
        let (before, read) = (sum(), resident_of_files_kib());
        let_go_of_program();
        let after = resident_of_files_kib();
        assert!(after < read, "{after} of {read} KiB");
        assert_eq!(sum(), before);
    }
}
