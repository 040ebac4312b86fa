//! What the kernel that we run on can do: constants that user space writes before it loads the object.
//!
//! The verifier knows their values, so that code behind one that is zero is never looked at on a kernel without it.
//! Names and values come from persona-ctl's `dataplane/features.rs`; an object loaded by anyone else has zeros.

use aya_ebpf::Global;

/// 1: `bpf_skb_adjust_room` knows `BPF_F_ADJ_ROOM_DECAP_L3_IPV4` and `…_IPV6` (Linux 6.3). 0: it refuses them.
#[unsafe(no_mangle)]
pub static HAS_DECAP_L3: Global<u32> = Global::new(0);

/// Whether decapsulation may tell the kernel which family comes to light.
#[inline(always)]
pub fn has_decap_l3() -> bool {
    HAS_DECAP_L3.load() != 0
}
