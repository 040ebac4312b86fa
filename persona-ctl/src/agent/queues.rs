//! The queues that hold subjects to their rates: upwards on the uplink, downwards on the workload's own device.
//!
//! A persona's rate counts inner IP bytes, HTB counts what it sees on the device. So the rate is scaled by the share of
//! a full packet; streams of small packets get a little less than their rate, never more.

use std::collections::BTreeMap;

use persona_core::ids::SubjectNumber;
use persona_core::wire::desired::SubjectQos;

use crate::netlink::htb::{HtbClass, Leaf};
use crate::netlink::{HANDLE_MAJOR, Shaper};

/// Bytes that a packet has on any device beside IP: Ethernet.
const DEVICE_OVERHEAD_BYTES: u64 = 14;
/// The only class of a workload's device.
const DEVICE_MINOR: u16 = 1;
/// Class minors of subjects are 1 to this.
const MINOR_MAX: u16 = 0xfffe;
/// A queue holds this much time of its rate.
const QUEUE_MS: u64 = 20;
/// Four full GSO packets: less would drop what TCP sends in one go.
const QUEUE_BYTES_MIN: u64 = 4 * 65_536;
/// At low rates, four GSO packets would be seconds of delay: a queue below a few Mbit/s holds this much time instead.
const QUEUE_MS_MAX: u64 = 200;
/// One full GSO packet with its headers must always fit.
const QUEUE_BYTES_FLOOR: u64 = 65_536 + 4_096;
/// Timer ticks per second that a class must be able to live from.
const TICKS_PER_SEC: u64 = 250;

/// A subject's rates and where they are enforced.
#[derive(Debug, Clone)]
pub(super) struct ShapedSubject {
    /// Its number.
    pub number: SubjectNumber,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Its rates.
    pub qos: SubjectQos,
    /// Its device, for a workload that is attached.
    pub device: Option<u32>,
}

/// Queues per device, and the class of each subject on the uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct QueuePlan {
    /// Device index → its queues.
    pub shapers: BTreeMap<u32, Shaper>,
    /// Subject → `skb->priority`.
    pub egress_classes: BTreeMap<SubjectNumber, u32>,
}

/// More subjects have an upward rate than a device can have classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no class is left on the uplink for a subject's egressRate: at most {MINOR_MAX} subjects of a node can have one"
)]
pub(super) struct OutOfClasses;

/// The queues that these subjects need; `encapsulation_bytes` is what a tunnel adds to their packets on the uplink.
pub(super) fn plan(
    uplink: u32,
    encapsulation_bytes: u32,
    subjects: &[ShapedSubject],
) -> Result<QueuePlan, OutOfClasses> {
    let uplink_overhead_bytes = DEVICE_OVERHEAD_BYTES + u64::from(encapsulation_bytes);
    let mut plan = QueuePlan::default();
    let mut minors = BTreeMap::new();
    for subject in subjects {
        if let Some(rate_bps) = subject.qos.egress_bps {
            let minor = free_minor(&minors, subject.number).ok_or(OutOfClasses)?;
            minors.insert(minor, subject.number);
            let class = class(rate_bps, subject, uplink_overhead_bytes);
            plan.shapers.entry(uplink).or_default().classes.insert(minor, class);
            plan.egress_classes.insert(subject.number, u32::from(HANDLE_MAJOR) << 16 | u32::from(minor));
        }
        if let (Some(rate_bps), Some(device)) = (subject.qos.ingress_bps, subject.device) {
            let class = class(rate_bps, subject, DEVICE_OVERHEAD_BYTES);
            let shaper = Shaper { default_minor: DEVICE_MINOR, classes: [(DEVICE_MINOR, class)].into() };
            plan.shapers.insert(device, shaper);
        }
    }
    Ok(plan)
}

/// The same subject gets the same minor in every pass and after a restart, as long as no other has taken it.
fn free_minor(taken: &BTreeMap<u16, SubjectNumber>, number: SubjectNumber) -> Option<u16> {
    let first = (number.0 % u32::from(MINOR_MAX)) as u16;
    let minors = (0..MINOR_MAX).map(|step| ((u32::from(first) + u32::from(step)) % u32::from(MINOR_MAX)) as u16 + 1);
    minors.into_iter().find(|minor| !taken.contains_key(minor))
}

fn class(rate_bps: u64, subject: &ShapedSubject, overhead_bytes: u64) -> HtbClass {
    let mtu = u64::from(subject.mtu.max(1));
    let inner_bytes_per_sec = rate_bps / 8;
    let outer = u128::from(inner_bytes_per_sec) * u128::from(mtu + overhead_bytes) / u128::from(mtu);
    let outer = u64::try_from(outer).unwrap_or(u64::MAX).max(1);
    let burst = subject.qos.burst_bytes.unwrap_or(0).max(outer / TICKS_PER_SEC + mtu + overhead_bytes);
    HtbClass::new(outer, burst, Leaf::Fifo(queue_bytes(outer)))
}

fn queue_bytes(bytes_per_sec: u64) -> u32 {
    let of_time = |ms: u64| bytes_per_sec.saturating_mul(ms) / 1_000;
    let bytes = of_time(QUEUE_MS).max(QUEUE_BYTES_MIN.min(of_time(QUEUE_MS_MAX))).max(QUEUE_BYTES_FLOOR);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u32, egress_bps: Option<u64>, ingress_bps: Option<u64>) -> ShapedSubject {
        let qos = SubjectQos { egress_bps, ingress_bps, ..Default::default() };
        ShapedSubject { number: SubjectNumber(number), mtu: 1_400, qos, device: Some(100 + number) }
    }

    #[test]
    fn a_subject_without_rates_needs_no_queue() {
        assert_eq!(plan(1, 36, &[subject(1, None, None)]), Ok(QueuePlan::default()));
    }

    #[test]
    fn rates_are_scaled_to_what_the_device_sees() {
        let plan = plan(1, 36, &[subject(1, Some(112_000_000), Some(112_000_000))]).unwrap();
        assert_eq!(plan.shapers[&1].classes[&2].rate_bytes_per_sec, 14_500_000);
        assert_eq!(plan.shapers[&101].classes[&1].rate_bytes_per_sec, 14_140_000);
        assert_eq!(plan.shapers[&1].default_minor, 0, "all else passes unshaped");
        assert_eq!(plan.shapers[&101].default_minor, 1);
    }

    #[test]
    fn subjects_whose_numbers_collide_get_classes_of_their_own() {
        let plan = plan(1, 36, &[subject(5, Some(8_000), None), subject(5 + 0xfffe, Some(8_000), None)]).unwrap();
        let classes: Vec<u32> = plan.egress_classes.values().copied().collect();
        assert_eq!(classes, [0x7e50_0006, 0x7e50_0007]);
    }

    #[test]
    fn more_subjects_than_classes_are_refused() {
        let subjects: Vec<_> = (0..=u32::from(MINOR_MAX)).map(|number| subject(number, Some(8_000), None)).collect();
        assert_eq!(plan(1, 36, &subjects), Err(OutOfClasses));
        assert!(plan(1, 36, &subjects[1..]).is_ok());
    }

    #[test]
    fn over_ipv6_a_packet_is_20_bytes_larger() {
        let plan = plan(1, 56, &[subject(1, Some(112_000_000), None)]).unwrap();
        assert_eq!(plan.shapers[&1].classes[&2].rate_bytes_per_sec, 14_700_000);
    }

    #[test]
    fn a_queue_holds_20_ms_and_never_less_than_what_tcp_sends_at_once() {
        for (mbit, expected) in [(1, 69_632), (4, 100_000), (50, 262_144), (1_000, 2_500_000)] {
            assert_eq!(queue_bytes(mbit * 125_000), expected, "{mbit} Mbit/s");
        }
    }
}
