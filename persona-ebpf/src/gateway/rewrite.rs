//! Addresses and ports, with their checksums in whatever state the offload left them, at either hook.
//!
//! An address that changes in the pseudo header changes the L4 checksum. In IPv4 the header's own checksum makes up for the
//! address itself, so the sum over the packet gains what the L4 checksum gains; in IPv6 nothing does, and the two cancel
//! out. `bpf_l4_csum_replace` knows IPv4's case only: for IPv6 the sum that a driver may have made over the whole packet
//! (`CHECKSUM_COMPLETE`) is put right afterwards.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::programs::{TcContext, XdpContext};
use persona_common::addr::Address6;
use persona_common::checksum::{fold, replace_word};
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_ebpf::frame::Frame;
use persona_ebpf::tc::{replace_checksum, skb, update_sum};

/// Which family's pseudo header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A frame whose addresses and ports can be changed.
pub trait Rewrite: Frame {
    /// Tells the L4 checksum at `at` that the pseudo header over it has gained `gained`.
    fn gain(&self, at: usize, gained: u16, family: Family, protocol: u8) -> Result<(), DropReason>;
    /// Changes the port at `at`, and tells the L4 checksum at `checksum_at`; None: there is none.
    fn set_port(&self, at: usize, checksum_at: Option<usize>, ports: Ports, protocol: u8) -> Result<(), DropReason>;
    /// Tells a sum over the packet that it has gained `gained` by what nothing in the packet makes up for.
    fn note_sum(&self, gained: u16);
    /// Marks the packet for programs of ours that come after.
    fn set_mark(&self, mark: u32);
}

/// A port's change, as it stands in a packet.
#[derive(Clone, Copy)]
pub struct Ports {
    pub from: u16,
    pub to: u16,
}

impl Rewrite for TcContext {
    #[inline(always)]
    fn gain(&self, at: usize, gained: u16, family: Family, protocol: u8) -> Result<(), DropReason> {
        replace_checksum(self, at, 0, gained as u64, BPF_F_PSEUDO_HDR as u64 | mangled(protocol))?;
        if family == Family::V6 {
            update_sum(self, gained);
        }
        Ok(())
    }

    #[inline(always)]
    fn set_port(&self, at: usize, checksum_at: Option<usize>, ports: Ports, protocol: u8) -> Result<(), DropReason> {
        let Some(checksum_at) = checksum_at else {
            let stored = self.skb.store(at, &ports.to, BPF_F_RECOMPUTE_CSUM as u64);
            return stored.map_err(|_| DropReason::Kernel);
        };
        replace_checksum(self, checksum_at, ports.from as u64, ports.to as u64, mangled(protocol) | 2)?;
        self.write(at, ports.to)
    }

    #[inline(always)]
    fn note_sum(&self, gained: u16) {
        update_sum(self, gained);
    }

    #[inline(always)]
    fn set_mark(&self, mark: u32) {
        // SAFETY: a field of the context that programs may write.
        unsafe { (*skb(self)).mark = mark };
    }
}

impl Rewrite for XdpContext {
    #[inline(always)]
    fn gain(&self, at: usize, gained: u16, _family: Family, protocol: u8) -> Result<(), DropReason> {
        let old: u16 = self.read(at).ok_or(DropReason::Malformed)?;
        self.write(at, never_zero(!fold(!old as u32 + gained as u32), protocol))
    }

    #[inline(always)]
    fn set_port(&self, at: usize, checksum_at: Option<usize>, ports: Ports, protocol: u8) -> Result<(), DropReason> {
        if let Some(checksum_at) = checksum_at {
            let old: u16 = self.read(checksum_at).ok_or(DropReason::Malformed)?;
            self.write(checksum_at, never_zero(replace_word(old, ports.from, ports.to), protocol))?;
        }
        self.write(at, ports.to)
    }

    #[inline(always)]
    fn note_sum(&self, _gained: u16) {}

    #[inline(always)]
    fn set_mark(&self, _mark: u32) {}
}

#[inline(always)]
fn mangled(protocol: u8) -> u64 {
    if protocol == UDP { BPF_F_MARK_MANGLED_0 as u64 } else { 0 }
}

/// Zero would say that there is no checksum (RFC 768).
#[inline(always)]
fn never_zero(checksum: u16, protocol: u8) -> u16 {
    if protocol == UDP && checksum == 0 { 0xffff } else { checksum }
}

/// What the sum over a pseudo header gains when one address takes another's place.
#[inline(always)]
pub fn gained(from: &Address6, to: &Address6) -> u16 {
    let halves = |long: u32| (long & 0xffff) + (long >> 16);
    let sum = |address: &Address6| halves(address[0]) + halves(address[1]) + halves(address[2]) + halves(address[3]);
    fold(fold(sum(to)) as u32 + !fold(sum(from)) as u32)
}

/// One end of a flow.
#[derive(Clone, Copy)]
pub struct End<'a> {
    pub address: &'a Address6,
    pub port: u16,
}

/// Where a transport header's port and checksum are, and of what.
#[derive(Clone, Copy)]
pub struct Transport {
    pub l4_at: usize,
    /// Bytes from the start of the header to the port.
    pub port_offset: usize,
    pub protocol: u8,
    pub has_checksum: bool,
    pub family: Family,
}

/// Makes one end of a flow another in the transport header. The IP header is the caller's.
#[inline(always)]
pub fn rewrite_transport<F: Rewrite>(
    frame: &F,
    transport: &Transport,
    from: End<'_>,
    to: End<'_>,
) -> Result<(), DropReason> {
    let checksum_at = transport.l4_at + if transport.protocol == TCP { 16 } else { 6 };
    if transport.has_checksum {
        frame.gain(checksum_at, gained(from.address, to.address), transport.family, transport.protocol)?;
    }
    let ports = Ports { from: from.port.to_be(), to: to.port.to_be() };
    let checksum_at = if transport.has_checksum { Some(checksum_at) } else { None };
    frame.set_port(transport.l4_at + transport.port_offset, checksum_at, ports, transport.protocol)
}
