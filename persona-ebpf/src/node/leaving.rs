//! The firewall for what a subject sends: under its persona or past it, in flows that it opens or answers.
//!
//! Past the persona there are no flows, so what is opened there leaves a note in `TOWARDS`, by which its answers are known.
//! Later fragments follow the first, and ICMP errors belong to the flow that they are about.

use persona_common::addr::{Address6, is_mapped};
use persona_common::drop::DropReason;
use persona_common::firewall::{has_verdict, with_verdict};
use persona_common::flow::{FLOW_OPENED_INWARD, ICMP};
use persona_common::node::Subject;
use persona_common::record::{ICMPV6, RECORD_OPENED_OUTWARD, RecordKey};
use persona_ebpf::packet::{Kind, Packet, Part};
use persona_ebpf::packet6::Packet6;

use crate::bypass::is_bypassed;
use crate::classify::Origin;
use crate::configured4::record_key;
use crate::firewall::{self, EGRESS, INGRESS, judges, service, service_of};
use crate::maps::{FLOWS, OPENINGS};
use crate::resolve::{flow_key, live_slot};
use crate::{atomic, fragment, fragment6, records, towards};

/// What is known of the flow that a packet is of.
struct Known<'a> {
    /// The flags of its flow or record, if it has one.
    flags: Option<&'a mut u32>,
    /// Whether the other side has opened it.
    is_inward: bool,
    /// Whether that record is in `TOWARDS`.
    is_beside: bool,
}

/// What a packet does to its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It opens a connection.
    Opens,
    /// It may be its first or any other.
    Goes,
    /// It is an ICMP error about it.
    Reports,
}

impl Role {
    #[inline(always)]
    fn of(kind: Kind, opens_connection: bool) -> Self {
        match kind {
            Kind::Error => Self::Reports,
            _ if opens_connection => Self::Opens,
            _ => Self::Goes,
        }
    }
}

/// Whether a packet may leave, as far as its subject's rules go.
#[inline(always)]
pub fn check4(packet: &Packet, origin: &Origin, now_secs: u32) -> Result<(), DropReason> {
    if !origin.subject.has_or_had_firewall() {
        return Ok(());
    }
    if refuses4(packet, origin, now_secs) != 0 {
        return Err(DropReason::Firewall);
    }
    if packet.part == Part::First && judges(origin.subject) {
        fragment::note_passed(packet, fragment::BESIDE_OUTWARD | origin.subject_index, now_secs);
    }
    Ok(())
}

/// As [`check4`], of a packet or of the one that an error embeds.
#[inline(always)]
pub fn check6(packet: &Packet6, key: &RecordKey, origin: &Origin, now_secs: u32) -> Result<(), DropReason> {
    if !origin.subject.has_or_had_firewall() {
        return Ok(());
    }
    if refuses6(packet, key, origin, now_secs) != 0 {
        return Err(DropReason::Firewall);
    }
    if packet.part == Part::First && judges(origin.subject) {
        fragment6::note_passed(packet, fragment::BESIDE_OUTWARD | origin.subject_index, now_secs);
    }
    Ok(())
}

/// Whether what no persona carries may pass by: an ICMP message that is neither an echo nor an error, if one side may open ICMP
/// towards the other. Nothing else does where there are rules, for they could not be asked.
#[inline(always)]
pub fn check_odd(origin: &Origin, remote: &Address6, reason: DropReason) -> Result<(), DropReason> {
    if judges(origin.subject) && refuses_odd(origin.subject_index, remote, reason as u32) != 0 {
        return Err(DropReason::Firewall);
    }
    Ok(())
}

/// Whether a later fragment may pass by: if its first did.
#[inline(always)]
pub fn check_later4(packet: &Packet, origin: &Origin, now_secs: u32) -> Result<(), DropReason> {
    let scope = fragment::BESIDE_OUTWARD | origin.subject_index;
    if judges(origin.subject) && !fragment::has_passed(packet, scope, now_secs) {
        return Err(DropReason::Firewall);
    }
    Ok(())
}

/// As [`check_later4`].
#[inline(always)]
pub fn check_later6(packet: &Packet6, origin: &Origin, now_secs: u32) -> Result<(), DropReason> {
    let scope = fragment::BESIDE_OUTWARD | origin.subject_index;
    if judges(origin.subject) && !fragment6::has_passed(packet, scope, now_secs) {
        return Err(DropReason::Firewall);
    }
    Ok(())
}

#[inline(never)]
fn refuses4(packet: &Packet, origin: &Origin, now_secs: u32) -> u32 {
    if packet.part == Part::Later {
        return 0;
    }
    let key = record_key(packet, origin.subject);
    let role = Role::of(packet.kind, packet.opens_connection());
    let is_refused = match flow_flags(packet, origin.subject) {
        Some(flags) => {
            // Of flows without connections only the note says who has opened them.
            let is_inward = *flags & FLOW_OPENED_INWARD != 0 || is_noted(packet, origin.subject, now_secs);
            refuses(Known { flags: Some(flags), is_inward, is_beside: false }, &key, origin, role, now_secs)
        }
        None => {
            let mut known = known_by_record(&key, now_secs);
            known.is_inward |= known.flags.is_none() && is_noted(packet, origin.subject, now_secs);
            refuses(known, &key, origin, role, now_secs)
        }
    };
    is_refused as u32
}

#[inline(never)]
fn refuses6(packet: &Packet6, key: &RecordKey, origin: &Origin, now_secs: u32) -> u32 {
    let mut known = known_by_record(key, now_secs);
    known.is_inward |= known.flags.is_none() && records::addressed(key, now_secs).is_some();
    refuses(known, key, origin, Role::of(packet.kind, packet.opens_connection()), now_secs) as u32
}

/// The flags of a packet's flow. A function of its own, for the sake of the stack.
#[inline(never)]
fn flow_flags(packet: &Packet, subject: &Subject) -> Option<&'static mut u32> {
    let flow = FLOWS.get_ptr_mut(flow_key(packet, subject))?;
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    Some(unsafe { &mut (*flow).flags })
}

/// Whether a stranger has addressed the port that a packet comes from, and was let in. A function of its own, likewise.
#[inline(never)]
fn is_noted(packet: &Packet, subject: &Subject, now_secs: u32) -> bool {
    if packet.opens_connection() {
        return false;
    }
    // SAFETY: values are replaced as a whole and copied here at once.
    let value = unsafe { OPENINGS.get(flow_key(packet, subject)) }.copied();
    value.is_some_and(|value| live_slot(value.slot_index, value.sequence, now_secs).is_some())
}

#[inline(always)]
fn known_by_record(key: &RecordKey, now_secs: u32) -> Known<'static> {
    if let Some(flags) = records::flags(key, now_secs) {
        let is_inward = *flags & FLOW_OPENED_INWARD != 0;
        return Known { flags: Some(flags), is_inward, is_beside: false };
    }
    match towards::flags(key, now_secs) {
        Some(flags) => {
            let is_inward = *flags & RECORD_OPENED_OUTWARD == 0;
            Known { flags: Some(flags), is_inward, is_beside: true }
        }
        None => Known { flags: None, is_inward: false, is_beside: false },
    }
}

#[inline(always)]
fn refuses(known: Known<'_>, key: &RecordKey, origin: &Origin, role: Role, now_secs: u32) -> bool {
    let (subject, verdict) = (origin.subject, origin.subject.verdict());
    // Whoever opens a connection anew opens it, whoever did before.
    let is_turned = role == Role::Opens && known.is_inward;
    if let Some(flags) = &known.flags
        && !is_turned
        && has_verdict(**flags, verdict)
    {
        return false;
    }
    let direction = if known.is_inward && !is_turned { INGRESS } else { EGRESS };
    let service = match (&known.flags, role) {
        (None, Role::Reports) => service(icmp_of(&key.remote), 0, EGRESS),
        _ => service_of(key.protocol, key.local_port, key.remote_port, direction),
    };
    if judges(subject) && firewall::check(origin.subject_index, &key.remote, service).is_err() {
        return true;
    }
    match known.flags {
        Some(flags) => {
            let before = *flags;
            let opened = if known.is_beside && is_turned { RECORD_OPENED_OUTWARD } else { 0 };
            atomic::replace(flags, before, with_verdict(before | opened, verdict));
        }
        None if judges(subject) && !known.is_inward && role != Role::Reports && is_bypassed(origin, key.remote) => {
            towards::note_outward(key, verdict, now_secs);
        }
        None => {}
    }
    false
}

/// The ICMP of an address's family.
#[inline(always)]
fn icmp_of(address: &Address6) -> u32 {
    if is_mapped(*address) { ICMP as u32 } else { ICMPV6 as u32 }
}

#[inline(never)]
fn refuses_odd(subject_index: u32, remote: &Address6, reason: u32) -> u32 {
    if reason != DropReason::IcmpType as u32 {
        return 1;
    }
    let may_be_opened =
        |direction| firewall::check(subject_index, remote, service(icmp_of(remote), 0, direction)).is_ok();
    !(may_be_opened(EGRESS) || may_be_opened(INGRESS)) as u32
}
