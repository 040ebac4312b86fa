//! The system calls behind two checks: a map that vanishes at once, and a path's file system.
#![expect(unsafe_code, reason = "bpf(2) and statfs(2) have no safe form in the standard library")]

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// BPF_FS_MAGIC of linux/magic.h.
pub const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;

/// The first words of `union bpf_attr` for BPF_MAP_CREATE; the kernel takes what is left out as zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Makes an array map of one word and closes it again.
pub(super) fn create_array_map() -> io::Result<()> {
    let create = MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 4, max_entries: 1, map_flags: 0 };
    // SAFETY: the attribute lives through the call and its length is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const create, size_of::<MapCreate>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}

/// The magic number of the file system that `path` lies on.
pub(super) fn file_system_magic(path: &Path) -> io::Result<i64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a C string, and the kernel fills the structure if it returns 0.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled, see above.
    Ok(unsafe { found.assume_init() }.f_type as _)
}
