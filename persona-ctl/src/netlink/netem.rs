//! netem's own words: what a leaf queue does to packets, as numbers that can be compared, and their netlink form
//! (struct tc_netem_qopt of linux/pkt_sched.h, then attributes).
//!
//! A queue is ours only if it does nothing else: one that somebody has told to lose or to corrupt packets is not read.

use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use super::tc_options::{TCA_OPTIONS, nested, option_bytes, word_at};
use super::{Netlink, NetlinkError};

/// A queue that delays, repeats and reorders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Netem {
    /// Added to every packet, nanoseconds.
    pub latency_ns: u64,
    /// How far the delay strays to either side, nanoseconds; below 2^31.
    pub jitter_ns: u64,
    /// Packets that go twice: so many of [`u32::MAX`].
    pub duplicate: u32,
    /// Packets that are not delayed and so overtake others: so many of [`u32::MAX`].
    pub reorder: u32,
    /// Most packets that wait.
    pub limit_packets: u32,
}

const QOPT_LENGTH: usize = 24;
const TCA_NETEM_CORR: u16 = 1;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_ECN: u16 = 7;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_NETEM_SLOT: u16 = 12;

/// Nanoseconds of a scheduler tick, in which the older fields count.
const NS_PER_TICK: u64 = 64;

impl Netlink {
    /// Whether the kernel has netem, or can load it. Changes nothing: a queue without options is refused.
    pub async fn has_netem(&self) -> Result<bool, NetlinkError> {
        self.has_queue("netem", None).await
    }
}

/// The options of such a queue. All that others could have set is set back.
pub(super) fn options(netem: &Netem) -> TcAttribute {
    let ticks = |ns: u64| u32::try_from(ns / NS_PER_TICK).unwrap_or(u32::MAX);
    let (loss, gap) = (0, u32::from(netem.reorder > 0));
    let words = [ticks(netem.latency_ns), netem.limit_packets, loss, gap, netem.duplicate, ticks(netem.jitter_ns)];
    let mut bytes = of_words(&words);
    for attribute in [
        DefaultNla::new(TCA_NETEM_CORR, of_words(&[0; 3])),
        DefaultNla::new(TCA_NETEM_REORDER, of_words(&[netem.reorder, 0])),
        DefaultNla::new(TCA_NETEM_CORRUPT, of_words(&[0; 2])),
        DefaultNla::new(TCA_NETEM_RATE, of_words(&[0; 4])),
        DefaultNla::new(TCA_NETEM_LATENCY64, netem.latency_ns.to_ne_bytes().to_vec()),
        DefaultNla::new(TCA_NETEM_JITTER64, netem.jitter_ns.to_ne_bytes().to_vec()),
    ] {
        let start = bytes.len();
        bytes.resize(start + attribute.buffer_len(), 0);
        attribute.emit(&mut bytes[start..]);
    }
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, bytes))
}

/// What a queue's message says. None: it does more than ours do.
pub(super) fn read(message: &TcMessage) -> Option<Netem> {
    let bytes = option_bytes(message)?;
    let attributes = bytes.get(QOPT_LENGTH..)?;
    let long = |kind| Some(u64::from_ne_bytes(nested(attributes, kind)?.get(..8)?.try_into().ok()?));
    let reorder = nested(attributes, TCA_NETEM_REORDER).and_then(|value| word_at(&value, 0)).unwrap_or(0);
    let (loss, gap) = (word_at(&bytes, 8)?, word_at(&bytes, 12)?);
    // Without a gap netem keeps an old share and doesn't use it.
    let reorder = if gap == 0 { 0 } else { reorder };
    let is_ours = loss == 0 && gap == u32::from(reorder > 0) && !has_more(attributes);
    is_ours.then_some(Netem {
        latency_ns: long(TCA_NETEM_LATENCY64)?,
        jitter_ns: long(TCA_NETEM_JITTER64)?,
        duplicate: word_at(&bytes, 16)?,
        reorder,
        limit_packets: word_at(&bytes, 4)?,
    })
}

/// Whether something is set that ours never set: correlations, corruption, a rate, another model of loss, ECN, slots.
fn has_more(attributes: &[u8]) -> bool {
    NlasIterator::new(attributes).flatten().any(|attribute| match attribute.kind() {
        TCA_NETEM_CORR | TCA_NETEM_CORRUPT => attribute.value().iter().any(|byte| *byte != 0),
        // The probability has been read.
        TCA_NETEM_REORDER => attribute.value().iter().skip(4).any(|byte| *byte != 0),
        // The rate itself; what stands behind it is about cells.
        TCA_NETEM_RATE => attribute.value().iter().take(4).any(|byte| *byte != 0),
        TCA_NETEM_LOSS | TCA_NETEM_ECN | TCA_NETEM_SLOT => true,
        _ => false,
    })
}

fn of_words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Nla;

    use super::*;
    use crate::netlink::tc_options::as_dumped;

    const FULL: Netem = Netem {
        latency_ns: 10_000_000_000,
        jitter_ns: 2_000_000_000,
        duplicate: u32::MAX / 100,
        reorder: u32::MAX / 4,
        limit_packets: 1 << 20,
    };

    fn value(attribute: &TcAttribute) -> Vec<u8> {
        let mut bytes = vec![0; attribute.value_len()];
        attribute.emit_value(&mut bytes);
        bytes
    }

    #[test]
    fn queues_are_read_as_they_were_written() {
        let plain = Netem { latency_ns: 40_000_000, limit_packets: 1_000, ..Netem::default() };
        for netem in [FULL, plain, Netem { duplicate: u32::MAX, limit_packets: 1, ..Netem::default() }] {
            assert_eq!(read(&as_dumped(options(&netem))), Some(netem));
        }
    }

    #[test]
    fn the_bytes_are_those_that_tc_sends() {
        // tc qdisc add dev lo root netem limit 1000 delay 40ms 5ms duplicate 1% reorder 25%
        let netem = Netem {
            latency_ns: 40_000_000,
            jitter_ns: 5_000_000,
            duplicate: 42_949_672,
            reorder: 1_073_741_823,
            limit_packets: 1_000,
        };
        let bytes = value(&options(&netem));
        let words: Vec<u32> = (0..6).map(|index| word_at(&bytes, index * 4).unwrap()).collect();
        assert_eq!(words, [625_000, 1_000, 0, 1, 42_949_672, 78_125], "ticks of 64 ns");
        let attributes: Vec<_> = NlasIterator::new(&bytes[QOPT_LENGTH..]).map(Result::unwrap).collect();
        let of = |kind| attributes.iter().find(|it| it.kind() == kind).map(|it| it.value().to_vec()).unwrap();
        assert_eq!(of(TCA_NETEM_REORDER), of_words(&[1_073_741_823, 0]));
        assert_eq!(of(TCA_NETEM_LATENCY64), 40_000_000_u64.to_ne_bytes());
        assert_eq!(of(TCA_NETEM_JITTER64), 5_000_000_u64.to_ne_bytes());
    }

    #[test]
    fn a_queue_that_does_more_is_not_ours() {
        let changed = |at: usize, word: u32| {
            let mut bytes = value(&options(&FULL));
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            read(&as_dumped(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, bytes))))
        };
        assert_eq!(changed(8, 0), Some(FULL), "nothing is lost");
        assert_eq!(changed(8, 1), None, "loss");
        assert_eq!(changed(12, 5), None, "every fifth is reordered");
        assert_eq!(changed(QOPT_LENGTH + 4, 1), None, "a correlation");
        let mut bytes = value(&options(&FULL));
        let slot = DefaultNla::new(TCA_NETEM_SLOT, vec![0; 40]);
        let start = bytes.len();
        bytes.resize(start + slot.buffer_len(), 0);
        slot.emit(&mut bytes[start..]);
        assert_eq!(read(&as_dumped(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, bytes)))), None, "slots");
    }
}
