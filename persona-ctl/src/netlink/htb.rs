//! HTB's own words: classes as numbers that can be compared, and their netlink form (linux/pkt_sched.h).
//!
//! Rates are set with a link layer of Ethernet, so that the kernel computes times itself and needs no rate table.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::fair_leaf::FairLeaf;
use super::netem::Netem;
use super::tc_options::{TCA_OPTIONS, nested, option_bytes, raw, word_at};

/// One class with its leaf queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HtbClass {
    /// The class from which it borrows; 0: it stands alone.
    pub parent_minor: u16,
    /// Whose packets go first where the device is the bottleneck, and what is left of the parent's rate: 0 first, 7 last.
    pub priority: u8,
    /// Counted bytes per second that it has by itself.
    pub rate_bytes_per_sec: u64,
    /// The burst as the time that it takes at the rate, in scheduler ticks.
    pub burst_ticks: u32,
    /// Counted bytes per second that it has with what it borrows.
    pub ceiling_bytes_per_sec: u64,
    /// The burst as the time that it takes at the ceiling, in scheduler ticks.
    pub ceiling_burst_ticks: u32,
    /// Where its packets wait.
    pub leaf: Leaf,
}

/// The leaf queue of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// First in, first out; most bytes that wait.
    Fifo(u32),
    /// Flows take turns.
    Fair(FairLeaf),
    /// Packets are delayed, repeated or reordered on the way in.
    Netem(Netem),
    /// None: other classes stand below.
    Inner,
    /// What somebody else has put there, or nothing. Never wanted.
    Other,
}

impl HtbClass {
    /// A class of this rate and burst, which borrows from nobody.
    pub fn new(rate_bytes_per_sec: u64, burst_bytes: u64, leaf: Leaf) -> Self {
        let (rate, ticks) = (rate_bytes_per_sec.max(1), ticks_of(rate_bytes_per_sec, burst_bytes));
        Self {
            parent_minor: 0,
            priority: 0,
            rate_bytes_per_sec: rate,
            burst_ticks: ticks,
            ceiling_bytes_per_sec: rate,
            ceiling_burst_ticks: ticks,
            leaf,
        }
    }

    /// The class as one below another, from which it borrows up to a ceiling with a burst of its own.
    pub fn borrowing(self, parent_minor: u16, ceiling_bytes_per_sec: u64, burst_bytes: u64) -> Self {
        let ceiling = ceiling_bytes_per_sec.max(self.rate_bytes_per_sec);
        let ceiling_burst_ticks = ticks_of(ceiling, burst_bytes);
        Self { parent_minor, ceiling_bytes_per_sec: ceiling, ceiling_burst_ticks, ..self }
    }
}

/// What the burst takes at the rate, in scheduler ticks.
fn ticks_of(rate_bytes_per_sec: u64, burst_bytes: u64) -> u32 {
    let ns = u128::from(burst_bytes) * 1_000_000_000 / u128::from(rate_bytes_per_sec.max(1));
    u32::try_from(ns / u128::from(NS_PER_TICK)).unwrap_or(u32::MAX)
}

/// PSCHED_SHIFT is 6: a scheduler tick has 64 ns.
const NS_PER_TICK: u64 = 64;

const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const HTB_VERSION: u32 = 3;
const RATE_TO_QUANTUM: u32 = 10;
/// Classes that borrow from one parent take turns of so many bytes: the same for all, so that they get the same of it.
const QUANTUM_BYTES: u32 = 64_000;

/// The options of an HTB queue; packets without a class take `default_minor`, or pass unshaped if it is 0.
pub(super) fn qdisc_options(default_minor: u16) -> TcAttribute {
    let words = [HTB_VERSION, RATE_TO_QUANTUM, u32::from(default_minor), 0, 0];
    TcAttribute::Options(vec![raw(TCA_HTB_INIT, words.iter().flat_map(|word| word.to_ne_bytes()).collect())])
}

/// The options of a class.
pub(super) fn class_options(class: &HtbClass) -> TcAttribute {
    let mut parms = Vec::with_capacity(44);
    let rates = [(TCA_HTB_RATE64, class.rate_bytes_per_sec), (TCA_HTB_CEIL64, class.ceiling_bytes_per_sec)];
    for (_, rate) in rates {
        parms.extend([0, TC_LINKLAYER_ETHERNET]);
        parms.extend([0; 6]);
        parms.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    }
    for word in [class.burst_ticks, class.ceiling_burst_ticks, QUANTUM_BYTES, 0, class.priority.into()] {
        parms.extend(word.to_ne_bytes());
    }
    let large = rates.into_iter().filter(|(_, rate)| *rate > u64::from(u32::MAX));
    let large = large.map(|(kind, rate)| raw(kind, rate.to_ne_bytes().to_vec()));
    TcAttribute::Options([raw(TCA_HTB_PARMS, parms)].into_iter().chain(large).collect())
}

/// The options of a byte-limited first-in first-out queue.
pub(super) fn fifo_options(limit_bytes: u32) -> TcAttribute {
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, limit_bytes.to_ne_bytes().to_vec()))
}

/// A class's message; what its leaf is stands in others.
pub(super) fn read_class(message: &TcMessage) -> Option<HtbClass> {
    let options = option_bytes(message)?;
    let parms = nested(&options, TCA_HTB_PARMS)?;
    let rate = |kind, at| {
        let long = nested(&options, kind).and_then(|bytes| Some(u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?)));
        long.or_else(|| Some(u64::from(word_at(&parms, at)?)))
    };
    let parent = message.header.parent;
    Some(HtbClass {
        parent_minor: if parent == TcHandle::ROOT { 0 } else { parent.minor },
        priority: u8::try_from(word_at(&parms, 40)?).ok()?,
        rate_bytes_per_sec: rate(TCA_HTB_RATE64, 8)?,
        burst_ticks: word_at(&parms, 24)?,
        ceiling_bytes_per_sec: rate(TCA_HTB_CEIL64, 20)?,
        ceiling_burst_ticks: word_at(&parms, 28)?,
        leaf: Leaf::Other,
    })
}

/// The default class of an HTB queue's message.
pub(super) fn read_default(message: &TcMessage) -> Option<u16> {
    let init = nested(&option_bytes(message)?, TCA_HTB_INIT)?;
    u16::try_from(word_at(&init, 8)?).ok()
}

/// The limit of a first-in first-out queue's message.
pub(super) fn read_fifo(message: &TcMessage) -> Option<u32> {
    word_at(&option_bytes(message)?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tc_options::as_dumped;

    #[test]
    fn classes_are_read_as_they_were_written() {
        for rate in [1_000, 25_000_000, u64::from(u32::MAX), 12_500_000_000] {
            let alone = HtbClass { priority: 7, ..HtbClass::new(rate, 65_536, Leaf::Other) };
            assert_eq!(read_class(&as_dumped(class_options(&alone))), Some(alone), "{rate}");
            for ceiling in [rate, 2 * rate, 20_000_000_000] {
                let class = alone.borrowing(9, ceiling, 1_000_000);
                let mut message = as_dumped(class_options(&class));
                message.header.parent.minor = 9;
                assert_eq!(read_class(&message), Some(class), "{rate} {ceiling}");
            }
        }
    }

    #[test]
    fn queues_are_read_as_they_were_written() {
        assert_eq!(read_default(&as_dumped(qdisc_options(0x10))), Some(0x10));
        assert_eq!(read_fifo(&as_dumped(fifo_options(262_144))), Some(262_144));
    }

    #[test]
    fn a_burst_becomes_time_at_the_rate() {
        assert_eq!(HtbClass::new(1_000_000, 64_000, Leaf::Other).burst_ticks, 1_000_000);
    }
}
