//! ICMP errors are sent at a bounded rate per CPU ([`persona_common::icmp_limit`]). Asked before an error is made.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::DropReason;
use persona_common::icmp_limit::IcmpBucket;

/// Not pinned: an object that takes another's place starts with a full bucket.
#[map]
static ICMP_BUCKET: PerCpuArray<IcmpBucket> = PerCpuArray::with_max_entries(1, 0);

/// Whether one more error may be sent now; takes its token.
#[inline(always)]
pub fn check_rate() -> Result<(), DropReason> {
    if take() != 0 { Ok(()) } else { Err(DropReason::IcmpRate) }
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn take() -> u32 {
    let Some(bucket) = ICMP_BUCKET.get_ptr_mut(0) else { return 0 };
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here; then a helper without arguments.
    unsafe { (*bucket).take(bpf_ktime_get_coarse_ns()) as u32 }
}
