//! System calls that no crate of ours wraps: bpffs mounts, interface names, clocks.
#![expect(unsafe_code, reason = "libc calls")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `BPF_FS_MAGIC`.
const BPFFS_MAGIC: u32 = 0xcafe_4a11;

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Whether a path is in a bpffs.
pub(super) fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    // SAFETY: all-zero bytes are a valid `statfs`.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated string and a buffer of the right type.
    match unsafe { libc::statfs(path.as_ptr(), &mut facts) } {
        0 => Ok(facts.f_type as u32 == BPFFS_MAGIC),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts a bpffs.
pub(super) fn mount_bpffs(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: terminated strings; no data.
    match unsafe { libc::mount(c"bpf".as_ptr(), path.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Unmounts, also while somebody looks at it: the mount goes at once, what holds it ends by itself.
pub(super) fn unmount(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: a terminated string.
    match unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs a function on a thread of its own in the network namespace that a path leads to.
pub(super) fn in_network_namespace<T: Send>(path: &Path, function: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = std::fs::File::open(path)?;
    let enter = || {
        // SAFETY: an open descriptor; only this thread moves, and it ends with the function.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(function()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The name of a device in the network namespace of this thread.
pub fn interface_name(ifindex: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: a buffer of the size that the call asks for; it terminates what it writes.
    unsafe {
        if libc::if_indextoname(ifindex, name.as_mut_ptr()).is_null() {
            return None;
        }
        Some(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}

/// The kernel's monotonic clock, as programs and records read it.
pub fn monotonic_now() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a buffer of the right type; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The programs' clock: seconds of the coarse monotonic clock, plus one.
pub(super) fn coarse_secs() -> u32 {
    (coarse_ns() / 1_000_000_000) as u32 + 1
}

/// Nanoseconds of the coarse monotonic clock, as `bpf_ktime_get_coarse_ns` gives them.
pub(super) fn coarse_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a buffer of the right type; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of the kernel's tick (its `CONFIG_HZ`), with which the coarse clock steps.
pub(super) fn tick_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a buffer of the right type; this clock always exists.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
