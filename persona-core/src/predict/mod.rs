//! Forecasts of one signal, and the measure of how good they were.
//!
//! Every model is a [`Forecaster`]: it sees values at a fixed step and says what comes so many steps ahead, with what it
//! bases that on; [`exhaustion`] says when something is full, [`Headroom`] how high a limit has to be. The naive ones are always in the table of [`backtest`], because a model that does not beat them is not worth having.

mod backtest;
mod exhaustion;
mod headroom;
mod limits;
mod naive;
mod percentile;
mod seasonal;
mod track;

pub use backtest::{Accuracy, BacktestError, HORIZON_COUNT_MAX, backtest, median_accuracy};
pub use exhaustion::{Exhaustion, Usage, exhaustion};
pub use headroom::Headroom;
pub use limits::{LimitCosts, LimitRule, limit_costs};
pub use naive::{Persistence, SeasonalNaive};
pub use percentile::DecayedPercentile;
pub use seasonal::Smoothing;
pub use track::{Measured, Track};

/// A guess about the future.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// The most likely value.
    pub value: f64,
    /// The model's own error so far, one step ahead: a typical distance between forecast and truth. None: not known yet.
    pub typical_error: Option<f64>,
}

/// A model of one signal.
pub trait Forecaster {
    /// Takes the next value; None where it is missing. Values come one step apart.
    fn observe(&mut self, value: Option<f64>);

    /// What comes `steps` from now. None: it has not seen enough.
    fn predict(&self, steps: usize) -> Option<Forecast>;

    /// What the forecast rests on, for people.
    fn explain(&self) -> String;
}

/// The models there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// Things stay as they are.
    Persistence,
    /// Things are as they were a season ago.
    SeasonalNaive,
    /// A daily profile, smoothed exponentially, and what is left of today's distance from it.
    Smoothing,
    /// A percentile of the past, which counts less the older it is.
    DecayedPercentile,
}

impl Model {
    /// All of them, the naive ones first.
    pub const ALL: [Model; 4] = [Self::Persistence, Self::SeasonalNaive, Self::Smoothing, Self::DecayedPercentile];

    /// Its word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Persistence => "persistence",
            Self::SeasonalNaive => "seasonal-naive",
            Self::Smoothing => "smoothing",
            Self::DecayedPercentile => "decayed-percentile",
        }
    }

    /// A new model for values `step_s` seconds apart.
    pub fn new_forecaster(self, step_s: u64) -> Box<dyn Forecaster + Send> {
        match self {
            Self::Persistence => Box::new(Persistence::default()),
            Self::SeasonalNaive => Box::new(SeasonalNaive::daily(step_s)),
            Self::Smoothing => Box::new(Smoothing::daily(step_s)),
            Self::DecayedPercentile => Box::new(DecayedPercentile::daily(step_s)),
        }
    }
}

/// Steps of a day.
fn steps_per_day(step_s: u64) -> usize {
    usize::try_from(86_400 / step_s.clamp(1, 86_400)).expect("a day has few steps")
}

/// A mean of absolute errors that forgets old ones.
#[derive(Debug, Clone, Copy, Default)]
struct ErrorMeter {
    mean: Option<f64>,
}

impl ErrorMeter {
    /// The newest error counts this much.
    const RATE: f64 = 0.02;

    fn add(&mut self, error: f64) {
        let error = error.abs();
        self.mean = Some(self.mean.map_or(error, |mean| mean + Self::RATE * (error - mean)));
    }
}
