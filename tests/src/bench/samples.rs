//! What was measured again and again, and its median, minimum and spread.

use serde::Serialize;

/// Measured values of one quantity, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// All of them.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle one; of an even number, the mean of the two in the middle. NaN where there is none.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        }
    }

    /// The smallest. NaN where there is none.
    pub fn minimum(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    /// The distance between the quartiles: what the middle half of them lies in.
    pub fn spread(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            count => sorted[count * 3 / 4] - sorted[count / 4],
        }
    }

    /// Each minus the one of `other` that was measured in the same round.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, other)| own - other).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_move_neither_median_nor_spread() {
        let samples = Samples::from_iter([5.0, 3.0, 4.0, 900.0, 4.5, 3.5, 4.2]);
        assert_eq!((samples.median(), samples.minimum()), (4.2, 3.0));
        assert!((samples.spread() - 1.5).abs() < 1e-9, "{}", samples.spread());
        assert_eq!(Samples::from_iter([1.0, 2.0]).median(), 1.5);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn differences_are_of_the_same_round() {
        let net = Samples::from_iter([30.0, 40.0]).minus(&Samples::from_iter([10.0, 15.0]));
        assert_eq!(net, Samples::from_iter([20.0, 25.0]));
    }
}
