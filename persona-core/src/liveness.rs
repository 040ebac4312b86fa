//! Whether a probed peer is alive: a state machine over probes sent, replies heard and time attended.
//!
//! Silence is measured on an [`AttentiveClock`], which runs only while the prober itself ran on time: a host that was
//! suspended or starved of CPU must not take its own absence for its peers' death. Nothing here reads a clock.

use crate::ids::Generation;
use crate::wire::desired::ProbeItem;

/// Probes over which loss is counted.
pub const LOSS_WINDOW: u32 = 100;

const NS_PER_MS: u64 = 1_000_000;

/// How much of a sleep's lateness counts. More is the prober's own absence.
const LATE_NS_MAX: u64 = 2_500_000;

/// A clock that counts a sleep that ends late as little longer than planned.
#[derive(Debug, Clone, Copy)]
pub struct AttentiveClock {
    real_ns: u64,
    attended_ns: u64,
}

impl AttentiveClock {
    /// A clock that starts at zero when the monotonic clock shows `real_ns`.
    pub fn new(real_ns: u64) -> Self {
        Self { real_ns, attended_ns: 0 }
    }

    /// Moves on to `real_ns`, at most 2.5 ms further than the `planned_ns` that the prober meant to sleep. Returns the new time.
    pub fn advance(&mut self, real_ns: u64, planned_ns: u64) -> u64 {
        let elapsed = real_ns.saturating_sub(self.real_ns);
        self.attended_ns += elapsed.min(planned_ns + LATE_NS_MAX);
        self.real_ns = real_ns;
        self.attended_ns
    }
}

/// What the data plane shall be told about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be used.
    pub alive: bool,
    /// The generation of its lease table, as far as known.
    pub generation: Generation,
}

/// A peer's quality, as reports carry it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: Option<u32>,
    /// RTTVAR of RFC 6298 §2, microseconds.
    pub jitter_us: Option<u32>,
    /// Share of the last probes without answer, 0 to 1.
    pub loss: f32,
}

/// One probed peer.
#[derive(Debug, Clone)]
pub struct Liveness {
    verdict: Verdict,
    heard_ns: u64,
    newest_sequence: u64,
    sent_count: u64,
    answered: u128,
    round_trip: Option<RoundTrip>,
}

#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    smoothed_ns: u64,
    deviation_ns: u64,
}

impl Liveness {
    /// A peer first looked at when the attentive clock shows `now_ns`. What the data plane already believes is taken
    /// over; a peer that it does not know is dead until it answers.
    pub fn new(now_ns: u64, believed: Option<Verdict>) -> Self {
        let verdict = believed.unwrap_or(Verdict { alive: false, generation: Generation::default() });
        Self { verdict, heard_ns: now_ns, newest_sequence: 0, sent_count: 0, answered: 0, round_trip: None }
    }

    /// What is believed now.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// A probe went out. Sequences count up by one.
    pub fn sent(&mut self, sequence: u64) {
        self.newest_sequence = sequence;
        self.sent_count += 1;
        self.answered <<= 1;
    }

    /// An answer came. Returns the verdict if it changed.
    pub fn heard(&mut self, now_ns: u64, sequence: u64, round_trip_ns: u64, generation: Generation) -> Option<Verdict> {
        let age = self.newest_sequence.checked_sub(sequence)?;
        if age < u64::from(LOSS_WINDOW) {
            self.answered |= 1 << age;
        }
        self.heard_ns = now_ns;
        self.round_trip = Some(RoundTrip::after(self.round_trip, round_trip_ns));
        self.replace(Verdict { alive: true, generation })
    }

    /// When it is dead unless it is heard before, on the attentive clock. None: it is dead already.
    pub fn dies_at_ns(&self, probe: &ProbeItem) -> Option<u64> {
        let limit_ns = u64::from(probe.interval_ms) * u64::from(probe.multiplier) * NS_PER_MS;
        self.verdict.alive.then_some(self.heard_ns + limit_ns)
    }

    /// Judges silence. Call only after everything that had arrived was [`heard`](Self::heard). Returns the verdict if it changed.
    pub fn judge(&mut self, now_ns: u64, probe: &ProbeItem) -> Option<Verdict> {
        let is_silent = self.dies_at_ns(probe).is_some_and(|dies_at_ns| now_ns >= dies_at_ns);
        if is_silent { self.replace(Verdict { alive: false, ..self.verdict }) } else { None }
    }

    /// Its quality; probes younger than `in_flight` probes are not counted as lost yet.
    pub fn quality(&self, in_flight: u32) -> Quality {
        let in_flight = in_flight.min(LOSS_WINDOW - 1);
        let window = self.sent_count.min(u64::from(LOSS_WINDOW)) as u32;
        let judged = window.saturating_sub(in_flight);
        let mask = ((1_u128 << judged) - 1) << in_flight;
        let answered = (self.answered & mask).count_ones();
        let micros = |ns: u64| u32::try_from(ns / 1_000).unwrap_or(u32::MAX);
        Quality {
            rtt_us: self.round_trip.map(|trip| micros(trip.smoothed_ns)),
            jitter_us: self.round_trip.map(|trip| micros(trip.deviation_ns)),
            loss: if judged == 0 { 0.0 } else { (judged - answered) as f32 / judged as f32 },
        }
    }

    fn replace(&mut self, verdict: Verdict) -> Option<Verdict> {
        let has_changed = verdict != self.verdict;
        self.verdict = verdict;
        has_changed.then_some(verdict)
    }
}

impl RoundTrip {
    /// RFC 6298 §2.2 and §2.3: alpha 1/8, beta 1/4.
    fn after(before: Option<Self>, sample_ns: u64) -> Self {
        let Some(Self { smoothed_ns, deviation_ns }) = before else {
            return Self { smoothed_ns: sample_ns, deviation_ns: sample_ns / 2 };
        };
        let off_ns = smoothed_ns.abs_diff(sample_ns);
        Self {
            deviation_ns: deviation_ns - deviation_ns / 4 + off_ns / 4,
            smoothed_ns: smoothed_ns - smoothed_ns / 8 + sample_ns / 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: ProbeItem = ProbeItem { interval_ms: 50, multiplier: 3 };

    fn ms(count: u64) -> u64 {
        count * NS_PER_MS
    }

    fn generation(number: u64) -> Generation {
        Generation::new(1, number)
    }

    fn verdict(alive: bool, number: u64) -> Verdict {
        Verdict { alive, generation: generation(number) }
    }

    #[test]
    fn silence_of_three_intervals_is_death() {
        for (silent_ms, expected) in
            [(0, None), (149, None), (150, Some(verdict(false, 1))), (900, Some(verdict(false, 1)))]
        {
            let mut peer = Liveness::new(0, Some(verdict(true, 1)));
            assert_eq!(peer.judge(ms(silent_ms), &PROBE), expected, "{silent_ms} ms");
        }
    }

    #[test]
    fn an_adopted_peer_is_judged_only_after_the_first_limit() {
        let mut peer = Liveness::new(ms(1_000), Some(verdict(true, 4)));
        assert_eq!(peer.judge(ms(1_149), &PROBE), None);
        assert_eq!(peer.judge(ms(1_150), &PROBE), Some(verdict(false, 4)));
        assert_eq!(peer.judge(ms(1_200), &PROBE), None, "told once");
    }

    #[test]
    fn an_answer_revives_and_a_new_generation_is_told() {
        let mut peer = Liveness::new(0, None);
        peer.sent(1);
        assert_eq!(peer.heard(ms(1), 1, 1_000, generation(1)), Some(verdict(true, 1)));
        peer.sent(2);
        assert_eq!(peer.heard(ms(51), 2, 1_000, generation(1)), None);
        peer.sent(3);
        assert_eq!(peer.heard(ms(101), 3, 1_000, generation(2)), Some(verdict(true, 2)));
        assert_eq!(peer.heard(ms(102), 9, 1_000, generation(7)), None, "a probe that was never sent");
    }

    #[test]
    fn a_sleep_that_ends_late_counts_as_planned_and_a_little() {
        let mut clock = AttentiveClock::new(ms(5));
        for (real_ms, attended_us) in [(15, 10_000), (25, 20_000), (2_025, 32_500), (2_030, 37_500)] {
            assert_eq!(clock.advance(ms(real_ms), ms(10)), attended_us * 1_000, "at {real_ms} ms");
        }
    }

    #[test]
    fn death_is_due_when_a_judge_would_say_it_and_not_for_the_dead() {
        let mut peer = Liveness::new(ms(7), Some(verdict(true, 1)));
        assert_eq!(peer.dies_at_ns(&PROBE), Some(ms(157)));
        peer.sent(1);
        peer.heard(ms(50), 1, 1_000, generation(1));
        assert_eq!(peer.dies_at_ns(&PROBE), Some(ms(200)));
        assert_eq!((peer.judge(ms(200) - 1, &PROBE), peer.judge(ms(200), &PROBE).is_some()), (None, true));
        assert_eq!(peer.dies_at_ns(&PROBE), None);
    }

    #[test]
    fn loss_is_the_share_of_judged_probes_without_answer() {
        let mut peer = Liveness::new(0, None);
        assert_eq!(peer.quality(3).loss, 0.0, "nothing judged yet");
        for sequence in 1..=203 {
            peer.sent(sequence);
            if sequence % 4 != 0 {
                peer.heard(ms(sequence), sequence, 2_000_000, generation(1));
            }
        }
        assert!((peer.quality(3).loss - 0.25).abs() < 0.02, "{}", peer.quality(3).loss);
        assert_eq!(peer.quality(3).rtt_us, Some(2_000));
    }
}
