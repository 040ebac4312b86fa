//! Firewall rules: whether they deny that a flow is opened, in three look-ups; and what flows bear of the verdict.
//!
//! A flow bears the generation of the rules that let it open. One of another generation is judged anew by its next packet, so
//! that other rules come into force on what is established, and what they do not change costs one comparison.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap};
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::firewall::{FirewallService, FirewallSet, SubjectFirewall, has_verdict, with_verdict};
use persona_common::flow::{FLOW_OPENED_INWARD, TCP, UDP};
use persona_common::maps::{
    FIREWALL_REMOTE_COUNT_MAX, FIREWALL_SERVICE_COUNT_MAX, FIREWALL_SET_COUNT_MAX, SUBJECT_COUNT_MAX,
};
use persona_common::node::{SCOPE_BITS, SUBJECT_HAS_FIREWALL, ScopedAddress, Subject};

use crate::atomic;

#[map]
static FIREWALLS: Array<FirewallSet> = Array::pinned(FIREWALL_SET_COUNT_MAX, 0);
/// (set, the other side) → rules about it.
#[map]
static FIREWALL_REMOTES: LpmTrie<ScopedAddress, u64> = LpmTrie::pinned(FIREWALL_REMOTE_COUNT_MAX, 0);
/// Protocol and port of a set → rules about them.
#[map]
static FIREWALL_SERVICES: HashMap<FirewallService, u64> =
    HashMap::pinned(FIREWALL_SERVICE_COUNT_MAX, BPF_F_NO_PREALLOC);
/// Subject index → its rules.
#[map]
static SUBJECT_FIREWALLS: Array<SubjectFirewall> = Array::pinned(SUBJECT_COUNT_MAX, 0);

/// Set beside protocol and port of what the subject opens; else it is opened towards it.
pub const EGRESS: u32 = 1 << 31;
/// In its place for what is opened towards the subject.
pub const INGRESS: u32 = 0;

/// Protocol, destination port and direction of what opens, in one register.
#[inline(always)]
pub fn service(protocol: u32, port: u16, direction: u32) -> u32 {
    direction | (protocol & 0xff) << 16 | port as u32
}

/// What opened a flow whose ports are these; ICMP's id is no port.
#[inline(always)]
pub fn service_of(protocol: u32, local_port: u16, remote_port: u16, direction: u32) -> u32 {
    let port = match (direction, protocol as u8) {
        (EGRESS, _) => remote_port,
        (_, TCP | UDP) => local_port,
        _ => 0,
    };
    service(protocol, port, direction)
}

/// Whether a subject's packets are judged.
#[inline(always)]
pub fn judges(subject: &Subject) -> bool {
    subject.flags & SUBJECT_HAS_FIREWALL != 0
}

/// Whether the rules of a subject let a flow open.
#[inline(always)]
pub fn check(subject_index: u32, remote: &Address6, service: u32) -> Result<(), DropReason> {
    if denies(subject_index, remote, service) == 0 { Ok(()) } else { Err(DropReason::Firewall) }
}

/// Whether a flow in force may go on; `flags` are its own, or its record's.
#[inline(always)]
pub fn check_flow(
    flags: &mut u32,
    (subject, subject_index): (&Subject, u32),
    remote: &Address6,
    (protocol, local_port, remote_port): (u32, u16, u16),
) -> Result<(), DropReason> {
    let before = *flags;
    if has_verdict(before, subject.verdict()) {
        return Ok(());
    }
    if judges(subject) {
        let direction = if before & FLOW_OPENED_INWARD == 0 { EGRESS } else { INGRESS };
        check(subject_index, remote, service_of(protocol, local_port, remote_port, direction))?;
    }
    // Lost to a change of other bits, it is made up for by the next packet.
    atomic::replace(flags, before, with_verdict(before, subject.verdict()));
    Ok(())
}

/// 1: the first rule that matches denies. A function of its own, for the sake of the stack.
#[inline(never)]
fn denies(subject_index: u32, remote: &Address6, service: u32) -> u32 {
    let Some((set, set_index)) = set_of(subject_index) else {
        // The agent is about to write or to clear it.
        return 1;
    };
    set.denies(about_remote(set, set_index, remote), about_service(set, set_index, service), service & EGRESS != 0)
        as u32
}

#[inline(always)]
fn set_of(subject_index: u32) -> Option<(&'static FirewallSet, u32)> {
    let set_index = SUBJECT_FIREWALLS.get(subject_index)?.set_index_plus_one.wrapping_sub(1);
    FIREWALLS.get(set_index).filter(|set| set.key != 0).map(|set| (set, set_index))
}

#[inline(always)]
fn about_remote(set: &FirewallSet, set_index: u32, remote: &Address6) -> u64 {
    const ALL_BITS: u32 = SCOPE_BITS + 128;
    let key = Key::new(ALL_BITS, ScopedAddress { scope: set_index.to_be(), address: *remote });
    FIREWALL_REMOTES.get(&key).copied().unwrap_or(set.any_remote)
}

#[inline(always)]
fn about_service(set: &FirewallSet, set_index: u32, service: u32) -> u64 {
    let mut key = FirewallService { set_index, protocol: (service >> 16 & 0xff) as u16, port: service as u16 };
    // SAFETY: values are replaced as a whole and copied here at once.
    if let Some(bits) = unsafe { FIREWALL_SERVICES.get(&key) } {
        return *bits;
    }
    key.port = 0;
    // SAFETY: as above.
    unsafe { FIREWALL_SERVICES.get(&key) }.copied().unwrap_or(set.any_protocol)
}
