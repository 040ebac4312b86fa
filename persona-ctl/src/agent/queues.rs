//! The queues that hold subjects to their rates and delay their packets: upwards on the uplink, downwards on the workload's
//! own device.
//!
//! A persona's rate counts inner IP bytes, and so do the queues: what a device carries beside them they are told to leave out.
//! Downwards a subject that is not delayed has one class for all that goes to its device; of one that is, only the persona's
//! packets name the class.

use std::collections::{BTreeMap, BTreeSet};

use persona_common::node::DELAYED_CLASS;
use persona_core::ids::SubjectNumber;
use persona_core::units::Share;
use persona_core::wire::desired::{SubjectImpair, SubjectQos};

use super::departing;
pub(crate) use super::shared_rate::is_low_latency;
use super::shared_rate::{Overbooked, priority, totals};
use crate::dataplane::Departures;
use crate::netlink::fair_leaf::FairLeaf;
use crate::netlink::htb::{HtbClass, Leaf};
use crate::netlink::netem::Netem;
use crate::netlink::{HANDLE_MAJOR, Shaper, Sizes};

/// Bytes that a packet has on any device beside IP: Ethernet.
pub(crate) const DEVICE_OVERHEAD_BYTES: u16 = 14;
/// The only class of a workload's device.
const DEVICE_MINOR: u16 = 1;
const _: () = assert!(DELAYED_CLASS == (HANDLE_MAJOR as u32) << 16 | DEVICE_MINOR as u32);
/// Class minors of subjects are 1 to this.
const MINOR_MAX: u16 = 0xfffe;
/// A queue holds this much time of its rate.
const QUEUE_MS: u64 = 20;
/// Four full GSO packets: less would drop what TCP sends in one go.
const QUEUE_BYTES_MIN: u64 = 4 * 65_536;
/// At low rates, four GSO packets would be many seconds of delay: a queue holds no more time than this. At 1 Mbit/s three of them
/// fit, which is what a connection of the host's own has under way at most: the kernel counts what waits here against its socket.
const QUEUE_MS_MAX: u64 = 1_600;
/// One full GSO packet with its headers must always fit.
const QUEUE_BYTES_FLOOR: u64 = 65_536 + 4_096;
/// Timer ticks per second that a class must be able to live from.
pub(super) const TICKS_PER_SEC: u64 = 250;
/// The rate of a subject that is delayed and has none: no device here is faster, so it holds nothing back.
const UNHELD_BITS_PER_SEC: u64 = 100_000_000_000;
/// Without a rate a delay has room for so many packets a second, more than a processor sends …
const UNHELD_PACKETS_PER_SEC: u64 = 1_000_000;
/// … and with one for packets of so many bytes at the rate, beside what queues for the rate.
const DELAYED_PACKET_BYTES: u64 = 200;
/// Bounds of a delaying queue, packets: a burst fits, and memory has an end.
const DELAYED_PACKETS_MIN: u64 = 1_000;
const DELAYED_PACKETS_MAX: u64 = 1 << 20;

/// What holds subjects to their rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// Classes of HTB.
    Classes,
    /// Departure times with `fq`, where they can do what is asked.
    DepartureTimes,
}

/// A subject's rates and where they are enforced.
#[derive(Debug, Clone)]
pub(crate) struct ShapedSubject {
    /// Its number.
    pub number: SubjectNumber,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Its rates.
    pub qos: SubjectQos,
    /// What is made worse.
    pub impair: SubjectImpair,
    /// Its device, for a workload that is attached.
    pub device: Option<u32>,
    /// The queues that its classes may have.
    pub leaves: Leaves,
}

/// The device by which all of it leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upward {
    /// Its index.
    pub ifindex: u32,
    /// What it carries of each packet beside inner IP, bytes.
    pub overhead_bytes: u16,
}

/// Which queues the kernel has for the leaves of classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Those that everyone has.
    #[default]
    Plain,
    /// Also those in which flows take turns.
    Fair,
}

impl ShapedSubject {
    /// Whether it has a part of a total upwards.
    pub(super) fn shares_upwards(&self) -> bool {
        self.qos.shared.as_ref().is_some_and(|shared| shared.egress_bps.is_some())
    }
}

/// Queues per device, and the class of each subject on the uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct QueuePlan {
    /// Device index → its queues.
    pub shapers: BTreeMap<u32, Shaper>,
    /// Subject → `skb->priority`.
    pub egress_classes: BTreeMap<SubjectNumber, u32>,
    /// Device index and minor of a class in which packets wait → whose they are.
    pub class_owners: BTreeMap<(u32, u16), SubjectNumber>,
    /// Subjects whose packets netem delays or repeats.
    pub delayed: BTreeSet<SubjectNumber>,
    /// Devices with `fq` instead of classes, and what holds subjects to their rates there.
    pub departures: Departures,
    /// Whether it repeats some, and delays or repeats others too: some kernels refuse that.
    pub is_mixed: bool,
    /// Totals that are less than what they guarantee.
    pub overbooked: Vec<Overbooked>,
}

impl QueuePlan {
    /// Takes in the queues of other devices, for other subjects.
    pub(super) fn extend(&mut self, other: Self) {
        self.shapers.extend(other.shapers);
        self.egress_classes.extend(other.egress_classes);
        self.class_owners.extend(other.class_owners);
        self.delayed.extend(other.delayed);
        self.is_mixed |= other.is_mixed;
        self.overbooked.extend(other.overbooked);
    }

    fn add_upward(&mut self, upward: Upward, minor: u16, class: HtbClass, subject: &ShapedSubject) {
        let shaper = self.shapers.entry(upward.ifindex).or_default();
        shaper.count(Sizes { overhead_bytes: upward.overhead_bytes, mtu: subject.mtu });
        shaper.classes.insert(minor, class);
        self.egress_classes.insert(subject.number, u32::from(HANDLE_MAJOR) << 16 | u32::from(minor));
        self.class_owners.insert((upward.ifindex, minor), subject.number);
    }
}

/// More subjects have an upward rate or a delay than a device can have classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no class is left on the uplink for a subject's egressRate or delay: at most {MINOR_MAX} subjects of a node can have one"
)]
pub(crate) struct OutOfClasses;

/// The queues that these subjects need.
pub(super) fn plan(
    mechanism: Mechanism,
    upward: Upward,
    subjects: &[ShapedSubject],
) -> Result<QueuePlan, OutOfClasses> {
    if mechanism == Mechanism::DepartureTimes {
        return departing::plan(upward, subjects);
    }
    plan_classes(upward, subjects)
}

/// All of it by classes.
pub(super) fn plan_classes(upward: Upward, subjects: &[ShapedSubject]) -> Result<QueuePlan, OutOfClasses> {
    let mut plan = QueuePlan::default();
    let mut minors = Numbers::up_to(MINOR_MAX);
    for subject in subjects {
        let is_delayed = subject.impair.needs_queue();
        let unheld = is_delayed.then_some(UNHELD_BITS_PER_SEC);
        plan.delayed.extend(is_delayed.then_some(subject.number));
        if let Some(rate_bps) = subject.qos.egress_bps.or(unheld).filter(|_| !subject.shares_upwards()) {
            let minor = minors.take(subject.number.0)?;
            plan.add_upward(upward, minor, class(rate_bps, subject), subject);
        }
        if let (Some(rate_bps), Some(device)) = (subject.qos.ingress_bps.or(unheld), subject.device) {
            let default_minor = if is_delayed { 0 } else { DEVICE_MINOR };
            let sizes = Some(Sizes { overhead_bytes: DEVICE_OVERHEAD_BYTES, mtu: subject.mtu });
            let classes = [(DEVICE_MINOR, class(rate_bps, subject))].into();
            let shaper = Shaper { default_minor, sizes, classes };
            plan.shapers.insert(device, shaper);
            plan.class_owners.insert((device, DEVICE_MINOR), subject.number);
        }
    }
    // After those that stand alone, whose classes a total that comes or goes must not move.
    for total in totals(subjects) {
        let minor = minors.take(total.key)?;
        let inner = total.class();
        plan.shapers.entry(upward.ifindex).or_default().classes.insert(minor, inner);
        for subject in &total.wearers {
            let own = minors.take(total.key.wrapping_add(subject.number.0))?;
            plan.add_upward(upward, own, total.class_of(subject, minor), subject);
        }
        plan.overbooked.extend(total.overbooked());
    }
    let repeats = subjects.iter().any(|subject| subject.impair.duplicate.millionths() > 0);
    plan.is_mixed = repeats && plan.delayed.len() > 1;
    Ok(plan)
}

/// Numbers from 1 on that are taken: minors of classes, or cells.
#[derive(Debug)]
pub(crate) struct Numbers {
    taken: BTreeSet<u16>,
    most: u16,
}

impl Numbers {
    /// So many, all free.
    pub(crate) fn up_to(most: u16) -> Self {
        Self { taken: BTreeSet::new(), most }
    }

    /// The same key gets the same number in every pass and after a restart, as long as no other has taken it.
    pub(crate) fn take(&mut self, key: u32) -> Result<u16, OutOfClasses> {
        let most = u32::from(self.most);
        let number = |step: u16| ((key % most + u32::from(step)) % most) as u16 + 1;
        let free = (0..self.most).map(number).find(|number| !self.taken.contains(number)).ok_or(OutOfClasses)?;
        self.taken.insert(free);
        Ok(free)
    }
}

/// Bytes per second of a rate in bits; a class has one at least.
pub(super) fn bytes_per_sec(rate_bps: u64) -> u64 {
    (rate_bps / 8).max(1)
}

/// The least burst that a class needs to reach its rate, bytes.
pub(super) fn least_burst(bytes_per_sec: u64, mtu: u16) -> u64 {
    bytes_per_sec / TICKS_PER_SEC + u64::from(mtu.max(1))
}

/// The queues that an agent gives a subject without anything special about it: `rate_bps` of inner IP bytes in packets of up to `mtu`,
/// to which a tunnel adds `encapsulation_bytes`. For whoever measures what they hold. The class has minor 1.
pub fn plain_shaper(rate_bps: u64, mtu: u16, encapsulation_bytes: u16) -> Shaper {
    let sizes = Some(Sizes { overhead_bytes: DEVICE_OVERHEAD_BYTES + encapsulation_bytes, mtu });
    Shaper { default_minor: 0, sizes, classes: [(1, class(rate_bps, &plain_subject(mtu)))].into() }
}

/// A subject that is held to rates and nothing else.
pub(super) fn plain_subject(mtu: u16) -> ShapedSubject {
    let (qos, impair) = (SubjectQos::default(), SubjectImpair::default());
    ShapedSubject { number: SubjectNumber(1), mtu, qos, impair, device: None, leaves: Leaves::Plain }
}

/// A class that stands alone, of a rate of what is counted.
pub(crate) fn class(rate_bps: u64, subject: &ShapedSubject) -> HtbClass {
    let rate = bytes_per_sec(rate_bps);
    let burst = subject.qos.burst_bytes.unwrap_or(0).max(least_burst(rate, subject.mtu));
    let mtu = u64::from(subject.mtu.max(1));
    let is_low_latency = is_low_latency(subject.qos.dscp);
    let leaf = if subject.impair.needs_queue() {
        let limit_packets = if rate_bps == UNHELD_BITS_PER_SEC {
            delayed_packets(&subject.impair, UNHELD_PACKETS_PER_SEC, 0)
        } else {
            delayed_packets(&subject.impair, rate / DELAYED_PACKET_BYTES, u64::from(queue_bytes(rate)) / mtu)
        };
        Leaf::Netem(netem(&subject.impair, limit_packets))
    } else if is_low_latency && subject.leaves == Leaves::Fair {
        Leaf::Fair(FairLeaf::new(queue_bytes(rate), rate, mtu))
    } else if is_low_latency {
        Leaf::Fifo(short_queue_bytes(rate))
    } else {
        Leaf::Fifo(queue_bytes(rate))
    };
    HtbClass { priority: priority(subject.qos.dscp), ..HtbClass::new(rate, burst, leaf) }
}

/// What a delaying queue must hold: all that comes while the first of it is delayed, and what queues for the rate behind it.
fn delayed_packets(impair: &SubjectImpair, packets_per_sec: u64, queued: u64) -> u32 {
    let in_flight = packets_per_sec.saturating_mul(impair.delay_ms + impair.jitter_ms) / 1_000;
    in_flight.saturating_add(queued).clamp(DELAYED_PACKETS_MIN, DELAYED_PACKETS_MAX) as u32
}

fn netem(impair: &SubjectImpair, limit_packets: u32) -> Netem {
    Netem {
        latency_ns: impair.delay_ms * 1_000_000,
        jitter_ns: impair.jitter_ms * 1_000_000,
        duplicate: probability(impair.duplicate),
        reorder: probability(impair.reorder),
        limit_packets,
    }
}

/// A share as netem counts it: of [`u32::MAX`].
fn probability(share: Share) -> u32 {
    (u64::from(share.millionths()) * u64::from(u32::MAX) / u64::from(Share::WHOLE)) as u32
}

/// How much may wait at a rate, bytes.
pub(super) fn queue_bytes(bytes_per_sec: u64) -> u32 {
    let of_time = |ms: u64| bytes_per_sec.saturating_mul(ms) / 1_000;
    let bytes = of_time(QUEUE_MS).max(QUEUE_BYTES_MIN.min(of_time(QUEUE_MS_MAX))).max(QUEUE_BYTES_FLOOR);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// As much, but never more time than that: where flows don't take turns, sparse ones wait for all that waits.
pub(super) fn short_queue_bytes(bytes_per_sec: u64) -> u32 {
    let bytes = (bytes_per_sec.saturating_mul(QUEUE_MS) / 1_000).max(QUEUE_BYTES_FLOOR);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::plan_classes as plan;
    use super::*;

    const UPLINK: Upward = Upward { ifindex: 1, overhead_bytes: 50 };

    fn subject(number: u32, egress_bps: Option<u64>, ingress_bps: Option<u64>) -> ShapedSubject {
        let qos = SubjectQos { egress_bps, ingress_bps, ..Default::default() };
        let impair = SubjectImpair::default();
        let (number, device, leaves) = (SubjectNumber(number), Some(100 + number), Leaves::Plain);
        ShapedSubject { number, mtu: 1_400, qos, impair, device, leaves }
    }

    fn delayed(subject: ShapedSubject, delay_ms: u64, jitter_ms: u64) -> ShapedSubject {
        ShapedSubject { impair: SubjectImpair { delay_ms, jitter_ms, ..Default::default() }, ..subject }
    }

    fn netem_of(class: &HtbClass) -> Netem {
        let Leaf::Netem(netem) = class.leaf else { panic!("{class:?} delays nothing") };
        netem
    }

    #[test]
    fn a_delay_needs_queues_both_ways_for_the_personas_packets_only() {
        let plan = plan(UPLINK, &[delayed(subject(1, None, None), 40, 5)]).unwrap();
        let (up, down) = (&plan.shapers[&1], &plan.shapers[&101]);
        assert_eq!((up.default_minor, down.default_minor), (0, 0), "what names no class passes");
        assert_eq!(plan.egress_classes[&SubjectNumber(1)], 0x7e50_0002);
        assert_eq!(plan.delayed, [SubjectNumber(1)].into());
        for class in [up.classes[&2], down.classes[&1]] {
            assert!(class.rate_bytes_per_sec == 12_500_000_000, "held back by nothing: {class:?}");
            let netem = netem_of(&class);
            assert_eq!((netem.latency_ns, netem.jitter_ns), (40_000_000, 5_000_000));
            assert_eq!((netem.duplicate, netem.reorder, netem.limit_packets), (0, 0, 45_000));
        }
    }

    #[test]
    fn a_delay_and_a_rate_share_a_class() {
        let held = delayed(subject(1, Some(10_000_000), Some(80_000_000)), 40, 0);
        let plan = plan(UPLINK, &[held]).unwrap();
        let rates = [plan.shapers[&1].classes[&2], plan.shapers[&101].classes[&1]];
        assert_eq!(rates.map(|class| class.rate_bytes_per_sec), [1_250_000, 10_000_000]);
        assert_eq!(rates.map(|class| netem_of(&class).limit_packets), [1_000, 2_187]);
    }

    #[test]
    fn packets_repeated_beside_delayed_ones_are_told() {
        let twice = |mut subject: ShapedSubject| {
            subject.impair.duplicate = "1%".parse().unwrap();
            subject
        };
        let (one, other) = (subject(1, None, None), delayed(subject(2, None, None), 40, 0));
        for (subjects, is_mixed) in [
            (vec![twice(one.clone()), other.clone()], true),
            (vec![twice(other.clone()), delayed(one.clone(), 5, 0)], true),
            (vec![twice(one.clone())], false),
            (vec![one.clone(), twice(other.clone())], false),
            (vec![delayed(one, 5, 0), other], false),
        ] {
            assert_eq!(plan(UPLINK, &subjects).unwrap().is_mixed, is_mixed, "{subjects:?}");
        }
    }

    #[test]
    fn room_for_delayed_packets_has_bounds() {
        let impair = |delay_ms, jitter_ms| SubjectImpair { delay_ms, jitter_ms, ..Default::default() };
        for (impair, per_sec, queued, expected) in [
            (impair(0, 0), UNHELD_PACKETS_PER_SEC, 0, 1_000),
            (impair(100, 20), UNHELD_PACKETS_PER_SEC, 0, 120_000),
            (impair(10_000, 2_000), UNHELD_PACKETS_PER_SEC, 0, 1 << 20),
            (impair(100, 0), 40_000, 500, 4_500),
            (impair(u64::MAX / 2, 0), u64::MAX, u64::MAX, 1 << 20),
        ] {
            assert_eq!(delayed_packets(&impair, per_sec, queued), expected, "{impair:?}");
        }
    }

    #[test]
    fn shares_are_counted_as_netem_counts_them() {
        for (share, expected) in [("0%", 0), ("100%", u32::MAX), ("50%", u32::MAX / 2), ("0.1%", 4_294_967)] {
            assert_eq!(probability(share.parse().unwrap()), expected, "{share}");
        }
    }

    #[test]
    fn a_subject_without_rates_needs_no_queue() {
        assert_eq!(plan(UPLINK, &[subject(1, None, None)]), Ok(QueuePlan::default()));
    }

    #[test]
    fn inner_bytes_are_counted() {
        let plan = plan(UPLINK, &[subject(1, Some(112_000_000), Some(112_000_000))]).unwrap();
        assert_eq!(plan.shapers[&1].classes[&2].rate_bytes_per_sec, 14_000_000);
        assert_eq!(plan.shapers[&101].classes[&1].rate_bytes_per_sec, 14_000_000);
        let counted = |ifindex| plan.shapers[&ifindex].sizes.unwrap();
        assert_eq!(counted(1), Sizes { overhead_bytes: 50, mtu: 1_400 });
        assert_eq!(counted(101), Sizes { overhead_bytes: 14, mtu: 1_400 });
        assert_eq!(plan.shapers[&1].default_minor, 0, "all else passes unshaped");
        assert_eq!(plan.shapers[&101].default_minor, 1);
    }

    #[test]
    fn flows_of_low_latency_classes_take_turns_where_the_kernel_can_and_wait_shortly_elsewhere() {
        let with = |dscp, leaves| {
            let mut subject = subject(1, Some(20_000_000), Some(20_000_000));
            subject.qos.dscp = dscp;
            let plan = plan(UPLINK, &[ShapedSubject { leaves, ..subject }]).unwrap();
            (plan.shapers[&1].classes[&2].leaf, plan.shapers[&101].classes[&1].leaf)
        };
        for dscp in [None, Some(0), Some(10), Some(8), Some(26)] {
            assert_eq!(with(dscp, Leaves::Fair), (Leaf::Fifo(262_144), Leaf::Fifo(262_144)), "{dscp:?}");
        }
        for dscp in [18, 32, 34, 46].map(Some) {
            assert_eq!(with(dscp, Leaves::Plain), (Leaf::Fifo(69_632), Leaf::Fifo(69_632)), "{dscp:?}");
            let (up, down) = with(dscp, Leaves::Fair);
            assert_eq!(up, Leaf::Fair(FairLeaf::new(262_144, 2_500_000, 1_400)));
            assert_eq!(down, Leaf::Fair(FairLeaf::new(262_144, 2_500_000, 1_400)));
        }
        assert_eq!(short_queue_bytes(125_000_000), 2_500_000, "20 ms of a gigabit");
    }

    #[test]
    fn subjects_whose_numbers_collide_get_classes_of_their_own() {
        let plan = plan(UPLINK, &[subject(5, Some(8_000), None), subject(5 + 0xfffe, Some(8_000), None)]).unwrap();
        let classes: Vec<u32> = plan.egress_classes.values().copied().collect();
        assert_eq!(classes, [0x7e50_0006, 0x7e50_0007]);
    }

    #[test]
    fn more_subjects_than_classes_are_refused() {
        let subjects: Vec<_> = (0..=u32::from(MINOR_MAX)).map(|number| subject(number, Some(8_000), None)).collect();
        assert_eq!(plan(UPLINK, &subjects), Err(OutOfClasses));
        assert!(plan(UPLINK, &subjects[1..]).is_ok());
    }

    #[test]
    fn the_largest_packets_of_a_device_tell_what_is_a_batch() {
        let smaller = ShapedSubject { mtu: 1_280, ..subject(2, Some(8_000), None) };
        let plan = plan(UPLINK, &[smaller.clone(), subject(1, Some(8_000), None), smaller]).unwrap();
        assert_eq!(plan.shapers[&1].sizes, Some(Sizes { overhead_bytes: 50, mtu: 1_400 }));
    }

    #[test]
    fn a_queue_holds_20_ms_and_never_less_than_what_tcp_sends_at_once() {
        for (mbit, expected) in [(1, 200_000), (4, 262_144), (50, 262_144), (1_000, 2_500_000)] {
            assert_eq!(queue_bytes(mbit * 125_000), expected, "{mbit} Mbit/s");
        }
        assert_eq!(queue_bytes(8_000), 69_632, "64 kbit/s: one GSO packet");
    }
}
