//! Totals downwards: each subject's queue stands on a device of its own and none spans them, so what the wearers of a persona have
//! together is divided among their queues, anew every second, by what each has used. Pure but for what is passed in.
//!
//! The shares are never more than the total. Who begins waits for a division or two until it has its part; while no agent
//! runs, the last division stays.

use std::collections::BTreeMap;
use std::time::Duration;

use persona_core::divide::{Claim, Demand, divide};
use persona_core::ids::{PersonaName, SubjectNumber};

use super::queues::ShapedSubject;

/// What subjects have used of their shares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Demands {
    /// Inner bytes to each subject, as counted last.
    counted: BTreeMap<SubjectNumber, u64>,
    /// What each wants, as far as two counts say it.
    wanted: BTreeMap<SubjectNumber, Demand>,
}

impl Demands {
    /// Takes a new count of inner bytes to each subject, so long after the last, with the shares in force (bits per second).
    pub(super) fn take(
        &mut self,
        counts: impl Iterator<Item = (SubjectNumber, u64)>,
        since: Duration,
        shares: &BTreeMap<SubjectNumber, u64>,
    ) {
        let mut counted = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (number, bytes) in counts.filter(|(number, _)| shares.contains_key(number)) {
            counted.insert(number, bytes);
            let Some(before) = self.counted.get(&number) else { continue };
            let used_bps = bytes.saturating_sub(*before) as u128 * 8_000 / since.as_millis().max(1);
            let used_bps = u64::try_from(used_bps).unwrap_or(u64::MAX);
            wanted.insert(number, Demand::of_use(used_bps, shares[&number]));
        }
        (self.counted, self.wanted) = (counted, wanted);
    }

    /// Gives every subject that has a part of a total downwards, and a device, its share as its rate. Returns the shares.
    pub(super) fn divide(&self, subjects: &mut [ShapedSubject]) -> BTreeMap<SubjectNumber, u64> {
        let mut shares = BTreeMap::new();
        for (total_bps, members) in totals(subjects) {
            let claim = |index: &usize| {
                let subject = &subjects[*index];
                let demand = self.wanted.get(&subject.number).copied().unwrap_or(Demand::Everything);
                Claim { most: subject.qos.ingress_bps.unwrap_or(u64::MAX).min(total_bps), demand }
            };
            let claims: Vec<Claim> = members.iter().map(claim).collect();
            for (index, share) in members.into_iter().zip(divide(total_bps, &claims)) {
                subjects[index].qos.ingress_bps = Some(share.max(1));
                shares.insert(subjects[index].number, share.max(1));
            }
        }
        shares
    }
}

/// The totals of these subjects, with the places of those that have a part. While versions of a persona differ the lowest
/// total counts.
fn totals(subjects: &[ShapedSubject]) -> Vec<(u64, Vec<usize>)> {
    let mut totals: BTreeMap<&PersonaName, (u64, Vec<usize>)> = BTreeMap::new();
    for (index, subject) in subjects.iter().enumerate().filter(|(_, subject)| subject.device.is_some()) {
        let Some(shared) = &subject.qos.shared else { continue };
        let Some(total_bps) = shared.ingress_bps else { continue };
        let (least_bps, members) = totals.entry(&shared.persona).or_insert((total_bps, Vec::new()));
        *least_bps = total_bps.min(*least_bps);
        members.push(index);
    }
    totals.into_values().collect()
}

#[cfg(test)]
mod tests {
    use persona_core::wire::desired::{SharedQos, SharedScope, SubjectImpair, SubjectQos};

    use super::super::queues::Leaves;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wearer(number: u32, ingress_bps: Option<u64>, device: Option<u32>) -> ShapedSubject {
        let persona = "gold".parse().unwrap();
        let shared = SharedQos {
            persona,
            scope: SharedScope::Node,
            egress_bps: None,
            ingress_bps: Some(64_000_000),
            guaranteed_bps: None,
        };
        let qos = SubjectQos { ingress_bps, shared: Some(shared), ..Default::default() };
        let (number, impair, leaves) = (SubjectNumber(number), SubjectImpair::default(), Leaves::Plain);
        ShapedSubject { number, mtu: 1_400, qos, impair, device, leaves }
    }

    fn rates(demands: &Demands, mut subjects: Vec<ShapedSubject>) -> Vec<Option<u64>> {
        demands.divide(&mut subjects);
        subjects.iter().map(|subject| subject.qos.ingress_bps).collect()
    }

    #[test]
    fn who_is_new_has_an_equal_part() {
        let all = vec![wearer(1, None, Some(101)), wearer(2, None, Some(102))];
        assert_eq!(rates(&Demands::default(), all), [Some(32_000_000); 2]);
        let held = vec![wearer(1, Some(8_000_000), Some(101)), wearer(2, None, Some(102))];
        assert_eq!(rates(&Demands::default(), held), [Some(8_000_000), Some(56_000_000)]);
    }

    #[test]
    fn who_has_no_device_or_no_total_has_no_part() {
        let mut alone = wearer(3, Some(5), Some(103));
        alone.qos.shared = None;
        let all = vec![wearer(1, None, Some(101)), wearer(2, None, None), alone];
        assert_eq!(rates(&Demands::default(), all), [Some(64_000_000), None, Some(5)]);
    }

    #[test]
    fn who_uses_little_leaves_it_to_others_and_gets_it_back() {
        let all = || vec![wearer(1, None, Some(101)), wearer(2, None, Some(102))];
        let mut demands = Demands::default();
        let mut counted = [7_000_000_000_u64, 1_000];
        let mut second = |bytes: [u64; 2]| {
            let shares = demands.divide(&mut all());
            counted = [counted[0] + bytes[0], counted[1] + bytes[1]];
            let counts = [1, 2].map(SubjectNumber).into_iter().zip(counted);
            demands.take(counts, SECOND, &shares);
            rates(&demands, all())
        };
        assert_eq!(second([0, 0]), [Some(32_000_000); 2], "one count says nothing");
        assert_eq!(second([4_000_000, 0]), [Some(62_000_000), Some(2_000_000)]);
        assert_eq!(second([7_750_000, 250_000]), [Some(32_000_000); 2], "both use what they have");
    }
}
