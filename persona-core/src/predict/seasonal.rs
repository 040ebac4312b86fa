//! Exponential smoothing with a daily profile.
//!
//! ```text
//!   forecast(h) = profile[slot + h] + trust(h) × distance now
//! ```
//! Each slot of the day has a level that follows its values exponentially. The distance of the present from its slot is
//! smoothed too, and how much of it is left after h steps is learnt from the series itself, for a ladder of horizons.

use super::{ErrorMeter, Forecast, Forecaster, steps_per_day};

/// A new day moves a slot's level by this share.
const PROFILE_RATE: f64 = 0.25;

/// A new value moves the distance by this share.
const DISTANCE_RATE: f64 = 0.6;

/// A new pair moves what is learnt about trust by this share.
const TRUST_RATE: f64 = 0.003;

/// The forecast's slot is the mean of so many to either side of it.
const SLOT_RADIUS: usize = 3;

/// Horizons for which trust is learnt, as divisors of a day; between them it is interpolated.
const DAY_DIVISORS: [usize; 9] = [288, 96, 48, 24, 12, 6, 4, 2, 1];

/// A daily profile and the distance from it.
#[derive(Debug, Clone)]
pub struct Smoothing {
    levels: Vec<Option<f64>>,
    /// How often each slot was seen, as far as it matters.
    seen: Vec<u8>,
    count: usize,
    distance: f64,
    distances: Vec<f64>,
    horizons: Vec<Horizon>,
    variance: f64,
    mean: Option<f64>,
    meter: ErrorMeter,
}

/// How far the distance of now and that of so many steps ago go together.
#[derive(Debug, Clone, Copy)]
struct Horizon {
    steps: usize,
    covariance: f64,
}

impl Smoothing {
    /// With a profile of one day.
    pub fn daily(step_s: u64) -> Self {
        let length = steps_per_day(step_s);
        let mut steps: Vec<usize> = DAY_DIVISORS.iter().map(|divisor| (length / divisor).max(1)).collect();
        steps.dedup();
        Self {
            levels: vec![None; length],
            seen: vec![0; length],
            count: 0,
            distance: 0.0,
            distances: vec![0.0; length],
            horizons: steps.into_iter().map(|steps| Horizon { steps, covariance: 0.0 }).collect(),
            variance: 0.0,
            mean: None,
            meter: ErrorMeter::default(),
        }
    }

    /// The level around a slot.
    fn profile(&self, slot: usize) -> Option<f64> {
        let length = self.levels.len();
        let radius = SLOT_RADIUS.min((length - 1) / 2);
        let around = (0..=2 * radius).filter_map(|offset| self.levels[(slot + length + offset - radius) % length]);
        let (sum, count) = around.fold((0.0, 0), |(sum, count), level| (sum + level, count + 1));
        if count == 0 { self.mean } else { Some(sum / f64::from(count)) }
    }

    /// How much of the distance is left after so many steps, from 0 to 1.
    fn trust(&self, steps: usize) -> f64 {
        let of = |horizon: &Horizon| {
            if self.variance > 0.0 { (horizon.covariance / self.variance).clamp(0.0, 1.0) } else { 0.0 }
        };
        let above = self.horizons.iter().position(|horizon| horizon.steps >= steps);
        match above {
            None => 0.0,
            Some(0) => of(&self.horizons[0]),
            Some(index) => {
                let (low, high) = (&self.horizons[index - 1], &self.horizons[index]);
                let place = (steps as f64 / low.steps as f64).ln() / (high.steps as f64 / low.steps as f64).ln();
                of(low) + (of(high) - of(low)) * place
            }
        }
    }

    fn learn_trust(&mut self, distance: f64) {
        let length = self.distances.len();
        for horizon in self.horizons.iter_mut().filter(|horizon| self.count >= horizon.steps) {
            let before = self.distances[(self.count - horizon.steps) % length];
            horizon.covariance += TRUST_RATE * (distance * before - horizon.covariance);
        }
    }

    fn learn_level(&mut self, slot: usize, value: f64) {
        self.seen[slot] = self.seen[slot].saturating_add(1);
        let rate = PROFILE_RATE.max(1.0 / f64::from(self.seen[slot]));
        let level = self.levels[slot].get_or_insert(value);
        *level += rate * (value - *level);
        let mean = self.mean.get_or_insert(value);
        *mean += TRUST_RATE * (value - *mean);
    }
}

impl Forecaster for Smoothing {
    fn observe(&mut self, value: Option<f64>) {
        let slot = self.count % self.levels.len();
        if let Some(value) = value {
            if let Some(forecast) = self.predict(1) {
                self.meter.add(value - forecast.value);
            }
            let distance = value - self.profile(slot).unwrap_or(value);
            self.learn_trust(distance);
            self.distance += DISTANCE_RATE * (distance - self.distance);
            self.learn_level(slot, value);
        }
        self.variance += TRUST_RATE * (self.distance * self.distance - self.variance);
        self.distances[slot] = self.distance;
        self.count += 1;
    }

    fn predict(&self, steps: usize) -> Option<Forecast> {
        let slot = (self.count + steps.checked_sub(1)?) % self.levels.len();
        let value = self.profile(slot)? + self.trust(steps) * self.distance;
        Some(Forecast { value, typical_error: self.meter.mean })
    }

    fn explain(&self) -> String {
        let hour = self.levels.len().div_ceil(24);
        format!(
            "a daily profile of {} slots, and {:.0} % of today's distance from it ({:+.3}) after an hour",
            self.levels.len(),
            100.0 * self.trust(hour),
            self.distance
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_wave_is_foreseen_and_a_shift_is_carried_on() {
        let wave = |step: usize| 50.0 + 30.0 * (step as f64 / 288.0 * std::f64::consts::TAU).sin();
        let mut model = Smoothing::daily(300);
        assert_eq!(model.predict(1), None);
        (0..288 * 10).for_each(|step| model.observe(Some(wave(step))));
        for steps in [1, 12, 72, 200] {
            let error = (model.predict(steps).unwrap().value - wave(288 * 10 + steps - 1)).abs();
            assert!(error < 1.0, "{steps}: {error}");
        }
        assert_eq!(model.predict(0), None);
        // Slow shifts of some hours: part of a distance is still there an hour later.
        let shifted = |step: usize| wave(step) + if (step / 60).is_multiple_of(2) { 10.0 } else { -10.0 };
        (288 * 10..288 * 20).for_each(|step| model.observe(Some(shifted(step))));
        assert!(model.trust(1) > 0.7 && model.trust(1) > model.trust(12) && model.trust(12) > 0.3);
    }

    #[test]
    fn gaps_and_a_step_of_a_day_do_no_harm() {
        for step_s in [1, 300, 43_200, 86_400, 1_000_000] {
            let mut model = Smoothing::daily(step_s);
            (0..20).for_each(|step| model.observe((step % 3 != 0).then_some(5.0)));
            assert!((model.predict(3).unwrap().value - 5.0).abs() < 1e-9, "{step_s}");
        }
    }
}
