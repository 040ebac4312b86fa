//! How many ICMP errors the programs of a CPU may send (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f): a bucket of tokens.

/// Errors that may be sent at once after a pause.
pub const ICMP_ERROR_BURST: u64 = 100;

/// Nanoseconds until one more may be sent: 1,000 per second.
pub const ICMP_ERROR_INTERVAL_NS: u64 = 1_000_000;

/// The bucket of a CPU. Map `ICMP_BUCKET`; zeros stand for a full one.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IcmpBucket {
    /// Up to when tokens have been put in, nanoseconds of any clock that goes on.
    pub refilled_ns: u64,
    /// Tokens in it.
    pub token_count: u64,
}

const _: () = assert!(size_of::<IcmpBucket>() == 16 && align_of::<IcmpBucket>() == 8);

impl IcmpBucket {
    /// Puts in what is due at `now_ns` and takes one token; says whether there was one.
    #[inline(always)]
    pub const fn take(&mut self, now_ns: u64) -> bool {
        let gained = now_ns.saturating_sub(self.refilled_ns) / ICMP_ERROR_INTERVAL_NS;
        let token_count = self.token_count.saturating_add(gained);
        self.token_count = if token_count > ICMP_ERROR_BURST { ICMP_ERROR_BURST } else { token_count };
        // What is left of an interval counts next time.
        self.refilled_ns += gained * ICMP_ERROR_INTERVAL_NS;
        let is_there = self.token_count > 0;
        self.token_count -= is_there as u64;
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn taken(bucket: &mut IcmpBucket, times: u64, now_ns: u64) -> usize {
        (0..times).filter(|_| bucket.take(now_ns)).count()
    }

    #[test]
    fn a_burst_goes_and_then_no_more_than_the_rate() {
        let mut bucket = IcmpBucket::default();
        let start_ns = 77 * SECOND_NS + 3;
        assert_eq!(taken(&mut bucket, 1_000, start_ns), 100);
        assert_eq!(taken(&mut bucket, 9, start_ns + ICMP_ERROR_INTERVAL_NS - 4), 0, "not due yet");
        assert_eq!(taken(&mut bucket, 9, start_ns + ICMP_ERROR_INTERVAL_NS * 4), 4);
        assert_eq!(taken(&mut bucket, 1_000, start_ns + 9 * SECOND_NS), 100, "no more than a burst is saved");
    }

    #[test]
    fn a_second_of_ticks_gives_a_thousand_whatever_the_tick() {
        for tick_ns in [1_000, 999_999, 1_000_000, 4_000_000, 10_000_000] {
            let mut bucket = IcmpBucket { refilled_ns: SECOND_NS, token_count: 0 };
            let sent: usize =
                (1..=SECOND_NS / tick_ns).map(|tick| taken(&mut bucket, 200, SECOND_NS + tick * tick_ns)).sum();
            assert!((990..=1_000).contains(&sent), "{sent} with ticks of {tick_ns} ns");
        }
    }

    #[test]
    fn a_clock_that_steps_back_takes_nothing_away() {
        let mut bucket = IcmpBucket { refilled_ns: SECOND_NS, token_count: 2 };
        assert_eq!(taken(&mut bucket, 5, 7), 2);
    }
}
