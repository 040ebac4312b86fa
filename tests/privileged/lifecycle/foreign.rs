//! Programs of somebody else: the smallest there can be, loaded here, attached with other people's tools.
#![expect(unsafe_code, reason = "bpf(2): no ELF object is needed for two instructions")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;

/// `BPF_PROG_TYPE_SCHED_CLS` and `BPF_PROG_TYPE_XDP`.
pub(super) const TC: u32 = 3;
pub(super) const XDP: u32 = 6;

/// The name that error messages must show.
pub(super) const NAME: &str = "somebody_else";

#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins a program that always returns `verdict`.
pub(super) fn pin_program(kind: u32, verdict: i32, pin: &Path) {
    // r0 = verdict; exit
    let instructions = [0xb7u64 | (verdict as u32 as u64) << 32, 0x95];
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    let mut load = Load {
        kind,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    let fd = bpf(BPF_PROG_LOAD, &mut load);
    // SAFETY: the kernel has just given this descriptor to nobody else.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = CString::new(pin.as_os_str().as_bytes()).unwrap();
    bpf(BPF_OBJ_PIN, &mut Pin { path: path.as_ptr() as u64, fd: program.as_raw_fd() as u32, flags: 0 });
}

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> i32 {
    // SAFETY: the attribute and what it points to live through the call; its length is given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    result as i32
}
