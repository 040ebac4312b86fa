//! A board: all signals of one subject, and the answers to readings.
//!
//! Measured signals have a [`Window`] each, external ones a value with a lifetime. Forecasts are made of five-minute
//! means, by smoothing, for signals of which somebody asks for one.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::SignalName;
use super::external::{PUSHED_COUNT_MAX, PushError, Pushed};
use super::reading::{Input, Reading};
use super::window::Window;
use crate::predict::{Forecast, Forecaster, Measured, Smoothing, Track};
use crate::units::Span;

/// A measured signal without a newer sample for so long is unknown, where nobody says otherwise, milliseconds.
pub const STALE_AFTER_DEFAULT_MS: u64 = 15_000;

/// Forecasts are made of means over so long, milliseconds.
const STEP_MS: u64 = 300_000;

/// Steps that may be missing in one go before a forecast starts anew: a week.
const GAP_STEPS_MAX: u64 = 7 * 288;

/// Values of one step that is not over yet, and what came of those before.
#[derive(Debug, Clone)]
struct Outlook {
    model: Smoothing,
    /// How far its forecasts turned out to be off, by how far they look ahead.
    tracks: BTreeMap<Span, Track>,
    step: Option<u64>,
    sum: f64,
    count: u32,
}

/// All signals of one subject. Times are of the caller's steady clock.
#[derive(Debug, Clone)]
pub struct Board {
    windows: BTreeMap<SignalName, Box<Window>>,
    pushed: BTreeMap<SignalName, Pushed>,
    /// Signals among those read that were pushed at some time: without a live value they are unknown.
    once_pushed: BTreeSet<SignalName>,
    outlooks: BTreeMap<SignalName, Box<Outlook>>,
    stale_after_ms: u64,
}

impl Board {
    /// A board that keeps what these inputs read, and takes a signal for unknown after so long without a sample.
    pub fn new<'a>(inputs: impl IntoIterator<Item = &'a Input>, stale_after_ms: u64) -> Self {
        let (windows, pushed, once_pushed, outlooks) = Default::default();
        let mut board = Self { windows, pushed, once_pushed, outlooks, stale_after_ms };
        board.keep_reading(inputs);
        board
    }

    /// Other inputs are read from now on: what none of them reads is forgotten, the rest goes on.
    pub fn keep_reading<'a>(&mut self, inputs: impl IntoIterator<Item = &'a Input>) {
        let (mut windows, mut outlooks) = (std::mem::take(&mut self.windows), std::mem::take(&mut self.outlooks));
        let mut asked = BTreeSet::new();
        for Input { signal, reading } in inputs {
            let window = windows.remove(signal).unwrap_or_default();
            self.windows.entry(signal.clone()).or_insert(window);
            if matches!(reading, Reading::Predicted(_)) {
                let outlook = outlooks.remove(signal).unwrap_or_else(|| Box::new(Outlook::new()));
                self.outlooks.entry(signal.clone()).or_insert(outlook);
            }
            if let (Reading::Predicted(ahead), Some(outlook)) = (reading, self.outlooks.get_mut(signal)) {
                asked.insert((signal.clone(), *ahead));
                outlook.tracks.entry(*ahead).or_insert_with(|| Track::new(steps_of(*ahead)));
            }
        }
        for (signal, outlook) in &mut self.outlooks {
            outlook.tracks.retain(|ahead, _| asked.contains(&(signal.clone(), *ahead)));
        }
        self.once_pushed.retain(|signal| self.windows.contains_key(signal));
    }

    /// Takes a sample. False: nothing reads this signal.
    pub fn record(&mut self, signal: &SignalName, now_ms: u64, value: f64) -> bool {
        let Some(window) = self.windows.get_mut(signal) else { return false };
        window.record(now_ms, value);
        if let Some(outlook) = self.outlooks.get_mut(signal).filter(|_| value.is_finite()) {
            outlook.record(now_ms, value);
        }
        true
    }

    /// Takes a pushed value with its lifetime.
    pub fn push(&mut self, signal: &SignalName, now_ms: u64, value: f64, lifetime_ms: u64) -> Result<(), PushError> {
        let pushed = Pushed::new(signal, value, lifetime_ms, now_ms)?;
        self.pushed.retain(|_, pushed| pushed.at(now_ms).is_some());
        if self.pushed.len() >= PUSHED_COUNT_MAX && !self.pushed.contains_key(signal) {
            return Err(PushError::TooMany(signal.clone()));
        }
        self.put_pushed(signal, now_ms, pushed);
        Ok(())
    }

    /// Takes a value that was pushed before, here or elsewhere, and goes on counting until its end.
    pub fn put_pushed(&mut self, signal: &SignalName, now_ms: u64, pushed: Pushed) {
        self.pushed.insert(signal.clone(), pushed);
        if self.record(signal, now_ms, pushed.value) {
            self.once_pushed.insert(signal.clone());
        }
    }

    /// Forgets a pushed value.
    pub fn withdraw(&mut self, signal: &SignalName) {
        self.pushed.remove(signal);
    }

    /// What a reading says now. None: unknown, because it is missing, stale or not seen for long enough.
    pub fn read(&self, input: &Input, now_ms: u64) -> Option<f64> {
        let pushed = self.pushed.get(&input.signal);
        if let (Reading::Last, Some(pushed)) = (input.reading, pushed) {
            return pushed.at(now_ms);
        }
        let window = self.windows.get(&input.signal)?;
        let is_alive = match pushed {
            Some(pushed) => pushed.at(now_ms).is_some(),
            None => !self.once_pushed.contains(&input.signal) && self.is_fresh(window, now_ms),
        };
        if !is_alive {
            return None;
        }
        match input.reading {
            Reading::Last => window.last(),
            Reading::Mean(span) => window.mean(now_ms, span.0),
            Reading::Max(span) => window.max(now_ms, span.0),
            Reading::Min(span) => window.min(now_ms, span.0),
            Reading::P95(span) => window.p95(now_ms, span.0),
            Reading::Total(span) => window.mean(now_ms, span.0).map(|mean| mean * span.0 as f64 / 1e3),
            Reading::Predicted(span) => self.forecast(&input.signal, span).map(|forecast| forecast.value),
        }
    }

    /// The forecast of a signal for so long ahead, with how far such forecasts were off.
    pub fn forecast(&self, signal: &SignalName, ahead: Span) -> Option<Forecast> {
        self.outlooks.get(signal)?.model.predict(steps_of(ahead))
    }

    /// How far forecasts turned out to be off, of every signal and for every time ahead that is asked for.
    pub fn accuracies(&self) -> impl Iterator<Item = (&SignalName, Span, Measured)> {
        self.outlooks.iter().flat_map(|(signal, outlook)| {
            outlook.tracks.iter().map(move |(ahead, track)| (signal, *ahead, track.measured()))
        })
    }

    fn is_fresh(&self, window: &Window, now_ms: u64) -> bool {
        window.last_ms().is_some_and(|last_ms| now_ms.saturating_sub(last_ms) <= self.stale_after_ms)
    }
}

/// Steps until so long ahead, at least one.
fn steps_of(ahead: Span) -> usize {
    usize::try_from(ahead.0.div_ceil(STEP_MS)).unwrap_or(usize::MAX).max(1)
}

impl Outlook {
    fn new() -> Self {
        let (step, tracks) = Default::default();
        Self { model: Smoothing::daily(STEP_MS / 1_000), tracks, step, sum: 0.0, count: 0 }
    }

    /// A step is over.
    fn observe(&mut self, mean: Option<f64>) {
        self.model.observe(mean);
        for track in self.tracks.values_mut() {
            track.step(mean, self.model.predict(track.step_count()).map(|forecast| forecast.value));
        }
    }

    fn record(&mut self, now_ms: u64, value: f64) {
        let now = now_ms / STEP_MS;
        let step = *self.step.get_or_insert(now);
        if now > step {
            self.observe((self.count > 0).then(|| self.sum / f64::from(self.count)));
            if now - step > GAP_STEPS_MAX {
                self.model = Smoothing::daily(STEP_MS / 1_000);
                self.tracks.values_mut().for_each(|track| *track = Track::new(track.step_count()));
            } else {
                (step + 1..now).for_each(|_| self.observe(None));
            }
            (self.step, self.sum, self.count) = (Some(now), 0.0, 0);
        }
        self.sum += value;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(signal: &str, reading: Reading) -> Input {
        Input { signal: signal.parse().unwrap(), reading }
    }

    #[test]
    fn readings_are_known_while_samples_come_and_pushed_values_while_they_live() {
        let cpu = input("cpu.utilisation", Reading::Last);
        let mean = input("cpu.utilisation", Reading::Mean(Span(60_000)));
        let surge = input("external.surge", Reading::Last);
        let mut board = Board::new([&cpu, &mean, &surge], STALE_AFTER_DEFAULT_MS);
        assert_eq!((board.read(&cpu, 0), board.read(&surge, 0)), (None, None));
        (0..100).for_each(|second| assert!(board.record(&cpu.signal, second * 1_000, 0.5)));
        assert!(!board.record(&"memory.usage".parse().unwrap(), 0, 1.0));
        let at = |board: &Board, now_ms| (board.read(&cpu, now_ms), board.read(&mean, now_ms));
        assert_eq!(at(&board, 99_000), (Some(0.5), Some(0.5)));
        assert_eq!(at(&board, 114_000), (Some(0.5), Some(0.5)));
        assert_eq!(at(&board, 115_000), (None, None));
        board.push(&surge.signal, 100_000, 1.0, 10_000).unwrap();
        assert_eq!((board.read(&surge, 109_999), board.read(&surge, 110_000)), (Some(1.0), None));
    }

    #[test]
    fn what_is_pushed_is_held_to_its_bounds() {
        let mut board = Board::new([], STALE_AFTER_DEFAULT_MS);
        let push = |board: &mut Board, name: &str, value: f64, lifetime_ms| {
            board.push(&name.parse().unwrap(), 0, value, lifetime_ms).map_err(|error| error.to_string())
        };
        assert!(push(&mut board, "cpu.usage", 1.0, 5_000).unwrap_err().contains("is measured and cannot be pushed"));
        assert!(push(&mut board, "external.a", f64::NAN, 5_000).unwrap_err().contains("finite"));
        assert!(push(&mut board, "external.a", 1.0, 999).unwrap_err().contains("1000 to 604800000"));
        (0..64).for_each(|index| push(&mut board, &format!("external.a{index}"), 1.0, 5_000).unwrap());
        assert!(push(&mut board, "external.b", 1.0, 5_000).unwrap_err().contains("one signal too many"));
        push(&mut board, "external.a1", 2.0, 5_000).unwrap();
        assert!(board.push(&"external.b".parse().unwrap(), 5_000, 1.0, 5_000).is_ok(), "the others are dead by then");
    }

    #[test]
    fn what_is_still_read_goes_on_when_other_inputs_are_read() {
        let (cpu, memory) = (input("cpu.usage", Reading::Last), input("memory.bytes", Reading::Last));
        let surge = input("external.surge", Reading::Last);
        let mut board = Board::new([&cpu], STALE_AFTER_DEFAULT_MS);
        board.record(&cpu.signal, 1_000, 0.5);
        board.put_pushed(&surge.signal, 1_000, Pushed { value: 3.0, until_ms: 1_500 });
        board.keep_reading([&memory, &cpu, &cpu]);
        assert_eq!((board.read(&cpu, 1_100), board.read(&memory, 1_100)), (Some(0.5), None));
        assert_eq!((board.read(&surge, 1_499), board.read(&surge, 1_500)), (Some(3.0), None));
        board.keep_reading([&memory, &surge]);
        board.put_pushed(&surge.signal, 1_100, Pushed { value: 3.0, until_ms: 9_000 });
        board.withdraw(&surge.signal);
        assert_eq!((board.read(&cpu, 1_100), board.read(&surge, 1_100)), (None, None));
    }

    #[test]
    fn a_forecast_sees_the_load_before_it_comes() {
        let ahead = input("cpu.utilisation", Reading::Predicted(Span(3_600_000)));
        let mut board = Board::new([&ahead], 400_000);
        // Busy from 09:00 to 17:00, a value every five minutes for eight days, until 08:15.
        let load = |minute: u64| if (540..1_020).contains(&(minute % 1_440)) { 0.9 } else { 0.1 };
        let end = 8 * 1_440 + 495;
        (0..=end).step_by(5).for_each(|minute| {
            board.record(&ahead.signal, minute * 60_000, load(minute));
        });
        let value = board.read(&ahead, end * 60_000).unwrap();
        assert!(value > 0.7, "{value}");
        assert!(board.forecast(&ahead.signal, Span(3_600_000)).unwrap().typical_error.is_some());
        let (signal, span, measured) = board.accuracies().next().unwrap();
        assert_eq!((signal, span), (&ahead.signal, Span(3_600_000)));
        assert!(measured.count > 1_000 && measured.error < measured.persistence_error, "{measured:?}");
        board.keep_reading([]);
        assert_eq!(board.accuracies().count(), 0);
    }
}
