//! HTB's own words: classes as numbers that can be compared, and their netlink form (linux/pkt_sched.h).
//!
//! Rates are set with a link layer of Ethernet, so that the kernel computes times itself and needs no rate table.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use super::netem::Netem;
use super::tc_options::{TCA_OPTIONS, nested, option_bytes, raw, word_at};

/// One class with its leaf queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HtbClass {
    /// Outer bytes per second.
    pub rate_bytes_per_sec: u64,
    /// The burst as the time that it takes at the rate, in scheduler ticks.
    pub burst_ticks: u32,
    /// Where its packets wait.
    pub leaf: Leaf,
}

/// The leaf queue of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// First in, first out; most bytes that wait.
    Fifo(u32),
    /// Packets are delayed, repeated or reordered on the way in.
    Netem(Netem),
    /// What somebody else has put there, or nothing. Never wanted.
    Other,
}

impl HtbClass {
    /// A class of this rate and burst.
    pub fn new(rate_bytes_per_sec: u64, burst_bytes: u64, leaf: Leaf) -> Self {
        let rate = rate_bytes_per_sec.max(1);
        let ticks = u128::from(burst_bytes) * 1_000_000_000 / u128::from(rate) / u128::from(NS_PER_TICK);
        Self { rate_bytes_per_sec: rate, burst_ticks: u32::try_from(ticks).unwrap_or(u32::MAX), leaf }
    }
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
/// A class never borrows here, so its quantum only has to be sane to the kernel (1,000 to 200,000).
const QUANTUM_BYTES: u32 = 64_000;

/// The options of an HTB queue; packets without a class take `default_minor`, or pass unshaped if it is 0.
pub(super) fn qdisc_options(default_minor: u16) -> TcAttribute {
    let words = [HTB_VERSION, RATE_TO_QUANTUM, u32::from(default_minor), 0, 0];
    TcAttribute::Options(vec![raw(TCA_HTB_INIT, words.iter().flat_map(|word| word.to_ne_bytes()).collect())])
}

/// The options of a class.
pub(super) fn class_options(class: &HtbClass) -> TcAttribute {
    let mut parms = Vec::with_capacity(44);
    for _rate_then_ceiling in 0..2 {
        parms.extend([0, TC_LINKLAYER_ETHERNET]);
        parms.extend([0; 6]);
        parms.extend(u32::try_from(class.rate_bytes_per_sec).unwrap_or(u32::MAX).to_ne_bytes());
    }
    for word in [class.burst_ticks, class.burst_ticks, QUANTUM_BYTES, 0, 0] {
        parms.extend(word.to_ne_bytes());
    }
    let mut options = vec![raw(TCA_HTB_PARMS, parms)];
    if class.rate_bytes_per_sec > u64::from(u32::MAX) {
        let rate = class.rate_bytes_per_sec.to_ne_bytes().to_vec();
        options.extend([raw(TCA_HTB_RATE64, rate.clone()), raw(TCA_HTB_CEIL64, rate)]);
    }
    TcAttribute::Options(options)
}

/// The options of a byte-limited first-in first-out queue.
pub(super) fn fifo_options(limit_bytes: u32) -> TcAttribute {
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, limit_bytes.to_ne_bytes().to_vec()))
}

/// Rate and burst of a class message; the leaf's size stands in another message.
pub(super) fn read_class(message: &TcMessage) -> Option<(u64, u32)> {
    let options = option_bytes(message)?;
    let parms = nested(&options, TCA_HTB_PARMS)?;
    let rate = nested(&options, TCA_HTB_RATE64)
        .and_then(|bytes| Some(u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?)))
        .or_else(|| Some(u64::from(word_at(&parms, 8)?)))?;
    Some((rate, word_at(&parms, 24)?))
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
            let class = HtbClass::new(rate, 65_536, Leaf::Other);
            let read = read_class(&as_dumped(class_options(&class)));
            assert_eq!(read, Some((class.rate_bytes_per_sec, class.burst_ticks)), "{rate}");
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
