//! Fragments of IPv6 packets: the first leaves what it found in `FRAGMENTS`, later ones follow. Ids stay as they are.

use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_ebpf::packet6::Packet6;

pub use crate::fragment::{INWARD, outward_scope};
use crate::maps::FRAGMENTS;
use crate::records::Held;

/// Leaves what the first fragment of a packet found.
#[inline(never)]
pub fn note(packet: &Packet6, scope: u32, value: &FragmentValue) -> u32 {
    // An LRU makes room; without the entry later fragments wait and are dropped with their reason.
    FRAGMENTS.insert(key(packet, scope), value, 0).is_err() as u32
}

/// What the first fragment of a later one left, and the lease.
#[inline(always)]
pub fn find(packet: &Packet6, scope: u32, now_secs: u32) -> Option<(&'static FragmentValue, Held)> {
    let value = look_up(packet, scope)?;
    let held = Held::at(value.lease_index)?;
    let is_same = value.is_fresh(now_secs) && held.lease.id as u32 == value.lease_id_low;
    is_same.then_some((value, held))
}

/// Leaves that the first fragment of a packet was let pass by a firewall.
#[inline(never)]
pub fn note_passed(packet: &Packet6, scope: u32, now_secs: u32) -> u32 {
    note(packet, scope, &FragmentValue { seen_secs: now_secs, ..FragmentValue::default() })
}

/// Whether the first fragment of a later one was.
#[inline(always)]
pub fn has_passed(packet: &Packet6, scope: u32, now_secs: u32) -> bool {
    look_up(packet, scope).is_some_and(|value| value.is_fresh(now_secs))
}

#[inline(never)]
fn look_up(packet: &Packet6, scope: u32) -> Option<&'static FragmentValue> {
    // SAFETY: a value in the map, valid for this run; one that another packet gets meanwhile is an id used twice at once.
    unsafe { FRAGMENTS.get(key(packet, scope)) }
}

#[inline(always)]
fn key(packet: &Packet6, scope: u32) -> FragmentKey {
    FragmentKey {
        scope,
        source: packet.ip.source,
        destination: packet.ip.destination,
        id: packet.fragment_id,
        protocol: packet.fragment_protocol as u32,
    }
}
