//! Totals upwards: what all subjects of a node whose rates are from one persona have together. A class of the persona stands
//! above theirs, and they borrow from it; what one doesn't use the others have. Pure.
//!
//! What a class has by itself it may send whatever those beside it do, so all of them together never have more of that
//! than the total.

use std::collections::BTreeMap;

use persona_core::ids::PersonaName;

use super::queues::{ShapedSubject, bytes_per_sec, class, least_burst};
use crate::netlink::htb::{HtbClass, Leaf};

/// A subject that nothing is guaranteed has this much by itself, bits per second, so that none is silenced.
const OWN_BPS: u64 = 64_000;

/// A total that is less than what it guarantees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overbooked {
    /// Whose.
    pub persona: PersonaName,
    /// The total, bits per second.
    pub total_bps: u64,
    /// What its wearers are guaranteed together, bits per second.
    pub guaranteed_bps: u64,
    /// How many there are.
    pub wearer_count: usize,
}

/// A persona's total and who has a share of it: at least one subject.
pub(super) struct Total<'a> {
    persona: &'a PersonaName,
    total_bps: u64,
    /// A hash of the persona's name.
    pub key: u32,
    /// Who has a share.
    pub wearers: Vec<&'a ShapedSubject>,
}

/// The totals of these subjects, by persona.
pub(super) fn totals(subjects: &[ShapedSubject]) -> Vec<Total<'_>> {
    let mut totals: BTreeMap<&PersonaName, Total<'_>> = BTreeMap::new();
    for subject in subjects {
        let Some(shared) = &subject.qos.shared else { continue };
        let Some(total_bps) = shared.egress_bps else { continue };
        let (persona, key) = (&shared.persona, hash(shared.persona.as_str()));
        let total = totals.entry(persona).or_insert_with(|| Total { persona, total_bps, key, wearers: Vec::new() });
        total.total_bps = total.total_bps.min(total_bps);
        total.wearers.push(subject);
    }
    totals.into_values().collect()
}

impl Total<'_> {
    /// The persona's class.
    pub(super) fn class(&self) -> HtbClass {
        let mtu = self.wearers.iter().map(|subject| subject.mtu).max().unwrap_or_default();
        let rate = bytes_per_sec(self.total_bps);
        HtbClass::new(rate, least_burst(rate, mtu), Leaf::Inner)
    }

    /// The class of one of its wearers, below the persona's.
    pub(super) fn class_of(&self, subject: &ShapedSubject, parent_minor: u16) -> HtbClass {
        let most_bps = subject.qos.egress_bps.unwrap_or(u64::MAX).min(self.total_bps);
        let alone = class(most_bps, subject);
        let own = bytes_per_sec(self.own_bps(subject).min(most_bps));
        let below = HtbClass::new(own, least_burst(own, subject.mtu), alone.leaf);
        HtbClass { parent_minor, rate_bytes_per_sec: own, burst_ticks: below.burst_ticks, ..alone }
    }

    /// What a subject has by itself: what is guaranteed, as long as all of it together is no more than the total.
    fn own_bps(&self, subject: &ShapedSubject) -> u64 {
        guaranteed_bps(subject).max(OWN_BPS).min(self.total_bps / self.wearers.len().max(1) as u64)
    }

    /// Whether the guarantees are more than there is. Of a total over all nodes the manager knows that.
    pub(super) fn overbooked(&self) -> Option<Overbooked> {
        if self.wearers.iter().any(|subject| subject.qos.shared.as_ref().is_some_and(|shared| !shared.scope.is_node()))
        {
            return None;
        }
        let guaranteed_bps = self.wearers.iter().map(|subject| guaranteed_bps(subject)).sum();
        (guaranteed_bps > self.total_bps).then(|| Overbooked {
            persona: self.persona.clone(),
            total_bps: self.total_bps,
            guaranteed_bps,
            wearer_count: self.wearers.len(),
        })
    }
}

fn guaranteed_bps(subject: &ShapedSubject) -> u64 {
    subject.qos.shared.as_ref().and_then(|shared| shared.guaranteed_bps).unwrap_or(0)
}

/// Which class goes first where the device is the bottleneck, by the mark of its packets (RFC 4594 §2.3): 0 first, 7 last.
pub(super) fn priority(dscp: Option<u8>) -> u8 {
    match dscp.unwrap_or(0) {
        // CS5 to CS7, VA, EF.
        40.. => 0,
        // CS4 and AF4x.
        32..40 => 1,
        // CS2 and AF2x: low-latency data.
        16..24 => 2,
        // CS3 and AF3x: streams.
        24..32 => 3,
        // AF1x: transfers.
        9..16 => 5,
        // LE and CS1.
        1 | 8 => 7,
        _ => 4,
    }
}

/// Whether packets of this mark are not to wait behind bulk: voice, control, conferences, transactions.
pub(crate) fn is_low_latency(dscp: Option<u8>) -> bool {
    priority(dscp) <= 2
}

/// FNV-1a, 32 bits.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use persona_core::document::QosClass;
    use persona_core::ids::SubjectNumber;
    use persona_core::wire::desired::{SharedQos, SharedScope, SubjectImpair, SubjectQos};

    use super::super::queues::{Leaves, Upward, plan_classes as plan};
    use super::*;

    const UPLINK: Upward = Upward { ifindex: 1, overhead_bytes: 50 };

    fn wearer(number: u32, egress_bps: Option<u64>, guaranteed_bps: Option<u64>) -> ShapedSubject {
        let (persona, total_bps) = ("gold".parse().unwrap(), Some(40_000_000));
        let scope = SharedScope::Node;
        let shared = SharedQos { persona, scope, egress_bps: total_bps, ingress_bps: None, guaranteed_bps };
        let qos = SubjectQos { egress_bps, shared: Some(shared), ..Default::default() };
        let impair = SubjectImpair::default();
        let (number, device, leaves) = (SubjectNumber(number), Some(100 + number), Leaves::Plain);
        ShapedSubject { number, mtu: 1_400, qos, impair, device, leaves }
    }

    fn silver(number: u32) -> ShapedSubject {
        let mut subject = wearer(number, None, None);
        subject.qos.shared.as_mut().unwrap().persona = "silver".parse().unwrap();
        subject
    }

    fn alone(number: u32) -> ShapedSubject {
        let mut subject = wearer(number, Some(8_000_000), None);
        subject.qos.shared = None;
        subject
    }

    /// The classes above and those below, on the uplink.
    fn classes(subjects: &[ShapedSubject]) -> (BTreeMap<u16, HtbClass>, BTreeMap<SubjectNumber, HtbClass>) {
        let plan = plan(UPLINK, subjects).unwrap();
        let classes = &plan.shapers[&1].classes;
        let inner = classes.iter().filter(|(_, class)| class.leaf == Leaf::Inner);
        let of_subject = plan.egress_classes.iter().map(|(number, handle)| (*number, classes[&(*handle as u16)]));
        (inner.map(|(minor, class)| (*minor, *class)).collect(), of_subject.collect())
    }

    #[test]
    fn wearers_of_one_persona_stand_below_one_class_and_others_do_not() {
        let (inner, of_subject) = classes(&[wearer(1, None, None), wearer(2, Some(8_000_000), None), alone(3)]);
        let (minor, total) = inner.first_key_value().unwrap();
        assert_eq!((inner.len(), total.rate_bytes_per_sec), (1, 5_000_000));
        let of = |number| of_subject[&SubjectNumber(number)];
        assert_eq!([1, 2, 3].map(|number| of(number).parent_minor), [*minor, *minor, 0]);
        assert_eq!([1, 2, 3].map(|number| of(number).ceiling_bytes_per_sec), [5_000_000, 1_000_000, 1_000_000]);
        assert_eq!([1, 2, 3].map(|number| of(number).rate_bytes_per_sec), [8_000, 8_000, 1_000_000]);
        assert_eq!(classes(&[wearer(1, None, None), silver(2)]).0.len(), 2, "another persona has another total");
    }

    #[test]
    fn what_is_guaranteed_is_the_classes_own_and_never_more_than_the_total_together() {
        for (count, guaranteed_bps, own_bps, is_overbooked) in [
            (1, Some(10_000_000), 10_000_000, false),
            (4, Some(10_000_000), 10_000_000, false),
            (5, Some(10_000_000), 8_000_000, true),
            (5, None, 64_000, false),
            (1_000, None, 40_000, false),
        ] {
            let subjects: Vec<_> = (0..count).map(|number| wearer(number, None, guaranteed_bps)).collect();
            let (_, of_subject) = classes(&subjects);
            let wanted = bytes_per_sec(own_bps);
            assert!(of_subject.values().all(|class| class.rate_bytes_per_sec == wanted), "{count}");
            let overbooked = plan(UPLINK, &subjects).unwrap().overbooked;
            assert_eq!(!overbooked.is_empty(), is_overbooked, "{count}: {overbooked:?}");
        }
    }

    #[test]
    fn while_versions_differ_the_lowest_total_counts() {
        let mut other = wearer(2, None, None);
        other.qos.shared.as_mut().unwrap().egress_bps = Some(4_000_000);
        let (inner, of_subject) = classes(&[wearer(1, None, None), other]);
        assert!(inner.values().chain(of_subject.values()).all(|class| class.ceiling_bytes_per_sec == 500_000));
    }

    #[test]
    fn a_total_that_comes_moves_no_class_of_others() {
        let before = plan(UPLINK, &[alone(1), alone(2)]).unwrap().egress_classes;
        let after = plan(UPLINK, &[alone(1), alone(2), wearer(3, None, None)]).unwrap().egress_classes;
        assert!(before.iter().all(|(number, class)| after[number] == *class));
        let joined = plan(UPLINK, &[alone(1), wearer(2, None, None)]).unwrap().egress_classes;
        assert_ne!(
            joined[&SubjectNumber(2)],
            before[&SubjectNumber(2)],
            "the old class serves until it is not named any more"
        );
    }

    #[test]
    fn classes_of_service_have_an_order() {
        let order = [
            QosClass::Telephony,
            QosClass::RealTimeInteractive,
            QosClass::LowLatency,
            QosClass::MultimediaStreaming,
            QosClass::Standard,
            QosClass::HighThroughput,
            QosClass::LowPriority,
        ];
        let priorities = order.map(|class| priority(class.dscp().map(|dscp| dscp.value())));
        assert_eq!(priorities, [0, 1, 2, 3, 4, 5, 7]);
        assert_eq!(priority(Some(1)), 7, "lower effort (RFC 8622)");
    }
}
