//! Reading an IPv4 packet, as a function of its own, into the one place that a CPU has for it: the stack is short, and what
//! is read from a map has no history for the verifier, which would walk the rest once per kind of packet.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::DropReason;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::ETHERNET_LENGTH;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Packet};

#[map]
static PACKET4: PerCpuArray<Packet> = PerCpuArray::with_max_entries(1, 0);

/// The packet in the frame, or the part of one.
#[inline(always)]
pub fn packet4<F: Frame>(frame: &F, direction: Direction) -> Result<&'static mut Packet, DropReason> {
    unpack(read_apart(frame, direction as u32))?;
    kept4()
}

/// The packet that was read last.
#[inline(always)]
pub fn kept4() -> Result<&'static mut Packet, DropReason> {
    let cell = PACKET4.get_ptr_mut(0).ok_or(DropReason::Kernel)?;
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here; it was written before.
    Ok(unsafe { &mut *cell })
}

#[inline(never)]
fn read_apart<F: Frame>(frame: &F, direction: u32) -> u64 {
    let direction = if direction == Direction::Outward as u32 { Direction::Outward } else { Direction::Inward };
    let Some(cell) = PACKET4.get_ptr_mut(0) else { return pack(Err(DropReason::Kernel)) };
    let Some(ip) = frame.read(ETHERNET_LENGTH) else { return pack(Err(DropReason::Malformed)) };
    // SAFETY: as in `kept4`; written before it is read.
    let packet = unsafe {
        cell.write(Packet::blank(ip, ETHERNET_LENGTH));
        &mut *cell
    };
    pack(packet.fill(frame, direction).map(|()| 0))
}
