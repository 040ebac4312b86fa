//! A network that is made worse on purpose: packets of a persona are lost by chance, in both directions.
//!
//! What is lost is decided where a packet's way under the persona is known and nothing is counted yet, so that only the
//! persona's own packets are. A batch (GSO) is lost as a whole: who would cut it comes later.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use persona_common::drop::DropReason;
use persona_common::node::{self, Subject};

/// Lets a packet go on, or loses it.
#[inline(always)]
pub fn spare(subject: &Subject) -> Result<(), DropReason> {
    if is_lost(subject) { Err(DropReason::Impaired) } else { Ok(()) }
}

/// Whether a packet of the subject is lost.
#[inline(always)]
pub fn is_lost(subject: &Subject) -> bool {
    let millionths = subject.loss_millionths();
    // SAFETY: a helper without arguments.
    millionths != 0 && node::is_lost(millionths, unsafe { bpf_get_prandom_u32() })
}
