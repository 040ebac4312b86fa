//! Departure times: a rate that is held by saying of each packet when it may leave. The queue behind (`fq`) sends it then.
//!
//! What is due is kept as the time at which all that was let in will have left, in one word, as in [`crate::police`]; inner IP
//! bytes count, whatever the device adds.

use crate::police::{COST_SHIFT, cost_per_byte};

/// Cells of `DEPARTURES`, one for each direction of a subject; the first stays empty.
pub const DEPARTURE_COUNT_MAX: u32 = 32_768;

/// Devices whose packets are given departure times.
pub const DEPARTURE_DEVICE_COUNT_MAX: u32 = 16_384;

/// `skb->priority` of packets that have a cell, less the cell: the handle of no queue.
pub const DEPARTURE_CLASS: u32 = 0x7e51_0000;

/// Where a device is for several subjects: its packets name their cells themselves ([`DEPARTURE_CLASS`]). Value in
/// `DEPARTURE_DEVICES`; any other is the cell of all that leaves by the device.
pub const BY_CLASS: u32 = 0;

/// The longest that a packet waits, nanoseconds: less than `fq` looks ahead by default.
pub const WAIT_NS_MAX: u64 = 9_000_000_000;

/// One direction of a subject. Map `DEPARTURES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Departure {
    /// When all that has been let in will have left, nanoseconds of the monotonic clock. Programs write it; 0: long ago.
    pub due_ns: u64,
    /// Nanoseconds that a byte takes at the rate, with 16 fractional bits; 0: the cell is free.
    pub cost_per_byte: u64,
    /// How long the queue may have been empty and its time is still made up for, nanoseconds.
    pub burst_ns: u64,
    /// The longest that a packet may wait, nanoseconds: one that would wait longer is dropped.
    pub wait_ns: u64,
}

const _: () = assert!(size_of::<Departure>() == 32 && align_of::<Departure>() == 8);

impl Departure {
    /// A cell that holds a subject to `rate_bps`, bits per second of inner IP bytes. 0: it holds nothing.
    pub const fn new(rate_bps: u64, burst_bytes: u64, queue_bytes: u64) -> Self {
        if rate_bps == 0 {
            return Self { due_ns: 0, cost_per_byte: 0, burst_ns: 0, wait_ns: 0 };
        }
        let cost_per_byte = cost_per_byte(rate_bps as u128);
        Self {
            due_ns: 0,
            cost_per_byte,
            burst_ns: time_of(cost_per_byte, burst_bytes),
            wait_ns: time_of(cost_per_byte, queue_bytes),
        }
    }

    /// Whether it holds to the same, whatever has passed.
    pub const fn is_like(&self, other: &Self) -> bool {
        self.cost_per_byte == other.cost_per_byte && self.burst_ns == other.burst_ns && self.wait_ns == other.wait_ns
    }

    /// What a packet of `byte_count` bytes adds to `due_ns`.
    #[inline(always)]
    pub const fn cost_ns(&self, byte_count: u64) -> u64 {
        // The cost is bounded so that this can't overflow; a panic has no place in a program.
        byte_count.wrapping_mul(self.cost_per_byte) >> COST_SHIFT
    }

    /// The earliest that a packet which comes at `now_ns` may be said to leave.
    #[inline(always)]
    pub const fn earliest_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.burst_ns)
    }

    /// Whether a packet that comes at `now_ns` would wait too long where `due_ns` stands.
    #[inline(always)]
    pub const fn is_full(&self, due_ns: u64, now_ns: u64) -> bool {
        due_ns > now_ns.wrapping_add(self.wait_ns)
    }

    /// When a packet that comes at `now_ns` leaves, where nobody else is let in at the same time. None: it is dropped.
    pub const fn take(&mut self, byte_count: u64, now_ns: u64) -> Option<u64> {
        if self.is_full(self.due_ns, now_ns) {
            return None;
        }
        let earliest_ns = self.earliest_ns(now_ns);
        let leaves_ns = if self.due_ns > earliest_ns { self.due_ns } else { earliest_ns };
        self.due_ns = leaves_ns + self.cost_ns(byte_count);
        Some(leaves_ns)
    }
}

/// What so many bytes take, at most [`WAIT_NS_MAX`].
const fn time_of(cost_per_byte: u64, bytes: u64) -> u64 {
    let ns = (bytes as u128 * cost_per_byte as u128) >> COST_SHIFT;
    if ns > WAIT_NS_MAX as u128 { WAIT_NS_MAX } else { ns as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const START_NS: u64 = 77 * SECOND_NS + 5;

    #[test]
    fn packets_leave_one_after_another_at_the_rate() {
        let mut departure = Departure::new(8_000_000, 0, 100_000);
        let times: Vec<_> = (0..4).map(|_| departure.take(1_000, START_NS).unwrap() - START_NS).collect();
        assert_eq!(times, [0, 1_000_000, 2_000_000, 3_000_000], "a byte takes a microsecond");
        assert_eq!(departure.take(1_000, START_NS + SECOND_NS), Some(START_NS + SECOND_NS), "time that passed is gone");
    }

    #[test]
    fn a_queue_that_was_empty_for_a_moment_makes_up_for_it() {
        let mut departure = Departure::new(8_000_000, 3_000, 100_000);
        let leave = |departure: &mut Departure, now_ns| departure.take(1_000, now_ns).unwrap() as i64 - START_NS as i64;
        let times: Vec<_> = (0..5).map(|_| leave(&mut departure, START_NS)).collect();
        assert_eq!(times, [-3_000_000, -2_000_000, -1_000_000, 0, 1_000_000]);
    }

    #[test]
    fn who_would_wait_too_long_is_dropped_and_costs_nothing() {
        let mut departure = Departure::new(8_000_000, 0, 10_000);
        let taken = (0..).take_while(|_| departure.take(1_000, START_NS).is_some()).count();
        assert_eq!(taken, 11, "ten wait, the first leaves at once");
        let before = departure;
        assert_eq!((departure.take(1_000, START_NS), departure), (None, before));
        assert!(departure.take(1_000, START_NS + 1_000_000).is_some());
    }

    #[test]
    fn times_have_bounds_at_the_ends_of_the_range() {
        for rate_bps in [1, 8_000, 100_000_000_000, u64::MAX] {
            for bytes in [0, u64::MAX] {
                let mut departure = Departure::new(rate_bps, bytes, bytes);
                assert!(departure.burst_ns <= WAIT_NS_MAX && departure.wait_ns <= WAIT_NS_MAX);
                assert!(
                    departure.take(1 << 22, START_NS).is_some(),
                    "{rate_bps}: the largest packet leaves sooner or later"
                );
            }
        }
        assert_eq!(Departure::new(0, 9, 9), Departure::default(), "no rate holds nothing");
    }

    proptest! {
        /// What leaves in any time is at most the rate's share of it, a burst and one packet; and nothing waits longer than
        /// it may.
        #[test]
        fn no_order_of_packets_gets_more_than_the_rate_and_a_burst(
            rate_bps in 64_000u64..100_000_000_000,
            burst_bytes in 0u64..1_000_000,
            packets in prop::collection::vec((20u64..65_536, 0u64..50_000_000), 1..300),
        ) {
            let mut departure = Departure::new(rate_bps, burst_bytes, 262_144);
            let (mut now_ns, mut cost_ns) = (START_NS, 0);
            for (size, gap_ns) in packets {
                now_ns += gap_ns;
                if let Some(leaves_ns) = departure.take(size, now_ns) {
                    prop_assert!(leaves_ns.saturating_sub(now_ns) <= departure.wait_ns);
                    prop_assert!(cost_ns <= leaves_ns.max(now_ns) - START_NS + departure.burst_ns);
                    cost_ns += departure.cost_ns(size);
                }
            }
        }
    }
}
