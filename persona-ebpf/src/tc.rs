//! The frame at a TC hook: a socket buffer, maybe non-linear, maybe to be segmented.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
    bpf_redir_neigh,
};
use aya_ebpf::helpers::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_head,
    bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use persona_common::addr::{Address6, is_mapped};
use persona_common::drop::DropReason;
use persona_common::edge::NextHop;

use crate::encapsulation::{Inner, Outer, OuterV4, OuterV6, Tunnel};
use crate::features::has_decap_l3;
use crate::frame::{Frame, Segmentation};
use crate::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, KIND_AT};

/// `TC_ACT_UNSPEC`: go on with the next program, at TCX and at clsact alike.
const ACT_NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const ACT_DROP: i32 = 2;
/// `AF_INET`.
const FAMILY_IPV4: u32 = 2;
/// `AF_INET6`.
const FAMILY_IPV6: u32 = 10;

/// Bytes by which IPv6's header is longer than IPv4's: what `bpf_skb_change_proto` inserts or takes away.
const FAMILY_DIFFERENCE: i32 = 20;

const SHRINK_FLAGS: u64 = (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET) as u64;
const GROW_FLAGS: u64 = SHRINK_FLAGS | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64;

/// The socket buffer behind a context.
#[inline(always)]
pub fn skb(frame: &TcContext) -> *mut __sk_buff {
    frame.as_ptr() as *mut __sk_buff
}

/// Sends a frame to the neighbour `next_hop` on a device; the kernel writes the Ethernet header.
#[inline(always)]
pub fn send_to_neighbour(ifindex: u32, next_hop: &Address6) -> i32 {
    let long = |low: u32, high: u32| low as u64 | (high as u64) << 32;
    // `bpf_redir_neigh`, in long words: the kernel copies it by such, and a load waits for the two stores that it spans.
    let mut parameters = if is_mapped(*next_hop) {
        [long(FAMILY_IPV4, next_hop[3]), 0, 0]
    } else {
        [long(FAMILY_IPV6, next_hop[0]), long(next_hop[1], next_hop[2]), next_hop[3] as u64]
    };
    let length = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the parameters live until the call returns, and are as long as is said or longer.
    unsafe { bpf_redirect_neigh(ifindex, parameters.as_mut_ptr().cast(), length, 0) as i32 }
}

/// Puts the tunnel's headers over IPv4 between the Ethernet header and an IPv4 packet.
#[inline(always)]
pub fn encapsulate_v4(frame: &TcContext, tunnel: &Tunnel, inner: &Inner) -> Result<(), DropReason> {
    if frame.segmentation().size != 0 {
        own_batch(frame);
    }
    adjust_room(frame, size_of::<OuterV4>() as i32, GROW_FLAGS | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64)?;
    let headers = tunnel.words_v4(inner);
    frame.write(ETHERNET_LENGTH, headers)?;
    add_to_complete_sum(frame, &headers);
    Ok(())
}

/// Tells an L4 checksum at `at` that something under it changed, whatever state the offload left it in.
#[inline(always)]
pub fn replace_checksum(frame: &TcContext, at: usize, from: u64, to: u64, flags: u64) -> Result<(), DropReason> {
    // SAFETY: the helper checks the offset itself.
    match unsafe { bpf_l4_csum_replace(skb(frame), at as u32, from, to, flags) } {
        0 => Ok(()),
        _ => Err(DropReason::Kernel),
    }
}

/// Tells a complete checksum in the socket buffer, if there is one, that the sum over the packet has gained `difference`.
#[inline(always)]
pub fn update_sum(frame: &TcContext, difference: u16) {
    // SAFETY: the helper only adds; without a complete checksum it refuses, and there is nothing to tell.
    unsafe { bpf_csum_update(skb(frame), difference as u32) };
}

impl Frame for TcContext {
    const PASS: i32 = ACT_NEXT;
    const DROP: i32 = ACT_DROP;
    const HAS_WIRE: bool = true;

    #[inline(always)]
    fn data(&self) -> usize {
        // Volatile: a load that the compiler keeps over a branch comes back as a number, not as a pointer.
        // SAFETY: a field of the context.
        unsafe { core::ptr::read_volatile(&raw const (*skb(self)).data) as usize }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(&raw const (*skb(self)).data_end) as usize }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn linearise(&self, length: usize) {
        if Frame::data(self) + (length & 0xfff) <= Frame::data_end(self) {
            return;
        }
        let length = if (self.len() as usize) < length { self.len() } else { length as u32 };
        // SAFETY: the helper checks the length itself. A failure leaves the frame short, which every read notices.
        unsafe { bpf_skb_pull_data(skb(self), length) };
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*skb(self)).vlan_present != 0 }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*skb(self)).ifindex }
    }

    #[inline(always)]
    unsafe fn copy_out(&self, at: usize, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller vouches for the buffer; the helper checks the frame.
        unsafe { bpf_skb_load_bytes(skb(self).cast(), at as u32, to.cast(), length) == 0 }
    }

    #[inline(always)]
    unsafe fn copy_in(&self, at: usize, from: *const u8, length: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(skb(self), at as u32, from.cast(), length, 0) == 0 }
    }

    #[inline(always)]
    fn segmentation(&self) -> Segmentation {
        // SAFETY: fields of the context.
        unsafe {
            Segmentation {
                size: core::ptr::read_volatile(&raw const (*skb(self)).gso_size),
                count: core::ptr::read_volatile(&raw const (*skb(self)).gso_segs),
            }
        }
    }

    #[inline(always)]
    fn encapsulate(&self, tunnel: &Tunnel, inner: &Inner) -> Result<(), DropReason> {
        let is_ipv6 = tunnel.is_ipv6();
        if is_ipv6 {
            own_batch(self);
            adjust_room(self, size_of::<OuterV6>() as i32, GROW_FLAGS | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 as u64)?;
            let headers = tunnel.headers_v6(inner);
            self.write(ETHERNET_LENGTH, headers)?;
            add_to_complete_sum(self, &headers);
        } else {
            encapsulate_v4(self, tunnel, inner)?;
        }
        if is_ipv6 == inner.is_ipv6 { Ok(()) } else { write_kind(self, is_ipv6) }
    }

    #[inline(always)]
    fn decapsulate(&self, outer: &Outer) -> Result<(), DropReason> {
        let length = -(outer.length as i32);
        let (from_ipv6, to_ipv6) = (outer.is_ipv6, outer.holds_ipv6());
        if from_ipv6 == to_ipv6 {
            return adjust_room(self, length, SHRINK_FLAGS);
        }
        if has_decap_l3() {
            let family = if to_ipv6 { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_DECAP_L3_IPV4 };
            adjust_room(self, length, SHRINK_FLAGS | family as u64)?;
        } else {
            // The kernel knows no such flag: its notion of the family is changed first, which moves the header's end.
            let kind = if to_ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            // SAFETY: the helper checks all itself.
            if unsafe { bpf_skb_change_proto(skb(self), kind, 0) } != 0 {
                return Err(DropReason::Kernel);
            }
            let inserted = if to_ipv6 { FAMILY_DIFFERENCE } else { -FAMILY_DIFFERENCE };
            adjust_room(self, length - inserted, SHRINK_FLAGS)?;
        }
        write_kind(self, to_ipv6)
    }

    #[inline(always)]
    fn set_length(&self, length: usize) -> Result<(), DropReason> {
        // SAFETY: as above.
        match unsafe { bpf_skb_change_tail(skb(self), length as u32, 0) } {
            0 => Ok(()),
            _ => Err(DropReason::Kernel),
        }
    }

    #[inline(always)]
    fn send(&self, hop: &NextHop, destination: &Address6) -> Result<i32, DropReason> {
        if hop.ifindex == 0 {
            return Err(DropReason::NextHopUnresolved);
        }
        let address = if hop.address == [0; 4] { destination } else { &hop.address };
        Ok(send_to_neighbour(hop.ifindex, address))
    }

    #[inline(always)]
    fn send_to_device(&self, ifindex: u32) -> i32 {
        // SAFETY: a helper without memory arguments.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn send_back(&self) -> i32 {
        // SAFETY: a field of the context, then a helper without memory arguments.
        unsafe { bpf_redirect((*skb(self)).ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn set_class(&self, class: u32) {
        // SAFETY: a field of the context that programs may write.
        unsafe { (*skb(self)).priority = class };
    }
}

/// Tells the sum that a driver may have made over the whole packet (`CHECKSUM_COMPLETE`) of headers put before it; the
/// kernel has counted them as zeros. Any other state is left alone by the kernel.
#[inline(always)]
fn add_to_complete_sum<T>(frame: &TcContext, headers: &T) {
    let words = (headers as *const T).cast::<u32>();
    let mut sum = 0u64;
    let mut index = 0;
    while index < size_of::<T>() / 4 {
        // SAFETY: within the headers, which are integers without padding and a multiple of four bytes long.
        sum += unsafe { words.add(index).read_unaligned() } as u64;
        index += 1;
    }
    let sum = (sum as u32 as u64) + (sum >> 32);
    // SAFETY: a helper without memory arguments.
    unsafe { bpf_csum_update(skb(frame), (sum as u32).wrapping_add((sum >> 32) as u32)) };
}

/// Gives a batch of segments data of its own where the sender keeps a clone for retransmission, as the kernel's own forwarding
/// does before it writes: a receiver merges a batch into the one before it only when nobody else holds its data.
///
/// Without a branch, which the verifier would follow to the end twice: a single packet is refused by its flags. A batch
/// that gets none goes on as it is.
#[inline(always)]
fn own_batch(frame: &TcContext) {
    let is_single = (frame.segmentation().size as u64).wrapping_sub(1) >> 63;
    // SAFETY: the helper checks all itself; it copies the headers and shares the pages, and adds nothing in front.
    unsafe { bpf_skb_change_head(skb(frame), 0, is_single) };
}

#[inline(always)]
fn adjust_room(frame: &TcContext, by: i32, flags: u64) -> Result<(), DropReason> {
    // SAFETY: the helper checks all itself.
    match unsafe { bpf_skb_adjust_room(skb(frame), by, BPF_ADJ_ROOM_MAC, flags) } {
        0 => Ok(()),
        _ => Err(DropReason::Kernel),
    }
}

#[inline(always)]
fn write_kind(frame: &TcContext, is_ipv6: bool) -> Result<(), DropReason> {
    frame.write(KIND_AT, if is_ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 })
}
