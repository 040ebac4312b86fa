//! A bucket: how the values of some seconds were distributed, in 60 bytes, mergeable with its neighbour.
//!
//! Values are kept as points on a logarithmic scale with weights. Where there would be too many, the two neighbours
//! whose union distorts least are joined, so clusters, tails and plateaus survive. The largest value is never joined.

/// Points in a bucket. Ten samples fit as they are.
pub(super) const POINT_COUNT_MAX: usize = 12;

/// Magnitudes below this count as zero.
const SMALLEST: f64 = 1e-6;

/// Two neighbouring points differ by this factor's logarithm: 0.15 %. 32,767 of them reach beyond 10^15.
const STEP: f64 = 0.0015;

/// The share of samples above the quantile that is asked for: around it a bucket is kept finest.
const ASKED_SHARE: f64 = 0.05;

/// The smaller, the finer it is there, at the expense of the rest.
const SHARPNESS: f64 = 0.003;

/// Width of a bucket of level 0, seconds; each level doubles it.
pub(super) const BUCKET_SECONDS: u64 = 10;

/// The distribution of one stretch of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// In units of [`BUCKET_SECONDS`].
    pub(super) start: u32,
    sum: f32,
    /// It is 2^level units wide.
    pub(super) level: u8,
    point_count: u8,
    points: [i16; POINT_COUNT_MAX],
    weights: [u16; POINT_COUNT_MAX],
}

/// A point on the scale and how many samples it stands for.
pub(super) type Weighted = (i16, f64);

impl Bucket {
    pub(super) const EMPTY: Bucket = Bucket {
        start: 0,
        sum: 0.0,
        level: 0,
        point_count: 0,
        points: [0; POINT_COUNT_MAX],
        weights: [0; POINT_COUNT_MAX],
    };

    /// An empty bucket of the lowest level.
    pub(super) fn new(start: u32) -> Self {
        Self { start, ..Self::EMPTY }
    }

    /// Where it begins and ends, seconds.
    pub(super) fn seconds(&self) -> (u64, u64) {
        let start = u64::from(self.start) * BUCKET_SECONDS;
        (start, start + (BUCKET_SECONDS << self.level))
    }

    pub(super) fn add(&mut self, value: f32) {
        self.sum += value;
        self.insert(&[(point_of(f64::from(value)), 1)]);
    }

    /// How many samples, and their sum.
    pub(super) fn count_and_sum(&self) -> (f64, f64) {
        let count: u64 = self.weights[..usize::from(self.point_count)].iter().map(|weight| u64::from(*weight)).sum();
        (count as f64, f64::from(self.sum))
    }

    pub(super) fn weighted(&self) -> impl Iterator<Item = Weighted> + '_ {
        let count = usize::from(self.point_count);
        let points = self.points[..count].iter().zip(&self.weights[..count]);
        points.map(|(point, weight)| (*point, f64::from(*weight)))
    }

    /// Goes up one level.
    pub(super) fn promoted(mut self) -> Self {
        self.level += 1;
        self.start -= self.start % (1 << self.level);
        self
    }

    /// Takes another's samples in.
    pub(super) fn merge(&mut self, other: &Bucket) {
        self.sum += other.sum;
        let count = usize::from(other.point_count);
        let mut added = [(0, 0); POINT_COUNT_MAX];
        for (index, slot) in added[..count].iter_mut().enumerate() {
            *slot = (other.points[index], other.weights[index]);
        }
        self.insert(&added[..count]);
    }

    fn insert(&mut self, added: &[(i16, u16)]) {
        let mut all = [(0_i16, 0_u16); 2 * POINT_COUNT_MAX];
        let own = usize::from(self.point_count);
        for (index, slot) in all[..own].iter_mut().enumerate() {
            *slot = (self.points[index], self.weights[index]);
        }
        let mut count = own + added.len();
        all[own..count].copy_from_slice(added);
        all[..count].sort_unstable();
        while count > POINT_COUNT_MAX {
            count = join_cheapest(&mut all, count);
        }
        self.point_count = count as u8;
        for (index, (point, weight)) in all[..count].iter().enumerate() {
            (self.points[index], self.weights[index]) = (*point, *weight);
        }
    }
}

/// Joins the two neighbours whose union moves the least weight the least far, and much rather far from the quantile that
/// is asked for than near it. The last one stays.
fn join_cheapest(all: &mut [(i16, u16)], count: usize) -> usize {
    let total: f64 = all[..count].iter().map(|(_, weight)| f64::from(*weight)).sum();
    let (mut above, mut cheapest) = (0.0, (f64::INFINITY, 0));
    for index in (0..count - 2).rev() {
        above += f64::from(all[index + 2].1);
        let gap = f64::from(all[index + 1].0) - f64::from(all[index].0);
        let (left, right) = (f64::from(all[index].1), f64::from(all[index + 1].1));
        let moved = gap * gap * left * right / (left + right);
        let distance = (above / total - ASKED_SHARE).abs() + SHARPNESS;
        let cost = moved / (distance * distance);
        if cost < cheapest.0 {
            cheapest = (cost, index);
        }
    }
    let (_, cheapest) = cheapest;
    let (left, right) = (all[cheapest], all[cheapest + 1]);
    let weight = left.1.saturating_add(right.1);
    let moved = (f64::from(left.0) * f64::from(left.1) + f64::from(right.0) * f64::from(right.1))
        / (f64::from(left.1) + f64::from(right.1));
    all[cheapest] = (moved.round() as i16, weight);
    all.copy_within(cheapest + 2..count, cheapest + 1);
    count - 1
}

/// The point of a value.
pub(super) fn point_of(value: f64) -> i16 {
    let magnitude = value.abs();
    if magnitude < SMALLEST {
        return 0;
    }
    let steps = (1.0 + (magnitude / SMALLEST).ln() / STEP).round().min(f64::from(i16::MAX)) as i16;
    if value < 0.0 { -steps } else { steps }
}

/// The value of a point.
pub(super) fn value_of(point: i16) -> f64 {
    let magnitude = SMALLEST * ((f64::from(point.abs()) - 1.0) * STEP).exp();
    match point.signum() {
        0 => 0.0,
        sign => f64::from(sign) * magnitude,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_within_a_tenth_of_a_per_cent() {
        for value in [0.0, 1e-6, 0.001, 0.37, 1.0, 95.5, 1e9, 1e15, -0.5, -1e6] {
            let error = (value_of(point_of(value)) - value).abs();
            assert!(error <= value.abs() * 0.001, "{value}: {error}");
        }
    }

    #[test]
    fn ten_samples_are_kept_and_the_largest_survives_any_merge() {
        let mut bucket = Bucket::new(0);
        (1..=10).for_each(|value| bucket.add(value as f32));
        assert_eq!(bucket.weighted().count(), 10);
        for round in 0..50_u32 {
            let mut other = Bucket::new(0);
            (0..10).for_each(|step| other.add((round * 10 + step) as f32 / 100.0));
            bucket.merge(&other);
        }
        assert_eq!(bucket.weighted().count(), POINT_COUNT_MAX);
        assert_eq!(bucket.count_and_sum().0, 510.0);
        let largest = bucket.weighted().map(|(point, _)| value_of(point)).fold(0.0, f64::max);
        assert!((largest - 10.0).abs() < 0.01, "{largest}");
    }
}
