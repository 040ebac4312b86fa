//! Links and programs as the kernel lists them: who is attached to a device, by id, and taking somebody else away.
//!
//! aya lists the programs at a TCX hook, but neither their links nor the links on a device, so bpf(2) is called here. To open
//! what is another's takes CAP_SYS_ADMIN, which an agent may leave to its helper.
#![expect(unsafe_code, reason = "bpf(2) has no safe form")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::programs::TcAttachType;

use crate::privilege;

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
const BPF_LINK_DETACH: libc::c_long = 34;

const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// Programs at one hook that are asked for; the kernel itself allows 64 (`BPF_MPROG_MAX`).
const HOOK_PROGRAM_COUNT_MAX: usize = 64;

/// A program at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttachedProgram {
    /// The program's id.
    pub(super) id: u32,
    /// The id of the link that holds it. None: it was attached without one.
    pub(super) link_id: Option<u32>,
}

/// `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `union bpf_attr` for BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Detach {
    target_ifindex: u32,
    program_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replaced_fd: u32,
    relative_fd: u32,
    expected_revision: u64,
}

/// `union bpf_attr` for the requests that take an id or a descriptor.
#[repr(C)]
#[derive(Default)]
struct Identified {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// `union bpf_attr` for BPF_OBJ_GET.
#[repr(C)]
struct GetPinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info` for links on devices.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    padding: u32,
    ifindex: u32,
    rest: [u32; 3],
}

/// The beginning of `struct bpf_prog_info`, to its name.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 8],
    name: [u8; 16],
}

/// The programs at a TCX hook, in the order in which they run. Linux 6.6 or later.
pub(super) fn query_tcx(ifindex: u32, direction: TcAttachType) -> io::Result<Vec<AttachedProgram>> {
    let mut programs = [0u32; HOOK_PROGRAM_COUNT_MAX];
    let mut links = [0u32; HOOK_PROGRAM_COUNT_MAX];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: tcx_type(direction),
        program_ids: programs.as_mut_ptr() as u64,
        count: HOOK_PROGRAM_COUNT_MAX as u32,
        link_ids: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    match bpf(BPF_PROG_QUERY, &mut query) {
        // Nobody has ever been attached.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        result => result.map(drop)?,
    }
    let count = HOOK_PROGRAM_COUNT_MAX.min(query.count as usize);
    let found = programs.iter().zip(&links).take(count);
    Ok(found.map(|(id, link)| AttachedProgram { id: *id, link_id: (*link != 0).then_some(*link) }).collect())
}

/// The program of a pinned link that is XDP's and still on this device, as the link itself has it.
pub(super) fn pinned_xdp_program(pin: &Path, ifindex: u32) -> io::Result<Option<u32>> {
    let info = info_of::<LinkInfo>(&open_pinned(pin)?)?;
    Ok((info.kind == BPF_LINK_TYPE_XDP && info.ifindex == ifindex).then_some(info.program_id))
}

/// The XDP links on a device; none where looking at links of others takes CAP_SYS_ADMIN, which an edge's unit does not have.
pub(super) fn xdp_links(ifindex: u32) -> io::Result<Vec<AttachedProgram>> {
    let mut found = Vec::new();
    let mut next = Identified::default();
    loop {
        match bpf(BPF_LINK_GET_NEXT_ID, &mut next) {
            Ok(_) => {}
            Err(error) if [Some(libc::ENOENT), Some(libc::EPERM)].contains(&error.raw_os_error()) => return Ok(found),
            Err(error) => return Err(error),
        }
        next.id = next.next_id;
        // One that is gone by now is on no device.
        let Ok(info) = open_link(next.id).and_then(|link| info_of::<LinkInfo>(&link)) else { continue };
        if info.kind == BPF_LINK_TYPE_XDP && info.ifindex == ifindex {
            found.push(AttachedProgram { id: info.program_id, link_id: Some(info.id) });
        }
    }
}

/// Takes a pinned link off its device: whoever may open the pin may do that.
pub(super) fn detach_pinned_link(pin: &Path) -> io::Result<()> {
    detach(&open_pinned(pin)?)
}

/// Takes a link off its device. Whoever holds it keeps an empty shell.
pub(super) fn detach_link(id: u32) -> io::Result<()> {
    privilege::detach_link(id)
}

/// The same, with the rights of this process. A link on anything else than a network device is not touched.
pub(crate) fn detach_device_link(id: u32) -> io::Result<()> {
    let link = open_link(id)?;
    let kind = info_of::<LinkInfo>(&link)?.kind;
    if ![BPF_LINK_TYPE_XDP, BPF_LINK_TYPE_TCX].contains(&kind) {
        let told = format!("link {id} is of kind {kind}, not one on a network device");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
    }
    detach(&link)
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    let mut request = Identified { id: link.as_raw_fd() as u32, ..Identified::default() };
    bpf(BPF_LINK_DETACH, &mut request).map(drop)
}

/// Takes a program off a TCX hook to which it was attached without a link.
pub(super) fn detach_tcx_program(ifindex: u32, direction: TcAttachType, program_id: u32) -> io::Result<()> {
    privilege::detach_program(ifindex, tcx_type(direction) == BPF_TCX_EGRESS, program_id)
}

/// The same, with the rights of this process.
pub(crate) fn detach_program(ifindex: u32, is_egress: bool, program_id: u32) -> io::Result<()> {
    let program = open(BPF_PROG_GET_FD_BY_ID, program_id)?;
    let mut request = Detach {
        target_ifindex: ifindex,
        program_fd: program.as_raw_fd() as u32,
        attach_type: if is_egress { BPF_TCX_EGRESS } else { BPF_TCX_INGRESS },
        ..Detach::default()
    };
    bpf(BPF_PROG_DETACH, &mut request).map(drop)
}

/// A program's name; `?` if it is gone by now or has none.
pub(super) fn program_name(id: u32) -> String {
    let name = privilege::describe_program(id).unwrap_or_default();
    if name.is_empty() { "?".to_owned() } else { name }
}

/// The same, with the rights of this process; empty if it has none.
pub(crate) fn name_of_program(id: u32) -> io::Result<String> {
    let name = info_of::<ProgramInfo>(&open(BPF_PROG_GET_FD_BY_ID, id)?)?.name;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

fn tcx_type(direction: TcAttachType) -> u32 {
    match direction {
        TcAttachType::Egress => BPF_TCX_EGRESS,
        TcAttachType::Ingress | TcAttachType::Custom(_) => BPF_TCX_INGRESS,
    }
}

fn open_pinned(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let fd = bpf(BPF_OBJ_GET, &mut GetPinned { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
    // SAFETY: the kernel has just given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open_link(id: u32) -> io::Result<OwnedFd> {
    open(BPF_LINK_GET_FD_BY_ID, id)
}

fn open(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(command, &mut Identified { id, ..Identified::default() })?;
    // SAFETY: the kernel has just given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `T` is one of the two beginnings above, of which any bytes are a value.
fn info_of<T: Default>(object: &OwnedFd) -> io::Result<T> {
    let mut info = T::default();
    let mut request =
        GetInfo { fd: object.as_raw_fd() as u32, length: size_of::<T>() as u32, info: (&raw mut info) as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request)?;
    Ok(info)
}

/// The kernel takes what the attribute leaves out as zero.
fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the attribute lives through the call and its length is given; pointers in it lead to buffers of the sizes
    // that stand beside them and that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
