//! `depart`, leaving a device behind which `fq` stands: says when a packet of a subject with a rate may leave
//! ([`persona_common::departure`]).
//!
//! What has no cell passes as it is. Who would wait too long is a counted drop, as in any full queue. CPUs share a cell without
//! a lock: each takes its place in the line by one addition.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::TcContext;
use persona_common::departure::{BY_CLASS, DEPARTURE_CLASS, Departure};
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::{ENCAPSULATION_LENGTH_V4, ENCAPSULATION_LENGTH_V6};
use persona_ebpf::atomic::{compare_exchange, fetch_add_long};
use persona_ebpf::count::count_drop;
use persona_ebpf::frame::Frame;
use persona_ebpf::front::packet_count;
use persona_ebpf::header::{
    ETHERNET_LENGTH, ETHERTYPE_IPV6, Ethernet, IPV4_LENGTH, IPV6_LENGTH, Ipv4, Ipv6, TCP_LENGTH, Tcp, Udp,
};
use persona_ebpf::tc::skb;

use crate::maps::{DEPARTURE_DEVICES, DEPARTURES};

/// Below the cell, what a class consists of.
const CELL_MASK: u32 = 0xffff;

#[inline(always)]
pub fn run(frame: &TcContext) -> i32 {
    let Some((index, inner_at)) = place(frame) else { return TcContext::PASS };
    let Some(cell) = DEPARTURES.get_ptr_mut(index) else { return TcContext::PASS };
    // SAFETY: a cell of the map, whose words but the first user space writes, whole and seldom.
    let known = unsafe { &*cell };
    if known.cost_per_byte == 0 {
        return TcContext::PASS;
    }
    let byte_count = inner_bytes(frame, inner_at);
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the first word of the cell, aligned.
    match unsafe { join(&raw mut (*cell).due_ns, known, byte_count, now_ns) } {
        Some(leaves_ns) => {
            // SAFETY: fields of the context that programs may write. `fq` must not take a cell for one of its own bands.
            unsafe {
                (*skb(frame)).tstamp = leaves_ns;
                (*skb(frame)).priority = 0;
            }
            TcContext::PASS
        }
        None => {
            count_drop(DropReason::QueueFull);
            TcContext::DROP
        }
    }
}

/// The packet's cell, and where its inner IP header is.
#[inline(always)]
fn place(frame: &TcContext) -> Option<(u32, usize)> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let cell = unsafe { DEPARTURE_DEVICES.get(frame.ifindex()) }.copied()?;
    if cell != BY_CLASS {
        return Some((cell, ETHERNET_LENGTH));
    }
    // SAFETY: a field of the context.
    let class = unsafe { (*skb(frame)).priority };
    if class & !CELL_MASK != DEPARTURE_CLASS {
        return None;
    }
    let is_ipv6 = frame.read::<Ethernet>(0)?.kind == ETHERTYPE_IPV6;
    let tunnel_length = if is_ipv6 { ENCAPSULATION_LENGTH_V6 } else { ENCAPSULATION_LENGTH_V4 };
    Some((class & CELL_MASK, ETHERNET_LENGTH + tunnel_length))
}

/// Takes the next place in the line: when the packet leaves. None: the line is too long.
///
/// # Safety
/// `due` points to an aligned long word in a map.
#[inline(always)]
unsafe fn join(due: *mut u64, known: &Departure, byte_count: u64, now_ns: u64) -> Option<u64> {
    // SAFETY: the caller vouches for the word.
    let due_ns = unsafe { core::ptr::read_volatile(due) };
    if known.is_full(due_ns, now_ns) {
        return None;
    }
    let (cost_ns, earliest_ns) = (known.cost_ns(byte_count), known.earliest_ns(now_ns));
    // SAFETY: as above.
    unsafe {
        // Whoever was faster has begun the line anew; then this packet is one more.
        if due_ns <= earliest_ns && compare_exchange(due, due_ns, earliest_ns + cost_ns) {
            return Some(earliest_ns);
        }
        Some(fetch_add_long(due, cost_ns))
    }
}

/// IP bytes of all packets that segmentation will make of what begins at `at`.
#[inline(always)]
fn inner_bytes(frame: &TcContext, at: usize) -> u64 {
    let length = frame.length().saturating_sub(at);
    let segmentation = frame.segmentation();
    if segmentation.size == 0 {
        return length as u64;
    }
    // As many bytes as IPv4 and TCP without options have, too.
    frame.linearise(at + IPV6_LENGTH);
    let headers_length = headers_length(frame, at).unwrap_or(0);
    let count = packet_count(segmentation, length, headers_length);
    length as u64 + count.saturating_sub(1) * headers_length as u64
}

/// Bytes of IP and L4 headers, which each segment has.
#[inline(always)]
fn headers_length(frame: &TcContext, at: usize) -> Option<usize> {
    let ip: Ipv4 = frame.read(at)?;
    let (ip_length, protocol) = if ip.version_length >> 4 == 4 {
        ((ip.version_length & 15) as usize * 4, ip.protocol)
    } else {
        (IPV6_LENGTH, frame.read::<Ipv6>(at)?.next_header)
    };
    if ip_length != IPV4_LENGTH {
        frame.linearise(at + ip_length + TCP_LENGTH);
    }
    match protocol {
        TCP => Some(ip_length + (frame.read::<Tcp>(at + ip_length)?.offset >> 4) as usize * 4),
        UDP => Some(ip_length + size_of::<Udp>()),
        _ => Some(ip_length),
    }
}
