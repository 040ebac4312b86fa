//! Reading an IPv4 packet, as a function of its own: the stack is short.

use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Packet};

/// Reads the packet at its place into `packet`.
#[inline(always)]
pub fn read(frame: &TcContext, packet: &mut Packet, direction: Direction) -> Result<(), DropReason> {
    unpack(read_apart(frame, packet, direction)).map(|_| ())
}

#[inline(never)]
fn read_apart(frame: &TcContext, packet: &mut Packet, direction: Direction) -> u64 {
    let outcome = packet.fill(frame, direction).map(|()| 0);
    packet.forget_path();
    pack(outcome)
}
