//! How far forecasts turned out to be off: each is kept until its time has come, beside what persistence would have said.

use std::collections::VecDeque;

/// Forecasts of one signal for so many steps ahead, and their errors.
#[derive(Debug, Clone)]
pub struct Track {
    /// Of each of the last steps: what was forecast after it, and what it was itself.
    made: VecDeque<Option<(f64, f64)>>,
    step_count: usize,
    measured: Measured,
}

/// Mean absolute errors, in the signal's own unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// Forecasts whose time has come.
    pub count: u64,
    /// How far they were off. Of none: 0.
    pub error: f64,
    /// How far off it would have been that things stay as they are.
    pub persistence_error: f64,
}

impl Track {
    /// Forecasts for so many steps ahead, at least one.
    pub fn new(step_count: usize) -> Self {
        let step_count = step_count.max(1);
        Self { made: VecDeque::with_capacity(step_count), step_count, measured: Measured::default() }
    }

    /// How many steps ahead.
    pub fn step_count(&self) -> usize {
        self.step_count
    }

    /// A step is over: what it was, and what is forecast after it.
    pub fn step(&mut self, actual: Option<f64>, forecast: Option<f64>) {
        if self.made.len() == self.step_count
            && let (Some(Some((forecast, before))), Some(actual)) = (self.made.pop_front(), actual)
        {
            self.measured.add((forecast - actual).abs(), (before - actual).abs());
        }
        self.made.push_back(forecast.zip(actual));
    }

    /// What they came to so far.
    pub fn measured(&self) -> Measured {
        self.measured
    }
}

impl Measured {
    fn add(&mut self, error: f64, persistence_error: f64) {
        self.count += 1;
        let share = 1.0 / self.count as f64;
        self.error += (error - self.error) * share;
        self.persistence_error += (persistence_error - self.persistence_error) * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_measured_when_its_time_has_come_and_not_before() {
        let mut track = Track::new(2);
        track.step(Some(1.0), Some(3.0));
        track.step(Some(2.0), Some(5.0));
        assert_eq!(track.measured(), Measured::default());
        track.step(Some(3.0), None);
        assert_eq!(track.measured(), Measured { count: 1, error: 0.0, persistence_error: 2.0 });
        track.step(Some(4.0), Some(0.0));
        assert_eq!(track.measured(), Measured { count: 2, error: 0.5, persistence_error: 2.0 });
        track.step(Some(9.0), Some(0.0));
        assert_eq!(track.measured().count, 2, "nothing was forecast for this one");
        track.step(None, Some(0.0));
        assert_eq!(track.measured().count, 2, "what it was is not known");
    }
}
