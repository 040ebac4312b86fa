//! One hour of one signal in at most 2 KiB: the last minute as it was sampled, what is older in buckets that grow with
//! age.
//!
//! ```text
//!   now                                                                         an hour ago
//!   60 samples of 1 s │ 4 buckets of 10 s │ 4 of 20 s │ 4 of 40 s │ … │ 4 of 640 s
//! ```
//! Beyond a minute a window's beginning lies inside a bucket, which then counts in proportion.

use super::bucket::{BUCKET_SECONDS, Bucket, Weighted, value_of};

/// Samples kept as they came, one a second.
const RAW_COUNT: usize = 60;

/// Buckets of one level, at most.
const BUCKETS_PER_LEVEL: usize = 4;

/// Levels: the highest has buckets of 640 s.
const LEVEL_COUNT: usize = 7;

/// Room for one bucket more while levels are put in order.
const BUCKET_COUNT_MAX: usize = BUCKETS_PER_LEVEL * LEVEL_COUNT + 1;

/// A window's figures are known once this share of it has passed since the first sample: one half.
const COVERED_DIVISOR: u64 = 2;

/// The memory of one signal.
#[derive(Debug, Clone)]
pub struct Window {
    raw: [f32; RAW_COUNT],
    buckets: [Bucket; BUCKET_COUNT_MAX],
    bucket_count: u8,
    first_s: u64,
    last_s: u64,
    sample_count: u64,
}

const _: () = assert!(size_of::<Window>() <= 2_048, "a signal has 2 KiB");

impl Default for Window {
    fn default() -> Self {
        Self {
            raw: [f32::NAN; RAW_COUNT],
            buckets: [Bucket::EMPTY; BUCKET_COUNT_MAX],
            bucket_count: 0,
            first_s: 0,
            last_s: 0,
            sample_count: 0,
        }
    }
}

impl Window {
    /// Takes a sample; of several in one second the last counts. What is not finite is ignored, and a time before the
    /// last one's counts as the last one's.
    pub fn record(&mut self, now_ms: u64, value: f64) {
        let value = value as f32;
        if !value.is_finite() {
            return;
        }
        let now_s = (now_ms / 1_000).max(self.last_s);
        if self.sample_count == 0 {
            self.first_s = now_s;
            self.last_s = now_s;
        }
        self.age(now_s);
        self.raw[slot(now_s)] = value;
        self.sample_count += 1;
    }

    /// Moves what is a minute old out of the samples into the buckets.
    fn age(&mut self, now_s: u64) {
        for second in (self.last_s + 1..=now_s).take(RAW_COUNT) {
            let old = std::mem::replace(&mut self.raw[slot(second)], f32::NAN);
            if !old.is_nan() {
                self.add_to_bucket(((second - RAW_COUNT as u64) / BUCKET_SECONDS) as u32, old);
            }
        }
        self.last_s = now_s;
    }

    /// When the newest sample came, milliseconds, to the second. None: never.
    pub fn last_ms(&self) -> Option<u64> {
        (self.sample_count > 0).then_some(self.last_s * 1_000)
    }

    /// The newest sample.
    pub fn last(&self) -> Option<f64> {
        (self.sample_count > 0).then(|| f64::from(self.raw[slot(self.last_s)]))
    }

    /// The mean of the samples of the last `span_ms`. None while less than half of it has been seen.
    pub fn mean(&self, now_ms: u64, span_ms: u64) -> Option<f64> {
        let cut = self.cut(now_ms, span_ms)?;
        let recent = self.raw_since(cut).fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + f64::from(value)));
        let (count, sum) = self.shares(cut).fold(recent, |(count, sum), (bucket, share)| {
            let (more, added) = bucket.count_and_sum();
            (count + more * share, sum + added * share)
        });
        (count > 0.0).then(|| sum / count)
    }

    /// The largest of the samples of the last `span_ms`; beyond a minute also of the bucket in which the window begins.
    pub fn max(&self, now_ms: u64, span_ms: u64) -> Option<f64> {
        let values = self.sorted(self.cut(now_ms, span_ms)?);
        values.last().map(|(value, _)| *value)
    }

    /// The smallest, as [`Self::max`]; beyond a minute as exact as the buckets are.
    pub fn min(&self, now_ms: u64, span_ms: u64) -> Option<f64> {
        let values = self.sorted(self.cut(now_ms, span_ms)?);
        values.first().map(|(value, _)| *value)
    }

    /// The value that 5 % of the samples of the last `span_ms` exceed.
    pub fn p95(&self, now_ms: u64, span_ms: u64) -> Option<f64> {
        quantile(&self.sorted(self.cut(now_ms, span_ms)?), 0.95)
    }

    fn cut(&self, now_ms: u64, span_ms: u64) -> Option<Cut> {
        let (now_s, span_s) = (now_ms / 1_000, span_ms / 1_000);
        let is_covered = self.sample_count > 0 && now_s.saturating_sub(self.first_s) >= span_s / COVERED_DIVISOR;
        is_covered.then_some(Cut { since_s: (now_s + 1).saturating_sub(span_s) })
    }

    fn raw_since(&self, cut: Cut) -> impl Iterator<Item = f32> + '_ {
        (self.raw_start_s().max(cut.since_s)..=self.last_s)
            .map(|second| self.raw[slot(second)])
            .filter(|value| !value.is_nan())
    }

    /// The first second whose sample is kept as it came.
    fn raw_start_s(&self) -> u64 {
        (self.last_s + 1).saturating_sub(RAW_COUNT as u64).max(self.first_s)
    }

    /// Buckets that reach into the window, each with the share of it that lies inside.
    fn shares(&self, cut: Cut) -> impl Iterator<Item = (&Bucket, f64)> + '_ {
        self.buckets[..usize::from(self.bucket_count)].iter().filter_map(move |bucket| {
            let (start, end) = bucket.seconds();
            let end = end.min(self.raw_start_s()).max(start + 1);
            let inside = end.saturating_sub(start.max(cut.since_s));
            (inside > 0).then(|| (bucket, inside as f64 / (end - start) as f64))
        })
    }

    fn sorted(&self, cut: Cut) -> Vec<(f64, f64)> {
        let scaled = |(bucket, share): (&Bucket, f64)| -> Vec<Weighted> {
            bucket.weighted().map(|(point, weight)| (point, weight * share)).collect()
        };
        let older = self.shares(cut).flat_map(scaled).map(|(point, weight)| (value_of(point), weight));
        let mut values: Vec<(f64, f64)> =
            self.raw_since(cut).map(|value| (f64::from(value), 1.0)).chain(older).collect();
        values.sort_by(|one, other| one.0.total_cmp(&other.0));
        values
    }

    fn add_to_bucket(&mut self, start: u32, value: f32) {
        let count = usize::from(self.bucket_count);
        let newest = count.checked_sub(1).map(|index| &mut self.buckets[index]);
        match newest {
            Some(bucket) if bucket.level == 0 && bucket.start == start => bucket.add(value),
            _ => {
                let mut bucket = Bucket::new(start);
                bucket.add(value);
                self.buckets[count] = bucket;
                self.bucket_count += 1;
                self.put_in_order();
            }
        }
    }

    /// Moves the oldest bucket of a full level up, together with its sibling; the highest level forgets its oldest.
    fn put_in_order(&mut self) {
        for level in 0..LEVEL_COUNT as u8 {
            let of_level = |bucket: &&Bucket| bucket.level == level;
            while self.live().iter().filter(of_level).count() > BUCKETS_PER_LEVEL {
                let oldest = self.live().iter().position(|bucket| bucket.level == level).expect("the level is full");
                if usize::from(level) == LEVEL_COUNT - 1 {
                    self.remove(oldest);
                } else {
                    self.move_up(oldest);
                }
            }
        }
    }

    fn move_up(&mut self, index: usize) {
        let raised = self.buckets[index].promoted();
        let next = self.buckets[index + 1].promoted();
        if self.buckets[index + 1].level == self.buckets[index].level && next.start == raised.start {
            let sibling = self.buckets[index + 1];
            self.remove(index + 1);
            self.buckets[index].merge(&sibling);
        }
        let before = index.checked_sub(1).map(|before| self.buckets[before]);
        let merged = self.buckets[index].promoted();
        match before {
            Some(before) if before.level == raised.level && before.start == raised.start => {
                self.buckets[index - 1].merge(&merged);
                self.remove(index);
            }
            _ => self.buckets[index] = merged,
        }
    }

    fn live(&self) -> &[Bucket] {
        &self.buckets[..usize::from(self.bucket_count)]
    }

    fn remove(&mut self, index: usize) {
        let count = usize::from(self.bucket_count);
        self.buckets.copy_within(index + 1..count, index);
        self.bucket_count -= 1;
    }
}

/// From when on samples count, seconds.
#[derive(Debug, Clone, Copy)]
struct Cut {
    since_s: u64,
}

fn slot(second: u64) -> usize {
    (second % RAW_COUNT as u64) as usize
}

/// The quantile of sorted values with weights, interpolated between the middles of neighbours (Hazen's definition).
pub(super) fn quantile(sorted: &[(f64, f64)], share: f64) -> Option<f64> {
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let target = total * share;
    let (mut passed, mut before): (f64, Option<(f64, f64)>) = (0.0, None);
    for (value, weight) in sorted {
        let middle = passed + weight / 2.0;
        if middle >= target {
            return Some(before.map_or(*value, |(at, low)| low + (value - low) * (target - at) / (middle - at)));
        }
        (passed, before) = (passed + weight, Some((middle, *value)));
    }
    sorted.last().map(|(value, _)| *value)
}

#[cfg(test)]
mod tests;
