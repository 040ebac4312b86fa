//! What is handed over to user space: frames on a TAP device of the agent's (docs/packets.md §7).

use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::encapsulation::{WAIT, WAIT_INWARD};
use persona_ebpf::count::count_handed_over;
use persona_ebpf::encapsulation::{Inner, Outer, Tunnel, readdress};
use persona_ebpf::frame::Frame;
use persona_ebpf::outcome::{pack, unpack};

use crate::maps;

/// The slow path's device, where there is one.
#[inline(always)]
pub fn device() -> Result<u32, DropReason> {
    match maps::config()?.slow_ifindex {
        0 => Err(DropReason::NoSlowPath),
        ifindex => Ok(ifindex),
    }
}

/// Gives a tunnel frame to the slow path.
#[inline(always)]
pub fn hand_over(ifindex: u32) -> i32 {
    count_handed_over();
    // SAFETY: a helper without memory arguments.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

/// Lets a later fragment from a subject, untouched, wait for its first.
#[inline(always)]
pub fn wait(frame: &TcContext, inner: &Inner, subject_index: u32) -> Result<i32, DropReason> {
    unpack(wait_apart(frame, inner, subject_index))
}

#[inline(never)]
fn wait_apart(frame: &TcContext, inner: &Inner, subject_index: u32) -> u64 {
    pack(try_wait(frame, inner, subject_index))
}

#[inline(always)]
fn try_wait(frame: &TcContext, inner: &Inner, subject_index: u32) -> Result<i32, DropReason> {
    let ifindex = device()?;
    frame.encapsulate(&marked(WAIT, subject_index), inner)?;
    Ok(hand_over(ifindex))
}

/// Lets a later fragment from an edge wait for its first: its tunnel's headers become those of what waits. They are not
/// taken off for new ones, which the kernel refuses to put around what it takes for encapsulated (-EALREADY), as after a
/// device that looks into tunnels, or a veth whose far end has made this one.
#[inline(always)]
pub fn wait_inward(frame: &TcContext, outer: &Outer, inner: &Inner) -> Result<i32, DropReason> {
    unpack(wait_inward_apart(frame, outer, inner))
}

#[inline(never)]
fn wait_inward_apart(frame: &TcContext, outer: &Outer, inner: &Inner) -> u64 {
    pack(try_wait_inward(frame, outer, inner))
}

#[inline(always)]
fn try_wait_inward(frame: &TcContext, outer: &Outer, inner: &Inner) -> Result<i32, DropReason> {
    let ifindex = device()?;
    readdress(frame, outer, &marked(WAIT_INWARD, 0), inner)?;
    Ok(hand_over(ifindex))
}

/// The headers of what waits: a control packet under no VNI, from a number.
#[inline(always)]
fn marked(marker: u8, number: u32) -> Tunnel {
    Tunnel { source: mapped(number.to_be()), destination: mapped(0), vni: 0, entropy_port: 0, marker, is_control: true }
}
