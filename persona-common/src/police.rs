//! Policing: a rate beyond which packets are dropped, as a safety net behind the queues that shape, or where none can stand.
//!
//! The bucket is kept as the time at which all that has passed would be through at the rate (the virtual scheduling
//! algorithm of ITU-T I.371): one word, which CPUs share without a lock.

/// The policed rate, as percent of the one that queues hold.
pub const POLICED_PERCENT: u64 = 125;

/// How much may pass at once, as time of the policed rate, milliseconds: longer than a queue at a node takes to fill and make
/// TCP slow down, so that the sender hears of the queue first.
pub const POLICED_BURST_MS: u64 = 250;

/// What may pass at once at any rate, bytes: what a sender hands to its device in one go (a full GSO packet).
pub const POLICED_BURST_BYTES_MIN: u64 = 65_536;

/// Whatever the burst, this much time of the rate passes at once, milliseconds: two ticks of the coarsest clock that programs
/// judge by.
pub const POLICED_TICKS_MS: u64 = 20;

/// The handle of the queues whose classes packets of a [`Policer`] name; below it, the class.
pub const CLASS_HANDLE: u32 = 0x7e50_0000;

/// Fractional bits of [`PolicedRate::cost_per_byte`]: at 1 Tbit/s it still has nine bits.
pub(crate) const COST_SHIFT: u32 = 16;

/// No packet, cut into all that a GSO packet may become, has as many bytes.
const BYTE_COUNT_END: u64 = 1 << 23;

/// Nanoseconds that a byte takes at a rate, with [`COST_SHIFT`] fractional bits, bounded so that the cost of a packet can't
/// overflow.
pub(crate) const fn cost_per_byte(rate_bps: u128) -> u64 {
    let ns = (8 * 1_000_000_000u128) << COST_SHIFT;
    let cost = ns / if rate_bps == 0 { 1 } else { rate_bps };
    let cost_max = u64::MAX / BYTE_COUNT_END;
    if cost > cost_max as u128 { cost_max } else { cost as u64 }
}

/// A subject that is policed. Map `POLICERS`, by [`crate::edge::EdgeBlock::policer_index`]; cell 0 stays empty. No more stands in
/// it than each packet needs of its subject alone: of a hundred thousand, the cells have to stay in the processor's cache.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policer {
    /// The subject's number, for user space to find it again.
    pub subject: u32,
    /// Its rates, in `POLICED_RATES`; 0: the cell is free.
    pub rates_index: u16,
    /// Where queues stand behind: its class on the way out, an even number; that on the way in is the next one. 0: it has
    /// none.
    pub class_minor: u16,
    /// From the subject: when all that has passed would be through at the rate, nanoseconds. Programs write it; 0: long ago.
    pub egress_due_ns: u64,
    /// The same to the subject.
    pub ingress_due_ns: u64,
}

const _: () = assert!(size_of::<Policer>() == 24 && align_of::<Policer>() == 8);

/// What many subjects are held to alike. Map `POLICED_RATES`; cell 0 stays empty.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicedRates {
    /// From the subject.
    pub egress: PolicedRate,
    /// To the subject.
    pub ingress: PolicedRate,
}

const _: () = assert!(size_of::<PolicedRates>() == 32 && align_of::<PolicedRates>() == 8);

/// One direction.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicedRate {
    /// Nanoseconds that a byte takes at the rate, with [`COST_SHIFT`] fractional bits; 0: this direction isn't policed.
    pub cost_per_byte: u64,
    /// How far in the future what is due may lie when a packet comes that may still pass, nanoseconds.
    pub tolerance_ns: u64,
}

/// What a packet finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing is due any more: the time starts anew from now.
    Idle,
    /// Something is due, not too much.
    Within,
    /// Too much is due: the packet is dropped, and costs nothing.
    Beyond,
}

impl PolicedRate {
    /// The rate behind a queue that holds a subject to `rate_bps`, bits per second of inner IP bytes, and lets `burst_bytes`
    /// pass at once. 0: not policed.
    pub const fn behind_queue(rate_bps: u64, burst_bytes: u64) -> Self {
        if rate_bps == 0 {
            return Self { cost_per_byte: 0, tolerance_ns: 0 };
        }
        let cost_per_byte = cost_per_byte(rate_bps as u128 * POLICED_PERCENT as u128 / 100);
        let bytes = POLICED_BURST_BYTES_MIN.saturating_add(burst_bytes);
        Self { cost_per_byte, tolerance_ns: tolerance_ns(cost_per_byte, bytes, POLICED_BURST_MS) }
    }

    /// The rate that holds a subject to `rate_bps` itself, where no queue can, and lets `burst_bytes` pass at once. Without a
    /// burst (0) that is as much as behind a queue: with less, TCP never gets near its rate.
    pub const fn at_rate(rate_bps: u64, burst_bytes: u64) -> Self {
        if rate_bps == 0 {
            return Self { cost_per_byte: 0, tolerance_ns: 0 };
        }
        let cost_per_byte = cost_per_byte(rate_bps as u128);
        let tolerance_ns = match burst_bytes {
            0 => tolerance_ns(cost_per_byte, POLICED_BURST_BYTES_MIN, POLICED_BURST_MS),
            _ => tolerance_ns(cost_per_byte, burst_bytes, POLICED_TICKS_MS),
        };
        Self { cost_per_byte, tolerance_ns }
    }

    /// What a packet of `byte_count` bytes adds to what is due.
    #[inline(always)]
    pub const fn cost_ns(&self, byte_count: u64) -> u64 {
        // The cost is bounded so that this can't overflow; a panic has no place in a program.
        byte_count.wrapping_mul(self.cost_per_byte) >> COST_SHIFT
    }

    /// What a packet finds at `now_ns` where `due_ns` stands. Only what came before it counts, so that the largest packet
    /// passes sooner or later whatever the rate.
    #[inline(always)]
    pub const fn find(&self, due_ns: u64, now_ns: u64) -> Found {
        if due_ns <= now_ns {
            Found::Idle
        } else if due_ns - now_ns <= self.tolerance_ns {
            Found::Within
        } else {
            Found::Beyond
        }
    }
}

/// How long so many bytes take, at least so many milliseconds.
const fn tolerance_ns(cost_per_byte: u64, bytes: u64, ms_min: u64) -> u64 {
    let of_bytes = (bytes as u128 * cost_per_byte as u128) >> COST_SHIFT;
    let of_time = ms_min * 1_000_000;
    // More than a century is as good as no end.
    if of_bytes > u32::MAX as u128 * 1_000_000_000 {
        u32::MAX as u64 * 1_000_000_000
    } else if of_bytes as u64 > of_time {
        of_bytes as u64
    } else {
        of_time
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const START_NS: u64 = 77 * SECOND_NS + 5;

    /// A direction of one subject, which nobody else charges at the same time.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Bucket {
        rate: PolicedRate,
        due_ns: u64,
    }

    impl Bucket {
        fn behind_queue(rate_bps: u64, burst_bytes: u64) -> Self {
            Self { rate: PolicedRate::behind_queue(rate_bps, burst_bytes), due_ns: 0 }
        }

        fn at_rate(rate_bps: u64, burst_bytes: u64) -> Self {
            Self { rate: PolicedRate::at_rate(rate_bps, burst_bytes), due_ns: 0 }
        }

        fn take(&mut self, byte_count: u64, now_ns: u64) -> bool {
            match self.rate.find(self.due_ns, now_ns) {
                Found::Idle => self.due_ns = now_ns + self.rate.cost_ns(byte_count),
                Found::Within => self.due_ns += self.rate.cost_ns(byte_count),
                Found::Beyond => return false,
            }
            true
        }
    }

    /// Bytes that pass when packets of `size` bytes are offered every `gap_ns` for `duration_ns`.
    fn passed(bucket: &mut Bucket, size: u64, gap_ns: u64, start_ns: u64, duration_ns: u64) -> u64 {
        let times = (0..duration_ns / gap_ns).map(|step| start_ns + step * gap_ns);
        times.filter(|now_ns| bucket.take(size, *now_ns)).count() as u64 * size
    }

    #[test]
    fn twice_the_rate_gets_a_quarter_more_than_the_rate() {
        for rate_bps in [1_000_000, 64_000_000, 1_000_000_000, 10_000_000_000] {
            let mut bucket = Bucket::behind_queue(rate_bps, 0);
            let (size, gap_ns) = (1_250, 1_250 * 8 * SECOND_NS / (2 * rate_bps));
            // The burst is through within a second at each of these rates.
            passed(&mut bucket, size, gap_ns, START_NS, SECOND_NS);
            let bytes = passed(&mut bucket, size, gap_ns, START_NS + SECOND_NS, SECOND_NS);
            let wanted = rate_bps / 8 * POLICED_PERCENT / 100;
            assert!(bytes.abs_diff(wanted) <= wanted / 100 + size, "{rate_bps}: {bytes} of {wanted}");
        }
    }

    #[test]
    fn twice_the_rate_gets_the_rate_where_no_queue_holds_it() {
        for rate_bps in [1_000_000, 64_000_000, 1_000_000_000, 10_000_000_000] {
            for burst_bytes in [0, 65_536] {
                let mut bucket = Bucket::at_rate(rate_bps, burst_bytes);
                let (size, gap_ns) = (1_250, 1_250 * 8 * SECOND_NS / (2 * rate_bps));
                passed(&mut bucket, size, gap_ns, START_NS, SECOND_NS);
                let bytes = passed(&mut bucket, size, gap_ns, START_NS + SECOND_NS, SECOND_NS);
                assert!(bytes.abs_diff(rate_bps / 8) <= rate_bps / 800 + size, "{rate_bps}: {bytes}");
            }
        }
    }

    #[test]
    fn a_burst_that_is_given_is_what_passes_at_once_and_no_less_than_clocks_need() {
        for (rate_bps, burst_bytes, least, most) in [
            (8_000_000, 100_000, 100_000, 101_500),
            (8_000_000, 1, 20_000, 21_500),
            (8_000_000, 0, 250_000, 251_500),
            (8_000, 0, 65_536, 67_100),
        ] {
            let mut bucket = Bucket::at_rate(rate_bps, burst_bytes);
            let taken = (0..).take_while(|_| bucket.take(1_500, START_NS)).count() as u64 * 1_500;
            assert!((least..=most).contains(&taken), "{rate_bps} {burst_bytes}: {taken}");
        }
        assert_eq!(PolicedRate::at_rate(0, 9), PolicedRate::default(), "no rate, no policing");
    }

    #[test]
    fn who_keeps_to_the_rate_loses_nothing() {
        for (rate_bps, size) in [(8_000, 1_400), (1_000_000, 65_535), (10_000_000_000, 65_535), (64_000, 40)] {
            let mut bucket = Bucket::behind_queue(rate_bps, 0);
            let gap_ns = size * 8 * SECOND_NS / rate_bps;
            assert_eq!(passed(&mut bucket, size, gap_ns, START_NS, 1_000 * gap_ns), 1_000 * size, "{rate_bps}");
        }
    }

    #[test]
    fn a_burst_is_a_quarter_second_or_what_the_persona_and_its_device_send_at_once() {
        for (rate_bps, burst_bytes, least, most) in [
            (800_000_000, 0, 31_250_000, 31_253_000),
            (8_000, 0, 65_536, 67_100),
            (8_000, 1_000_000, 1_065_536, 1_067_100),
        ] {
            let mut bucket = Bucket::behind_queue(rate_bps, burst_bytes);
            let taken = (0..).take_while(|_| bucket.take(1_500, START_NS)).count() as u64 * 1_500;
            assert!((least..=most).contains(&taken), "{rate_bps}: {taken}");
            assert!(!bucket.take(40, START_NS), "a small packet finds it full too");
            let full_ns = START_NS + bucket.rate.tolerance_ns + bucket.rate.cost_ns(1_500);
            assert_eq!(bucket.rate.find(bucket.due_ns, full_ns), Found::Idle, "and all of it comes back");
        }
    }

    #[test]
    fn nothing_overflows_at_the_ends_of_the_range() {
        for rate_bps in [1, 8_000, u64::MAX / 2, u64::MAX] {
            for burst_bytes in [0, u64::MAX] {
                let mut bucket = Bucket::behind_queue(rate_bps, burst_bytes);
                assert!(bucket.rate.cost_per_byte.checked_mul(BYTE_COUNT_END).is_some(), "{rate_bps}");
                assert!(bucket.take(BYTE_COUNT_END - 1, START_NS), "{rate_bps}");
            }
        }
        assert_eq!(PolicedRate::behind_queue(0, 9), PolicedRate::default(), "no rate, no policing");
    }

    proptest! {
        /// What passes in any time is at most the rate's share of it, a burst and one packet.
        #[test]
        fn no_order_of_packets_gets_more_than_the_rate_and_a_burst(
            rate_bps in 8_000u64..100_000_000_000,
            burst_bytes in 0u64..1_000_000,
            packets in prop::collection::vec((20u64..65_536, 0u64..50_000_000), 1..300),
        ) {
            let mut bucket = Bucket::behind_queue(rate_bps, burst_bytes);
            let (mut now_ns, mut cost_ns, mut largest_ns) = (START_NS, 0, 0);
            for (size, gap_ns) in packets {
                now_ns += gap_ns;
                if bucket.take(size, now_ns) {
                    cost_ns += bucket.rate.cost_ns(size);
                    largest_ns = largest_ns.max(bucket.rate.cost_ns(size));
                }
                prop_assert!(cost_ns <= now_ns - START_NS + bucket.rate.tolerance_ns + largest_ns);
            }
        }

        /// A packet that is dropped takes nothing from those after it.
        #[test]
        fn drops_are_free(rate_bps in 8_000u64..1_000_000_000, sizes in prop::collection::vec(20u64..65_536, 1..100)) {
            let mut bucket = Bucket::behind_queue(rate_bps, 0);
            for size in sizes {
                let before = bucket;
                if !bucket.take(size, START_NS) {
                    prop_assert_eq!(before, bucket);
                }
            }
        }
    }
}
