//! All thresholds of one source at once: the cell in which a value lies tells the truth of every comparison with it.
//!
//! ```text
//!   thresholds        0.6        0.8
//!   cells          0   1    2     3    4        odd cells are a threshold itself
//! ```
//! A value that stays in its cell changes no answer, which makes a look at it a handful of comparisons of floats.

use super::formula::Compare;

/// The truths of a rule set's comparisons: which are known to hold, and which are known not to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Truths {
    pub(super) holds: Bits,
    pub(super) fails: Bits,
}

/// So many comparisons a rule set may have.
pub(super) const BIT_COUNT: usize = 128;

/// A set of comparisons.
pub(super) type Bits = u128;

/// The cell of a missing value.
pub(super) const CELL_UNKNOWN: u16 = 0;

/// The thresholds of one source.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    /// Ascending, each once.
    thresholds: Vec<f64>,
    /// Comparisons of this source.
    mask: Bits,
    /// What each cell says; the first one is for a missing value.
    truths: Vec<Truths>,
    /// Between what a value certainly lies in each cell, itself neither of both; nothing lies between NaN and NaN.
    bounds: Vec<(f64, f64)>,
}

impl Cells {
    /// From the comparisons with constants that read the source: their bit, how they compare, and with what.
    pub(super) fn new(comparisons: &[(usize, Compare, f64)]) -> Self {
        let mut thresholds: Vec<f64> = comparisons.iter().map(|(_, _, value)| *value).collect();
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        let mask = comparisons.iter().fold(0, |mask, (bit, ..)| mask | 1 << bit);
        let cell_count = 2 * thresholds.len() + 1;
        let truths_in = |cell: usize| {
            comparisons.iter().fold(Truths::default(), |truths, (bit, compare, value)| {
                let index = thresholds.iter().position(|threshold| threshold == value);
                let index = index.expect("every constant is among the thresholds");
                truths.with(*bit, compare.holds(cell.cmp(&(2 * index + 1))))
            })
        };
        let truths = std::iter::once(Truths::default()).chain((0..cell_count).map(truths_in)).collect();
        let bounds = bounds_between(&thresholds);
        Self { thresholds, mask, truths, bounds }
    }

    /// Adds comparisons that ask whether the source is known at all.
    pub(super) fn ask_known(&mut self, bit: usize) {
        self.mask |= 1 << bit;
        if self.truths.is_empty() {
            self.truths = vec![Truths::default(); 2];
        }
        for (cell, truths) in self.truths.iter_mut().enumerate() {
            *truths = truths.with(bit, cell != usize::from(CELL_UNKNOWN));
        }
    }

    /// The cell in which a value lies.
    pub(super) fn cell_of(&self, value: f64) -> u16 {
        if !value.is_finite() {
            return CELL_UNKNOWN;
        }
        let mut cell = 1;
        for threshold in &self.thresholds {
            cell += u16::from(value > *threshold) + u16::from(value >= *threshold);
        }
        cell
    }

    /// Whether a value certainly lies in this cell still. What lies on a threshold, or is missing, has to be looked up.
    pub(super) fn is_within(&self, cell: u16, value: f64) -> bool {
        self.bounds.get(usize::from(cell)).is_some_and(|(above, below)| value > *above && value < *below)
    }

    /// Puts a cell's truths in place of those of another.
    pub(super) fn put(&self, cell: u16, into: &mut Truths) {
        let Some(truths) = self.truths.get(usize::from(cell)) else { return };
        into.holds = into.holds & !self.mask | truths.holds;
        into.fails = into.fails & !self.mask | truths.fails;
    }
}

/// The bounds of every cell, in order: of the missing value, and then of what lies below, on and above each threshold.
fn bounds_between(thresholds: &[f64]) -> Vec<(f64, f64)> {
    let mut bounds = vec![(f64::NAN, f64::NAN)];
    let mut above = f64::NEG_INFINITY;
    for threshold in thresholds {
        bounds.extend([(above, *threshold), (f64::NAN, f64::NAN)]);
        above = *threshold;
    }
    bounds.push((above, f64::INFINITY));
    bounds
}

impl Truths {
    fn with(self, bit: usize, holds: bool) -> Self {
        let bit: Bits = 1 << bit;
        if holds {
            Self { holds: self.holds | bit, fails: self.fails & !bit }
        } else {
            Self { holds: self.holds & !bit, fails: self.fails | bit }
        }
    }

    /// Sets one comparison.
    pub(super) fn set(&mut self, bit: usize, truth: super::truth::Truth) {
        let mask: Bits = 1 << bit;
        (self.holds, self.fails) = (self.holds & !mask, self.fails & !mask);
        match truth {
            super::truth::Truth::True => self.holds |= mask,
            super::truth::Truth::False => self.fails |= mask,
            super::truth::Truth::Unknown => {}
        }
    }

    /// One comparison.
    pub(super) fn get(&self, bit: u16) -> super::truth::Truth {
        match (self.holds >> bit & 1, self.fails >> bit & 1) {
            (1, _) => super::truth::Truth::True,
            (_, 1) => super::truth::Truth::False,
            _ => super::truth::Truth::Unknown,
        }
    }

    /// What both know together; they know different comparisons.
    pub(super) fn joined(&self, other: &Truths) -> Self {
        Self { holds: self.holds | other.holds, fails: self.fails | other.fails }
    }
}

#[cfg(test)]
mod tests {
    use super::super::truth::Truth;
    use super::*;

    #[test]
    fn cells_agree_with_comparing_one_by_one() {
        use Compare::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let comparisons: Vec<(usize, Compare, f64)> = [0.8, 0.6, 0.8, -1.0, 0.0]
            .iter()
            .flat_map(|value| {
                [Less, LessOrEqual, Greater, GreaterOrEqual, Equal, NotEqual].map(|compare| (compare, *value))
            })
            .enumerate()
            .map(|(bit, (compare, value))| (bit, compare, value))
            .collect();
        let mut cells = Cells::new(&comparisons);
        cells.ask_known(100);
        let mut truths = Truths::default();
        for value in [0.7, f64::NAN, -5.0, -1.0, -0.5, 0.0, 0.3, 0.6, 0.8, 0.9, f64::INFINITY, 0.1] {
            let cell = cells.cell_of(value);
            for other in 0..cells.bounds.len() as u16 {
                assert!(
                    !cells.is_within(other, value) || other == cell,
                    "{value} is within {other} and lies in {cell}"
                );
            }
            let is_clear = value.is_finite() && !cells.thresholds.contains(&value);
            assert_eq!(cells.is_within(cell, value), is_clear, "{value}");
            cells.put(cell, &mut truths);
            for (bit, compare, constant) in &comparisons {
                assert_eq!(truths.get(*bit as u16), compare.of(value, *constant), "{value} {compare:?} {constant}");
            }
            assert_eq!(truths.get(100), Truth::from(value.is_finite()));
        }
    }
}
