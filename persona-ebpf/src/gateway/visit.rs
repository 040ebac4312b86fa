//! What the stages of a packet tell each other, in the one place that a CPU has for it: the stack is short, and what is
//! read from a map has no history for the verifier, so that both families and both kinds of packets are one from here on.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::DropReason;
use persona_common::gateway::GatewayFlowKey;

/// A packet's flow and where the packet came from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Visit {
    /// The flow.
    pub key: GatewayFlowKey,
    /// Its hash: the row, and the tunnel's source port.
    pub hash: u32,
    /// TCP or UDP.
    pub protocol: u32,
    /// TCP's flags, 0 otherwise.
    pub tcp_flags: u32,
    /// The device towards the client.
    pub ifindex: u32,
    /// The hardware address on the way to the client.
    pub client_mac: [u8; 6],
    pub reserved: u16,
}

#[map]
static VISIT: PerCpuArray<Visit> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's visit, as it was left.
#[inline(always)]
pub fn visit() -> Result<&'static mut Visit, DropReason> {
    let cell = VISIT.get_ptr_mut(0).ok_or(DropReason::Kernel)?;
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here; zeros are a visit, too.
    Ok(unsafe { &mut *cell })
}
