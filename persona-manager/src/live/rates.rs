//! Packets and drops per second, and what each subject of a node carries, from the counters in reports.
//!
//! Reports may come in bursts, so a rate is of a window that ends with the first counters after its time. What a subject
//! carries is kept as a peak that fades: room that it used a moment ago is still its own. Passes copy what is known of every
//! agent, so that whatever is long is shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::ids::SubjectId;
use persona_core::wire::agent::{Counters, Traffic};

/// The shortest time that a rate is of, milliseconds.
const WINDOW_MS: u64 = 1_000;

/// In this time a peak fades to a half, milliseconds.
const HALF_LIFE_MS: f64 = 60_000.0;

/// In this time half of what is told of a processor is new, milliseconds: a second says little.
const PROCESSOR_HALF_LIFE_MS: f64 = 10_000.0;

/// Rates of an agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    /// Packets per second that it carried, both directions together.
    pub packets_per_sec: u64,
    /// Packets per second that it dropped.
    pub drops_per_sec: u64,
    /// Edges: what its host's processor does, on the mean of late.
    pub processor: Option<ProcessorUse>,
    /// Nodes: what subjects carry, both directions together.
    pub subjects: Arc<BTreeMap<SubjectId, SubjectRate>>,
    /// The counters at the start of the window, and when they came.
    start: Option<(Arc<Counters>, u64)>,
}

/// Shares of a processor's time that are in use, and the packets that were carried meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ProcessorUse {
    /// By anybody.
    pub busy: f64,
    /// By interrupts, in which packets are carried.
    pub packet_path: f64,
    /// Packets per second.
    pub packets_per_sec: f64,
}

/// What a subject carries: the peak of late, which fades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SubjectRate {
    /// Bits per second of inner IP bytes.
    pub bits_per_sec: u64,
    /// Packets per second.
    pub packets_per_sec: u64,
}

impl Rates {
    /// The rates once `counters` have come, if they have.
    pub(super) fn after(before: Option<&Self>, counters: Option<&Counters>, now: u64) -> Self {
        let mut rates = before.cloned().unwrap_or_default();
        let Some(counters) = counters else { return rates };
        let Some((start, since)) = &rates.start else {
            rates.start = Some((Arc::new(counters.clone()), now));
            return rates;
        };
        let elapsed_ms = now.saturating_sub(*since);
        if elapsed_ms < WINDOW_MS {
            return rates;
        }
        let per_sec = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1_000) / elapsed_ms;
        let packets = |counters: &Counters| counters.personas.values().map(packet_count).sum::<u64>();
        let drops = |counters: &Counters| counters.drops.values().sum::<u64>();
        rates.packets_per_sec = per_sec(packets(counters), packets(start));
        rates.drops_per_sec = per_sec(drops(counters), drops(start));
        let old: BTreeMap<&SubjectId, &Traffic> = start.subjects.iter().map(|it| (&it.subject, &it.traffic)).collect();
        let subjects = counters.subjects.iter().map(|it| {
            // Counters that went back, or are new, begin a window of their own.
            let since = old.get(&it.subject).copied().unwrap_or(&it.traffic);
            let measured = SubjectRate {
                bits_per_sec: per_sec(byte_count(&it.traffic), byte_count(since)).saturating_mul(8),
                packets_per_sec: per_sec(packet_count(&it.traffic), packet_count(since)),
            };
            let faded = rates.subjects.get(&it.subject).map(|peak| peak.faded(elapsed_ms)).unwrap_or_default();
            (it.subject.clone(), measured.or_higher(faded))
        });
        rates.subjects = Arc::new(subjects.collect());
        rates.processor = ProcessorUse::measured(counters, rates.packets_per_sec)
            .map(|now| rates.processor.map_or(now, |before| before.after(now, elapsed_ms)));
        rates.start = Some((Arc::new(counters.clone()), now));
        rates
    }
}

impl ProcessorUse {
    fn measured(counters: &Counters, packets_per_sec: u64) -> Option<Self> {
        let share = |millionths: u32| f64::from(millionths) / 1e6;
        Some(Self {
            busy: share(counters.cpu_millionths?),
            packet_path: share(counters.packet_cpu_millionths?),
            packets_per_sec: packets_per_sec as f64,
        })
    }

    /// The mean that weighs what is older less.
    fn after(self, now: Self, elapsed_ms: u64) -> Self {
        let old = (-(elapsed_ms as f64) / PROCESSOR_HALF_LIFE_MS).exp2();
        let mean = |before: f64, now: f64| before * old + now * (1.0 - old);
        Self {
            busy: mean(self.busy, now.busy),
            packet_path: mean(self.packet_path, now.packet_path),
            packets_per_sec: mean(self.packets_per_sec, now.packets_per_sec),
        }
    }
}

impl SubjectRate {
    fn faded(self, elapsed_ms: u64) -> Self {
        let factor = (-(elapsed_ms as f64) / HALF_LIFE_MS).exp2();
        let fade = |rate: u64| (rate as f64 * factor) as u64;
        Self { bits_per_sec: fade(self.bits_per_sec), packets_per_sec: fade(self.packets_per_sec) }
    }

    fn or_higher(self, other: Self) -> Self {
        Self {
            bits_per_sec: self.bits_per_sec.max(other.bits_per_sec),
            packets_per_sec: self.packets_per_sec.max(other.packets_per_sec),
        }
    }
}

fn packet_count(traffic: &Traffic) -> u64 {
    traffic.egress_packets + traffic.ingress_packets
}

fn byte_count(traffic: &Traffic) -> u64 {
    traffic.egress_bytes + traffic.ingress_bytes
}

#[cfg(test)]
mod tests {
    use persona_core::wire::agent::SubjectCounters;

    use super::*;

    fn counters(count: u64) -> Counters {
        let traffic = Traffic { egress_packets: count, ingress_bytes: count * 100, ..Traffic::default() };
        let subject = "workload/n1/web".parse().unwrap();
        let subject = SubjectCounters { subject, traffic, opened_flows: 0, dropped_packets: 0 };
        Counters {
            subjects: vec![subject],
            personas: [(7, traffic)].into(),
            drops: [("no-edge".to_owned(), count / 10)].into(),
            ..Counters::default()
        }
    }

    #[test]
    fn a_rate_is_of_a_whole_window_and_a_subjects_peak_fades() {
        let mut rates: Option<Rates> = None;
        for (now, count, packets, drops, bits) in [
            (0, Some(1_000), 0, 0, None),
            (400, Some(1_900), 0, 0, None),
            (1_000, Some(2_000), 1_000, 100, Some(800_000)),
            (1_500, None, 1_000, 100, Some(800_000)),
            (61_000, Some(2_000), 0, 0, Some(400_000)),
            (62_000, Some(3_000), 1_000, 100, Some(800_000)),
            (63_000, Some(0), 0, 0, Some(790_811)),
        ] {
            let counted = count.map(counters);
            let after = Rates::after(rates.as_ref(), counted.as_ref(), now);
            let told = (after.packets_per_sec, after.drops_per_sec);
            assert_eq!(told, (packets, drops), "at {now} ms");
            let subject = after.subjects.get(&"workload/n1/web".parse().unwrap());
            assert_eq!(subject.map(|rate| rate.bits_per_sec), bits, "at {now} ms");
            rates = Some(after);
        }
    }

    #[test]
    fn what_a_processor_does_is_a_mean_of_late() {
        let mut rates = Rates::default();
        let told = |count, cpu, packet_cpu| Counters {
            cpu_millionths: Some(cpu),
            packet_cpu_millionths: packet_cpu,
            ..counters(count)
        };
        for (now, counters, expected) in [
            (0, told(0, 900_000, Some(900_000)), None),
            (1_000, told(4_000, 500_000, Some(250_000)), Some((0.5, 0.25, 4_000.0))),
            (11_000, told(4_000, 0, Some(0)), Some((0.25, 0.125, 2_000.0))),
            (21_000, told(4_000, 0, None), None),
        ] {
            rates = Rates::after(Some(&rates), Some(&counters), now);
            let processor = rates.processor.map(|it| (it.busy, it.packet_path, it.packets_per_sec));
            assert_eq!(processor, expected, "at {now} ms");
        }
    }
}
