//! Flows that were opened or closed, told to whoever watches; those that open are counted. Functions of their own: their records fill the stack.
//!
//! Of flows without slots only the opening is told: records hold what the end is judged by, and whoever saw them open
//! asks for it, as for flows that fall silent.

use aya_ebpf::programs::TcContext;
use persona_common::addr::{Address6, mapped};
use persona_common::encapsulation::VNI_MASK;
use persona_common::event::{FlowRecord, Hook, KIND_FLOW_CLOSED, KIND_FLOW_OPENED};
use persona_common::node::{Lease, SUBJECT_IS_HOST, Subject};
use persona_ebpf::event::tell_flow;
use persona_ebpf::packet::Packet;
use persona_ebpf::packet6::Packet6;

use crate::receive::Recipient;
use crate::subject_counts::count_opened;

/// Set beside the port when the flow was opened; else it was closed.
pub const OPENED: u32 = 1 << 16;

/// Tells of a flow whose packet leaves under an external port: `port`, or `port | OPENED`.
#[inline(never)]
pub fn outward(frame: &TcContext, packet: &Packet, subject: &Subject, lease: &Lease, port: u32) -> u32 {
    let hook = if subject.flags & SUBJECT_IS_HOST != 0 { Hook::FromHost } else { Hook::FromWorkload };
    let kind = if port & OPENED != 0 { KIND_FLOW_OPENED } else { KIND_FLOW_CLOSED };
    if kind == KIND_FLOW_OPENED {
        count_opened(lease.subject_index);
    }
    tell_flow(frame, hook, kind, || FlowRecord {
        lease_id: lease.id,
        subject: subject.number,
        vni: lease.vni & VNI_MASK,
        inner: mapped(packet.ip.source),
        remote: mapped(packet.ip.destination),
        outer: mapped(lease.address),
        inner_port: packet.local_port,
        remote_port: packet.remote_port,
        outer_port: port as u16,
        protocol: packet.protocol as u16,
        ..FlowRecord::default()
    });
    0
}

/// Tells of a flow of IPv6 that has opened, and leaves from `outer`.
#[inline(never)]
pub fn opened6(frame: &TcContext, packet: &Packet6, subject: &Subject, lease: &Lease, outer: &Address6) -> u32 {
    count_opened(lease.subject_index);
    let hook = if subject.flags & SUBJECT_IS_HOST != 0 { Hook::FromHost } else { Hook::FromWorkload };
    tell_flow(frame, hook, KIND_FLOW_OPENED, || FlowRecord {
        lease_id: lease.id,
        subject: subject.number,
        vni: lease.vni & VNI_MASK,
        inner: packet.ip.source,
        remote: packet.ip.destination,
        outer: *outer,
        inner_port: packet.local_port,
        remote_port: packet.remote_port,
        outer_port: packet.local_port,
        protocol: packet.protocol as u16,
        ..FlowRecord::default()
    });
    0
}

/// Tells of a flow that a packet from outside has closed.
#[inline(never)]
pub fn inward(frame: &TcContext, packet: &Packet, subject: &Subject, lease: &Lease, recipient: &Recipient) -> u32 {
    tell_flow(frame, Hook::FromEdge, KIND_FLOW_CLOSED, || FlowRecord {
        lease_id: lease.id,
        subject: subject.number,
        vni: lease.vni & VNI_MASK,
        inner: mapped(recipient.address),
        remote: mapped(packet.ip.source),
        outer: mapped(packet.ip.destination),
        inner_port: recipient.port,
        remote_port: packet.remote_port,
        outer_port: packet.local_port,
        protocol: packet.protocol as u16,
        ..FlowRecord::default()
    });
    0
}
