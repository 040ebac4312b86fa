//! Rates by departure times instead of classes: a cell for each direction of a subject, `fq` on the device. Pure.
//!
//! They count inner IP bytes exactly, whatever size packets have. They cannot divide a total fairly nor repeat packets: a
//! device where that is asked has classes as ever.

use std::collections::BTreeMap;

use persona_common::departure::DEPARTURE_COUNT_MAX;

use super::queues::{
    Numbers, OutOfClasses, QueuePlan, ShapedSubject, TICKS_PER_SEC, Upward, plain_subject, plan_classes, queue_bytes,
    short_queue_bytes,
};
use super::shared_rate::is_low_latency;
use crate::dataplane::HeldRate;
use crate::dataplane::departures::class_of;

/// The value for a device whose packets name their cells.
const BY_CLASS: u16 = persona_common::departure::BY_CLASS as u16;
/// Cells are 1 to this.
const CELL_MAX: u16 = (DEPARTURE_COUNT_MAX - 1) as u16;

/// The queues that these subjects need, as [`super::queues::plan`] gives them.
pub(super) fn plan(upward: Upward, subjects: &[ShapedSubject]) -> Result<QueuePlan, OutOfClasses> {
    let needs_classes = |subject: &ShapedSubject| subject.impair.needs_queue() || subject.shares_upwards();
    let has_uplink = !subjects.iter().any(needs_classes);
    let mut plan = plan_classes(upward, subjects)?;
    if has_uplink {
        plan.shapers.remove(&upward.ifindex);
        plan.egress_classes = BTreeMap::new();
    }
    let mut cells = Numbers::up_to(CELL_MAX);
    for subject in subjects {
        let key = subject.number.0.wrapping_mul(2);
        if let Some(rate_bps) = subject.qos.egress_bps.filter(|_| has_uplink) {
            let cell = cells.take(key)?;
            plan.departures.cells.insert(cell, held(rate_bps, subject));
            plan.departures.devices.insert(upward.ifindex, BY_CLASS);
            plan.egress_classes.insert(subject.number, class_of(cell));
        }
        let device = subject.device.filter(|_| !subject.impair.needs_queue());
        if let (Some(rate_bps), Some(device)) = (subject.qos.ingress_bps, device) {
            let cell = cells.take(key.wrapping_add(1))?;
            plan.departures.cells.insert(cell, held(rate_bps, subject));
            plan.departures.devices.insert(device, cell);
            plan.shapers.remove(&device);
        }
    }
    plan.class_owners.retain(|(ifindex, _), _| plan.shapers.contains_key(ifindex));
    Ok(plan)
}

/// The cell that an agent gives a subject without anything special about it. For whoever measures what it holds.
pub fn plain_departure(rate_bps: u64, mtu: u16) -> HeldRate {
    held(rate_bps, &plain_subject(mtu))
}

/// As much waits and leaves at once as with a class.
fn held(rate_bps: u64, subject: &ShapedSubject) -> HeldRate {
    let bytes_per_sec = rate_bps / 8;
    let least = bytes_per_sec / TICKS_PER_SEC + u64::from(subject.mtu);
    let burst_bytes = subject.qos.burst_bytes.unwrap_or(0).max(least);
    // Everything leaves in the order in which it came.
    let is_low_latency = is_low_latency(subject.qos.dscp);
    let waits = if is_low_latency { short_queue_bytes(bytes_per_sec) } else { queue_bytes(bytes_per_sec) };
    HeldRate { rate_bps, burst_bytes, queue_bytes: waits.into() }
}

#[cfg(test)]
mod tests {
    use persona_core::ids::SubjectNumber;
    use persona_core::wire::desired::{SharedQos, SharedScope, SubjectImpair, SubjectQos};

    use super::super::queues::Leaves;
    use super::*;

    fn subject(number: u32, egress_bps: Option<u64>, ingress_bps: Option<u64>) -> ShapedSubject {
        let qos = SubjectQos { egress_bps, ingress_bps, ..Default::default() };
        let impair = SubjectImpair::default();
        let (number, device, leaves) = (SubjectNumber(number), Some(100 + number), Leaves::Fair);
        ShapedSubject { number, mtu: 1_400, qos, impair, device, leaves }
    }

    fn plan_of(subjects: &[ShapedSubject]) -> QueuePlan {
        plan(Upward { ifindex: 1, overhead_bytes: 50 }, subjects).unwrap()
    }

    #[test]
    fn each_direction_of_a_subject_has_a_cell() {
        let plan = plan_of(&[subject(1, Some(40_000_000), Some(80_000_000)), subject(2, Some(8_000_000), None)]);
        assert!(plan.shapers.is_empty(), "no classes");
        assert_eq!(plan.departures.devices, [(1, 0), (101, 4)].into(), "packets on the uplink name theirs");
        assert_eq!(plan.egress_classes, [(SubjectNumber(1), 0x7e51_0003), (SubjectNumber(2), 0x7e51_0005)].into());
        let rates: Vec<_> = plan.departures.cells.values().map(|held| (held.rate_bps, held.queue_bytes)).collect();
        assert_eq!(rates, [(40_000_000, 262_144), (80_000_000, 262_144), (8_000_000, 262_144)]);
        assert_eq!(plan.departures.cells[&3].burst_bytes, 21_400);
        assert_eq!(plan_of(&[subject(1, None, None)]), QueuePlan::default());
    }

    #[test]
    fn what_departure_times_cannot_do_has_classes_on_its_devices() {
        let plain = subject(1, Some(8_000_000), Some(8_000_000));
        let mut delayed = subject(2, Some(8_000_000), Some(8_000_000));
        delayed.impair.delay_ms = 40;
        let plan = plan_of(&[plain.clone(), delayed]);
        assert_eq!(plan.shapers.keys().copied().collect::<Vec<_>>(), [1, 102]);
        assert_eq!(plan.departures.devices.keys().copied().collect::<Vec<_>>(), [101]);
        assert!(plan.egress_classes.values().all(|class| class >> 16 == 0x7e50), "all on the uplink");

        let mut sharing = subject(2, None, Some(8_000_000));
        let persona = "gold".parse().unwrap();
        let (scope, egress_bps) = (SharedScope::Node, Some(9_000_000));
        sharing.qos.shared = Some(SharedQos { persona, scope, egress_bps, ingress_bps: None, guaranteed_bps: None });
        let plan = plan_of(&[plain, sharing]);
        assert_eq!(plan.shapers.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(plan.departures.devices.keys().copied().collect::<Vec<_>>(), [101, 102]);
    }
}
