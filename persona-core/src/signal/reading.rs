//! A reading: what of a signal a criterion asks for, its last value, a figure over a window, or a forecast.

use std::fmt;
use std::ops::RangeInclusive;

use super::catalogue::SignalName;
use super::unit::Unit;
use crate::units::Span;

/// Windows that are kept.
pub const WINDOW_SPANS: RangeInclusive<Span> = Span(10_000)..=Span(3_600_000);

/// How far ahead forecasts go.
pub const PREDICTED_SPANS: RangeInclusive<Span> = Span(60_000)..=Span(86_400_000);

/// What of a signal is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reading {
    /// The newest value.
    Last,
    /// The mean over a window.
    Mean(Span),
    /// The largest value in a window.
    Max(Span),
    /// The smallest value in a window.
    Min(Span),
    /// The value that 5 % of those in a window exceed.
    P95(Span),
    /// A rate times its window: what came together in it.
    Total(Span),
    /// The forecast for so long ahead.
    Predicted(Span),
}

impl Reading {
    /// The unit of the reading of a signal in this unit.
    pub fn unit_of(self, signal: Unit) -> Option<Unit> {
        match self {
            Self::Total(_) => signal.times(Unit::SECONDS),
            _ => Some(signal),
        }
    }
}

/// One value that a criterion reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Input {
    /// Of which signal.
    pub signal: SignalName,
    /// What of it.
    pub reading: Reading,
}

impl fmt::Display for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = &self.signal;
        match self.reading {
            Reading::Last => write!(formatter, "{signal}"),
            Reading::Mean(span) => write!(formatter, "mean({signal}, {span})"),
            Reading::Max(span) => write!(formatter, "max({signal}, {span})"),
            Reading::Min(span) => write!(formatter, "min({signal}, {span})"),
            Reading::P95(span) => write!(formatter, "p95({signal}, {span})"),
            Reading::Total(span) => write!(formatter, "total({signal}, {span})"),
            Reading::Predicted(span) => write!(formatter, "predicted({signal}, {span})"),
        }
    }
}
