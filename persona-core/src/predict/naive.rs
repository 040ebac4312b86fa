//! The baselines: things stay as they are, or are as they were a season ago.

use super::{ErrorMeter, Forecast, Forecaster, steps_per_day};

/// Things stay as they are.
#[derive(Debug, Clone, Default)]
pub struct Persistence {
    last: Option<f64>,
    meter: ErrorMeter,
}

impl Forecaster for Persistence {
    fn observe(&mut self, value: Option<f64>) {
        if let (Some(value), Some(last)) = (value, self.last) {
            self.meter.add(value - last);
        }
        self.last = value.or(self.last);
    }

    fn predict(&self, _: usize) -> Option<Forecast> {
        self.last.map(|value| Forecast { value, typical_error: self.meter.mean })
    }

    fn explain(&self) -> String {
        "the newest value".to_owned()
    }
}

/// Things are as they were a season ago.
#[derive(Debug, Clone)]
pub struct SeasonalNaive {
    season: Vec<Option<f64>>,
    /// How many values came; the next one goes to this slot, modulo the season.
    count: usize,
    meter: ErrorMeter,
}

impl SeasonalNaive {
    /// With a season of one day.
    pub fn daily(step_s: u64) -> Self {
        Self { season: vec![None; steps_per_day(step_s)], count: 0, meter: ErrorMeter::default() }
    }
}

impl Forecaster for SeasonalNaive {
    fn observe(&mut self, value: Option<f64>) {
        let slot = self.count % self.season.len();
        if let (Some(value), Some(before)) = (value, self.season[slot]) {
            self.meter.add(value - before);
        }
        // A gap keeps what was there a season before.
        self.season[slot] = value.or(self.season[slot]);
        self.count += 1;
    }

    fn predict(&self, steps: usize) -> Option<Forecast> {
        let ahead = self.count + steps.checked_sub(1)?;
        let value = self.season[ahead % self.season.len()]?;
        Some(Forecast { value, typical_error: self.meter.mean })
    }

    fn explain(&self) -> String {
        format!("the value one season of {} steps before", self.season.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baselines_say_what_they_saw() {
        let (mut now, mut season) = (Persistence::default(), SeasonalNaive::daily(21_600));
        assert_eq!((now.predict(1), season.predict(1)), (None, None));
        for value in [1.0, 2.0, 3.0, 4.0] {
            now.observe(Some(value));
            season.observe(Some(value));
        }
        now.observe(None);
        assert_eq!(now.predict(7).unwrap().value, 4.0);
        let ahead: Vec<f64> = (1..=5).map(|steps| season.predict(steps).unwrap().value).collect();
        assert_eq!(ahead, [1.0, 2.0, 3.0, 4.0, 1.0]);
    }
}
