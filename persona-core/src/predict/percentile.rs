//! A percentile of the past with a half-life: how much a limit should leave room for, whatever the hour.

use super::{ErrorMeter, Forecast, Forecaster};

/// The percentile that is told.
const SHARE: f64 = 0.95;

/// After so long a value counts half, seconds.
const HALF_LIFE_S: f64 = 86_400.0;

/// Neighbouring buckets differ by this factor: the answer is within 2.5 %.
const GROWTH: f64 = 1.05;

/// Values below this fall into the lowest bucket.
const SMALLEST: f64 = 1e-3;

/// Buckets: enough for thirteen decades.
const BUCKET_COUNT: usize = 620;

/// The weighted histogram is brought back to small weights when a new value weighs this much.
const WEIGHT_MAX: f64 = 1e9;

/// A percentile of the past, which counts less the older it is.
#[derive(Debug, Clone)]
pub struct DecayedPercentile {
    weights: Vec<f64>,
    /// What the next value weighs: it grows, which is as if all older ones faded.
    weight: f64,
    growth_per_step: f64,
    share: f64,
    meter: ErrorMeter,
}

impl DecayedPercentile {
    /// The 95th percentile with a half-life of one day.
    pub fn daily(step_s: u64) -> Self {
        Self::of_share(SHARE, step_s)
    }

    /// Another percentile, 0 to 1, with the same half-life.
    pub fn of_share(share: f64, step_s: u64) -> Self {
        let growth_per_step = 2.0_f64.powf(step_s.max(1) as f64 / HALF_LIFE_S);
        Self { weights: vec![0.0; BUCKET_COUNT], weight: 1.0, growth_per_step, share, meter: ErrorMeter::default() }
    }
}

impl Forecaster for DecayedPercentile {
    fn observe(&mut self, value: Option<f64>) {
        self.weight *= self.growth_per_step;
        if self.weight > WEIGHT_MAX {
            self.weights.iter_mut().for_each(|weight| *weight /= self.weight);
            self.weight = 1.0;
        }
        let Some(value) = value else { return };
        if let Some(forecast) = self.predict(1) {
            self.meter.add(value - forecast.value);
        }
        self.weights[bucket_of(value)] += self.weight;
    }

    fn predict(&self, _: usize) -> Option<Forecast> {
        let total: f64 = self.weights.iter().sum();
        let mut passed = 0.0;
        let index = self.weights.iter().position(|weight| {
            passed += weight;
            passed > 0.0 && passed >= total * self.share
        })?;
        let value = if index == 0 { 0.0 } else { SMALLEST * GROWTH.powf(index as f64 - 0.5) };
        Some(Forecast { value, typical_error: self.meter.mean })
    }

    fn explain(&self) -> String {
        format!("the {:.0}th percentile of the past, which counts half after a day", self.share * 100.0)
    }
}

fn bucket_of(value: f64) -> usize {
    if value < SMALLEST {
        return 0;
    }
    let index = ((value / SMALLEST).ln() / GROWTH.ln()).floor() + 1.0;
    (index as usize).min(BUCKET_COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_the_past_and_the_past_fades() {
        let mut model = DecayedPercentile::daily(300);
        assert_eq!(model.predict(1), None);
        (0..288).for_each(|step| model.observe(Some(if step % 10 == 0 { 90.0 } else { 20.0 })));
        let value = model.predict(1).unwrap().value;
        assert!((value - 90.0).abs() < 90.0 * 0.025, "{value}");
        (0..288 * 30).for_each(|_| model.observe(Some(5.0)));
        let value = model.predict(1).unwrap().value;
        assert!((value - 5.0).abs() < 5.0 * 0.025, "{value}");
        model.observe(Some(f64::MAX));
        model.observe(Some(-3.0));
        model.observe(None);
        assert!(model.predict(1).is_some());
    }
}
