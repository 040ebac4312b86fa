//! The last step inwards: to the workload's device, or up the host's own stack.

use aya_ebpf::bindings::BPF_F_INGRESS;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use persona_common::PERSONA_MARK;
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::node::{DELAYED_CLASS, SUBJECT_IS_DELAYED, SUBJECT_IS_HOST, Subject};
use persona_ebpf::encapsulation::Outer;
use persona_ebpf::frame::Frame;
use persona_ebpf::tc::{send_to_neighbour, skb};

use crate::vlan;

/// Hands a decapsulated packet with the subject's own destination over.
#[inline(always)]
pub fn to_subject(
    frame: &TcContext,
    outer: &Outer,
    subject: &Subject,
    destination: &Address6,
) -> Result<i32, DropReason> {
    // SAFETY: fields of the context that programs may read and write.
    let ifindex = unsafe {
        (*skb(frame)).mark = PERSONA_MARK;
        (*skb(frame)).ifindex
    };
    if subject.flags & SUBJECT_IS_HOST != 0 {
        if outer.is_ipv6 == outer.holds_ipv6() {
            return Ok(TcContext::PASS);
        }
        // The kernel has chosen the family's handler already; it chooses anew for what comes in.
        // SAFETY: a helper without memory arguments.
        return Ok(unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) as i32 });
    }
    if subject.ifindex == 0 {
        return Err(DropReason::UnknownDevice);
    }
    if subject.flags & SUBJECT_IS_DELAYED != 0 {
        // SAFETY: a field of the context that programs may write.
        unsafe { (*skb(frame)).priority = DELAYED_CLASS };
    }
    vlan::push(frame, subject.vlan)?;
    Ok(send_to_neighbour(subject.ifindex, destination))
}
