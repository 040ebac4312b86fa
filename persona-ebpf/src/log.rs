//! A line of log per packet (aya-log), for a person who looks for what becomes of packets. An object that is loaded without
//! the wish for it has none of this: the verifier knows the constant, and takes the code out.
//!
//! The line is text with numbers; persona-ctl's `dataplane/packet_log.rs` puts names in their place. The ring isn't pinned:
//! each load has its own, and what a process that has ended left attached writes into a ring that fills up and stays so.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_log_ebpf::info;
use persona_common::event::Hook;

use crate::frame::Frame;
use crate::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, KIND_AT};
use crate::outcome::unpack;

/// 1: every packet is logged. Written by user space before it loads the object.
#[unsafe(no_mangle)]
pub static LOGS_PACKETS: Global<u32> = Global::new(0);

/// Whose packet the program is at, a subject's number. A cell of this CPU, because the stack has no room for it.
#[map]
static LOGGED_SUBJECT: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Where IP headers have their protocol.
const PROTOCOL_AT_V4: usize = 9;
const PROTOCOL_AT_V6: usize = 6;

#[inline(always)]
fn logs_packets() -> bool {
    LOGS_PACKETS.load() != 0
}

/// Notes whose packet this is.
#[inline(always)]
pub fn note_subject(number: u32) {
    if logs_packets() {
        put_subject(number);
    }
}

#[inline(always)]
fn put_subject(number: u32) {
    if let Some(cell) = LOGGED_SUBJECT.get_ptr_mut(0) {
        // SAFETY: a cell of this CPU.
        unsafe { *cell = number };
    }
}

/// Logs what became of a packet, a packed outcome, and forgets whose it was.
#[inline(always)]
pub fn log_packet<F: Frame>(frame: &F, hook: Hook, outcome: u64) {
    if logs_packets() {
        write(frame, hook as u32, outcome);
    }
}

/// A function of its own, for the sake of the entry point's stack.
#[inline(never)]
fn write<F: Frame>(frame: &F, hook: u32, outcome: u64) -> u32 {
    let (verdict, reason_plus_one) = match unpack(outcome) {
        Ok(verdict) => (verdict, 0),
        Err(reason) => (F::DROP, reason as u32 + 1),
    };
    let subject = LOGGED_SUBJECT.get(0).copied().unwrap_or(0);
    put_subject(0);
    info!(
        frame,
        "hook {} verdict {} reason {} device {} subject {} protocol {} length {}",
        hook,
        verdict,
        reason_plus_one,
        frame.ifindex(),
        subject,
        protocol(frame),
        frame.length() as u32
    );
    0
}

/// The IP protocol of the frame as it stands now: the outer one where it is in a tunnel. 255: neither IPv4 nor IPv6.
#[inline(always)]
fn protocol<F: Frame>(frame: &F) -> u32 {
    let at = match frame.read::<u16>(KIND_AT) {
        Some(ETHERTYPE_IPV4) => ETHERNET_LENGTH + PROTOCOL_AT_V4,
        Some(ETHERTYPE_IPV6) => ETHERNET_LENGTH + PROTOCOL_AT_V6,
        _ => return 255,
    };
    frame.read::<u8>(at).map_or(255, |protocol| protocol as u32)
}
