//! `fq_codel`'s own words, as the leaf of a class: flows take turns, so that sparse ones do not wait behind bulk, and bulk is
//! told early to slow down (RFC 8290).
//!
//! A queue is ours only if flows, memory and target are; what the kernel decides itself, such as the quantum, is left to it.

use std::time::{Duration, Instant};

use netlink_packet_route::tc::{TcAttribute, TcMessage, TcOption, TcQdiscFqCodelOption as Word};

use super::tc_options::raw;
use super::{Netlink, NetlinkError};

/// The kind's name.
pub(super) const FQ_CODEL: &str = "fq_codel";

const TCA_FQ_CODEL_TARGET: u16 = 1;

/// Rows for flows of one subject, 68 bytes each, where the kernel's default has 1,024: a sparse flow shares its row with one of ten
/// bulk flows in one of thirteen cases.
const FLOW_COUNT: u32 = 128;
/// Most packets that wait; the memory that they take is the bound that is met.
const LIMIT_PACKETS: u32 = 10_240;
/// The delay that a queue may keep up where packets are small beside the rate (RFC 8290 §5.2.1), nanoseconds.
const TARGET_NS: u64 = 5_000_000;
/// A kernel without it is asked again after this.
const ASK_PERIOD: Duration = Duration::from_secs(60);

/// A queue that keeps flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairLeaf {
    /// The memory that waiting packets may take, bytes as the kernel counts them, with their descriptors.
    memory_bytes: u32,
    /// The delay that it may keep up, in the kernel's unit of 1,024 ns.
    target_units: u32,
}

impl FairLeaf {
    /// Room for `queue_bytes` of packets; one of `packet_bytes` may take its time at the rate without being late.
    pub fn new(queue_bytes: u32, bytes_per_sec: u64, packet_bytes: u64) -> Self {
        let packet_ns = packet_bytes.saturating_mul(1_000_000_000) / bytes_per_sec.max(1);
        let target_ns = TARGET_NS.max(packet_ns.saturating_mul(3) / 2);
        // Descriptors take about as much as the packets.
        let memory_bytes = queue_bytes.saturating_mul(2);
        Self { memory_bytes, target_units: u32::try_from(target_ns >> 10).unwrap_or(u32::MAX) }
    }
}

/// What is known of the kernel's having it. One that lacks it looks for a module whenever it is asked, so it is asked once a minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct FairLeafLook {
    is_there: bool,
    asked: Option<Instant>,
}

impl Netlink {
    /// Whether the kernel has `fq_codel`, as far as is known.
    pub async fn look_for_fair_leaf(&self, look: &mut FairLeafLook) -> Result<bool, NetlinkError> {
        let is_due = look.asked.is_none_or(|at| at.elapsed() >= ASK_PERIOD);
        if !look.is_there && is_due {
            look.asked = Some(Instant::now());
            look.is_there = self.has_fair_leaf().await?;
        }
        Ok(look.is_there)
    }

    /// Whether the kernel has `fq_codel`, or can load it. Changes nothing: an option that is too short is refused.
    pub async fn has_fair_leaf(&self) -> Result<bool, NetlinkError> {
        self.has_queue(FQ_CODEL, Some(raw(TCA_FQ_CODEL_TARGET, vec![0]))).await
    }
}

/// The options of such a queue. Those of one that `is_there` leave out its rows, which the kernel doesn't change any more.
pub(super) fn options(leaf: &FairLeaf, is_there: bool) -> TcAttribute {
    // Rounded up, so that the kernel, which rounds down, gets the units that are meant.
    let target_us = (u64::from(leaf.target_units) * 1_024).div_ceil(1_000);
    let target_us = u32::try_from(target_us).unwrap_or(u32::MAX);
    let mut words = vec![Word::Target(target_us), Word::Limit(LIMIT_PACKETS), Word::MemoryLimit(leaf.memory_bytes)];
    words.extend((!is_there).then_some(Word::Flows(FLOW_COUNT)));
    TcAttribute::Options(words.into_iter().map(TcOption::FqCodel).collect())
}

/// The queue of a message, if it is one of ours.
pub(super) fn read(message: &TcMessage) -> Option<FairLeaf> {
    let (mut target_us, mut limit, mut flow_count, mut memory_bytes) = (None, None, None, None);
    let words = message.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    for word in words.flatten() {
        match word {
            TcOption::FqCodel(Word::Target(value)) => target_us = Some(*value),
            TcOption::FqCodel(Word::Limit(value)) => limit = Some(*value),
            TcOption::FqCodel(Word::Flows(value)) => flow_count = Some(*value),
            TcOption::FqCodel(Word::MemoryLimit(value)) => memory_bytes = Some(*value),
            _ => {}
        }
    }
    if (limit, flow_count) != (Some(LIMIT_PACKETS), Some(FLOW_COUNT)) {
        return None;
    }
    // The kernel has rounded down.
    let target_units = (u64::from(target_us?) * 1_000).div_ceil(1_024);
    Some(FairLeaf { memory_bytes: memory_bytes?, target_units: u32::try_from(target_units).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel makes of a target in microseconds, and shows of it (net/sched/sch_fq_codel.c, include/net/codel.h).
    fn through_the_kernel(word: TcOption) -> TcOption {
        let TcOption::FqCodel(Word::Target(target_us)) = word else { return word };
        let units = (u64::from(target_us) * 1_000) >> 10;
        TcOption::FqCodel(Word::Target(((units << 10) / 1_000) as u32))
    }

    fn shown(words: Vec<TcOption>) -> TcMessage {
        TcMessage::from_parts(Default::default(), vec![TcAttribute::Options(words)])
    }

    #[test]
    fn targets_are_read_as_they_were_meant() {
        for rate in [16_000, 125_000, 400_000, 1_250_000, 125_000_000] {
            let leaf = FairLeaf::new(69_632, rate, 1_450);
            let TcAttribute::Options(words) = options(&leaf, false) else { panic!() };
            assert_eq!(read(&shown(words.into_iter().map(through_the_kernel).collect())), Some(leaf), "{rate}");
        }
    }

    #[test]
    fn a_packet_at_a_low_rate_is_not_late_by_itself() {
        let target_ms = |rate| u64::from(FairLeaf::new(1, rate, 1_450).target_units) * 1_024 / 1_000_000;
        assert_eq!([12_500_000, 1_250_000, 125_000, 16_000].map(target_ms), [4, 4, 17, 135]);
    }

    #[test]
    fn the_queue_of_somebody_else_is_not_read() {
        let leaf = FairLeaf::new(69_632, 1_250_000, 1_450);
        let TcAttribute::Options(words) = options(&leaf, true) else { panic!() };
        let others = words.into_iter().chain([TcOption::FqCodel(Word::Flows(1_024))]);
        assert_eq!(read(&shown(others.collect())), None);
    }
}
