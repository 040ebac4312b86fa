//! What subjects hold of edge groups beside their leases, counted subject by subject: two decisions of one pass never count on the
//! same room.

use std::collections::BTreeMap;

use crate::ids::{GroupName, SubjectId};

/// A subject's place in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which group.
    pub group: GroupName,
    /// What its persona guarantees it, bits per second.
    pub guaranteed_bps: u64,
}

/// Who holds what.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    seats: BTreeMap<SubjectId, Seat>,
    /// By group, bits per second.
    guaranteed: BTreeMap<GroupName, u64>,
}

impl Ledger {
    /// Gives a subject its seat, in place of the one that it had; None takes it away.
    pub fn seat(&mut self, subject: &SubjectId, seat: Option<Seat>) {
        if let Some(left) = self.seats.remove(subject)
            && let Some(sum) = self.guaranteed.get_mut(&left.group)
        {
            *sum -= left.guaranteed_bps;
        }
        // Most subjects hold nothing that is counted.
        let Some(seat) = seat.filter(|seat| seat.guaranteed_bps > 0) else { return };
        *self.guaranteed.entry(seat.group.clone()).or_default() += seat.guaranteed_bps;
        self.seats.insert(subject.clone(), seat);
    }

    /// What a group guarantees to others than this subject, bits per second.
    pub(super) fn guaranteed_beside(&self, subject: &SubjectId, group: &GroupName) -> u64 {
        let all = self.guaranteed.get(group).copied().unwrap_or(0);
        all - self.guaranteed_to(subject, group)
    }

    /// What a group guarantees to this subject, bits per second.
    pub(super) fn guaranteed_to(&self, subject: &SubjectId, group: &GroupName) -> u64 {
        self.seats.get(subject).filter(|seat| seat.group == *group).map_or(0, |seat| seat.guaranteed_bps)
    }
}
