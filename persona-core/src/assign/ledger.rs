//! What subjects hold of edge groups beside their leases, counted subject by subject: two decisions of one pass never count on the
//! same room, nor on the same place under a policy.

use std::collections::BTreeMap;

use crate::ids::{GroupName, SubjectId};
use crate::plan::{FleetPolicy, GroupShare, Rule};
use crate::units::Share;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// A subject's place in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which group.
    pub group: GroupName,
    /// What its persona guarantees it, bits per second.
    pub guaranteed_bps: u64,
}

/// How many of a planned group's edges carry a subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spread {
    /// All of them, by weights.
    #[default]
    Group,
    /// One, as planned.
    Edge,
}

/// Who holds what, and the policies under which that counts.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    policies: Vec<FleetPolicy>,
    spread: Spread,
    /// By policy, how many subjects it is for.
    subject_counts: Vec<u32>,
    seats: BTreeMap<SubjectId, Counted>,
    /// By group, bits per second.
    guaranteed: BTreeMap<GroupName, u64>,
    /// By policy about shares and group, how many are there.
    in_group: BTreeMap<(usize, GroupName), u32>,
    /// By policy about distance, value of its label and group, how many are there.
    alike: BTreeMap<(usize, String, GroupName), u32>,
}

/// A seat, and under which policies it counts.
#[derive(Debug, Clone)]
struct Counted {
    seat: Seat,
    shares: Vec<usize>,
    aparts: Vec<(usize, String)>,
}

impl Ledger {
    /// Nobody is anywhere yet.
    pub fn new(policies: Vec<FleetPolicy>, spread: Spread) -> Self {
        Self { subject_counts: vec![0; policies.len()], policies, spread, ..Self::default() }
    }

    /// Whether there are any policies.
    pub fn has_policies(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Whether what one subject holds may decide what another one may.
    pub fn is_counting(&self) -> bool {
        self.has_policies() || !self.seats.is_empty()
    }

    /// Whether places of subjects depend on each other's labels.
    pub fn counts_labels(&self) -> bool {
        self.policies.iter().any(|it| matches!(it.rule, Rule::MaxGroupShare(_) | Rule::Apart(_)))
    }

    /// Whether a policy may close groups to a subject with these labels.
    pub fn may_forbid(&self, labels: &Labels) -> bool {
        let closes = |rule: &Rule| matches!(rule, Rule::Allow(_) | Rule::Deny(_) | Rule::Residency(_));
        self.policies_for(labels).any(|(_, policy)| closes(&policy.rule))
    }

    /// Notes a subject that there is, wherever it is: shares are of all of them.
    pub fn expect(&mut self, labels: &Labels) {
        for (policy, count) in self.policies.iter().zip(&mut self.subject_counts) {
            *count += u32::from(is_for(policy, labels));
        }
    }

    /// Gives a subject its seat, in place of the one that it had; None takes it away.
    pub fn seat(&mut self, subject: &SubjectId, labels: &Labels, seat: Option<Seat>) {
        if let Some(left) = self.seats.remove(subject) {
            self.count(&left, |sum, units| *sum -= units, |count| *count -= 1);
        }
        let Some(seat) = seat else { return };
        let counted = Counted { shares: self.shares_of(labels), aparts: self.aparts_of(labels), seat };
        // Most subjects hold nothing that is counted.
        if counted.seat.guaranteed_bps > 0 || !counted.shares.is_empty() || !counted.aparts.is_empty() {
            self.count(&counted, |sum, units| *sum += units, |count| *count += 1);
            self.seats.insert(subject.clone(), counted);
        }
    }

    fn count(&mut self, it: &Counted, sum: impl Fn(&mut u64, u64), one: impl Fn(&mut u32)) {
        let Seat { group, guaranteed_bps } = &it.seat;
        sum(self.guaranteed.entry(group.clone()).or_default(), *guaranteed_bps);
        it.shares.iter().for_each(|policy| one(self.in_group.entry((*policy, group.clone())).or_default()));
        for (policy, value) in &it.aparts {
            one(self.alike.entry((*policy, value.clone(), group.clone())).or_default());
        }
    }

    fn shares_of(&self, labels: &Labels) -> Vec<usize> {
        let shares = self.policies_for(labels).filter(|(_, policy)| matches!(policy.rule, Rule::MaxGroupShare(_)));
        shares.map(|(at, _)| at).collect()
    }

    fn aparts_of(&self, labels: &Labels) -> Vec<(usize, String)> {
        let value = |(at, policy): (usize, &FleetPolicy)| match &policy.rule {
            Rule::Apart(rule) => labels.get(&rule.label).map(|value| (at, value.clone())),
            _ => None,
        };
        self.policies_for(labels).filter_map(value).collect()
    }

    /// The policies for a subject with these labels, with their places in the list.
    pub(super) fn policies_for(&self, labels: &Labels) -> impl Iterator<Item = (usize, &FleetPolicy)> {
        self.policies.iter().enumerate().filter(|(_, policy)| is_for(policy, labels))
    }

    /// What a group guarantees to others than this subject, bits per second.
    pub(super) fn guaranteed_beside(&self, subject: &SubjectId, group: &GroupName) -> u64 {
        let all = self.guaranteed.get(group).copied().unwrap_or(0);
        all - self.guaranteed_to(subject, group)
    }

    /// What a group guarantees to this subject, bits per second.
    pub(super) fn guaranteed_to(&self, subject: &SubjectId, group: &GroupName) -> u64 {
        self.held(subject, group).map_or(0, |it| it.seat.guaranteed_bps)
    }

    /// Under a policy about shares: how many others are in a group, how many it is for, and how many of these may be there.
    pub(super) fn share(&self, subject: &SubjectId, at: usize, rule: &GroupShare, group: &GroupName) -> [u32; 3] {
        let there = self.in_group.get(&(at, group.clone())).copied().unwrap_or(0);
        let own = self.held(subject, group).is_some_and(|it| it.shares.contains(&at));
        let all = self.subject_counts[at];
        let most = u64::from(all) * u64::from(rule.share.millionths()) / u64::from(Share::WHOLE);
        [there - u32::from(own), all, most as u32]
    }

    /// Under a policy about distance: how many others of the same value are in a group.
    pub(super) fn alike(&self, subject: &SubjectId, at: usize, value: &str, group: &GroupName) -> u32 {
        let there = self.alike.get(&(at, value.to_owned(), group.clone())).copied().unwrap_or(0);
        let is_own = |(it, like): &(usize, String)| *it == at && like == value;
        let own = self.held(subject, group).is_some_and(|it| it.aparts.iter().any(is_own));
        there - u32::from(own)
    }

    /// How many of a group's edges carry a subject.
    pub(super) fn spread(&self) -> Spread {
        self.spread
    }

    fn held(&self, subject: &SubjectId, group: &GroupName) -> Option<&Counted> {
        self.seats.get(subject).filter(|it| it.seat.group == *group)
    }
}

/// Whether a policy is for a subject with these labels.
pub(super) fn is_for(policy: &FleetPolicy, labels: &Labels) -> bool {
    policy.subjects.matches(|key| labels.get(key).map(String::as_str))
}
