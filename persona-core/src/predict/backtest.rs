//! Backtests: how far forecasts were from what came, with rolling origin over the last quarter of a series.

use super::Model;

/// Horizons that one backtest may look at.
pub const HORIZON_COUNT_MAX: usize = 16;

/// The share of a series that is only learnt from, in quarters.
const TRAINING_QUARTERS: usize = 3;

/// How good one model was on one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Which model.
    pub model: Model,
    /// Mean absolute error per horizon, in the series' unit. None: no forecast could be compared.
    pub errors: Vec<Option<f64>>,
}

/// Why there is no backtest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BacktestError {
    /// Too short.
    #[error(
        "the series has {count} values: at least {needed} are needed to learn from three quarters of them and test {steps} steps ahead on the last"
    )]
    TooShort {
        /// How many there are.
        count: usize,
        /// How many are needed.
        needed: usize,
        /// The longest horizon, steps.
        steps: usize,
    },
    /// No horizons, or one of zero steps, or too many.
    #[error("write 1 to {HORIZON_COUNT_MAX} horizons of at least one step")]
    Horizons,
}

/// Runs every model over a series with a fixed step; None is a missing value. Horizons are in steps.
pub fn backtest(
    values: &[Option<f64>],
    step_s: u64,
    horizons: &[usize],
    models: &[Model],
) -> Result<Vec<Accuracy>, BacktestError> {
    if horizons.is_empty() || horizons.len() > HORIZON_COUNT_MAX || horizons.contains(&0) {
        return Err(BacktestError::Horizons);
    }
    let longest = horizons.iter().copied().max().unwrap_or(1);
    let needed = 4 * (longest + 1);
    if values.len() < needed {
        return Err(BacktestError::TooShort { count: values.len(), needed, steps: longest });
    }
    Ok(models.iter().map(|model| run(values, step_s, horizons, *model)).collect())
}

fn run(values: &[Option<f64>], step_s: u64, horizons: &[usize], model: Model) -> Accuracy {
    let mut forecaster = model.new_forecaster(step_s);
    let start = values.len() * TRAINING_QUARTERS / 4;
    let mut sums = vec![(0.0, 0_u32); horizons.len()];
    for (index, value) in values.iter().enumerate() {
        forecaster.observe(*value);
        if index < start {
            continue;
        }
        for (sum, steps) in sums.iter_mut().zip(horizons) {
            let truth = values.get(index + steps).copied().flatten();
            if let (Some(truth), Some(forecast)) = (truth, forecaster.predict(*steps)) {
                *sum = (sum.0 + (forecast.value - truth).abs(), sum.1 + 1);
            }
        }
    }
    let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
    Accuracy { model, errors: sums.into_iter().map(mean).collect() }
}

/// The median over several series of one model's error at one horizon. None: no series has one.
pub fn median_accuracy(of_series: &[Vec<Accuracy>], model: Model, horizon: usize) -> Option<f64> {
    let errors = of_series.iter().flatten().filter(|accuracy| accuracy.model == model);
    let mut errors: Vec<f64> = errors.filter_map(|accuracy| accuracy.errors.get(horizon).copied().flatten()).collect();
    errors.sort_by(f64::total_cmp);
    let middle = errors.len() / 2;
    match errors.len() {
        0 => None,
        count if count % 2 == 1 => Some(errors[middle]),
        _ => Some(errors[middle - 1].midpoint(errors[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }

    /// Four weeks of a daily wave, a slow wandering and noise, five minutes apart.
    fn series(seed: u64) -> Vec<Option<f64>> {
        let (mut state, mut wander) = (seed, 0.0);
        let value = |step: usize| {
            wander = 0.98 * wander + 2.0 * noise(&mut state);
            let wave = 10.0 * (step as f64 / 288.0 * std::f64::consts::TAU).sin();
            Some(30.0 + wave + wander + 4.0 * noise(&mut state))
        };
        (0..8_000).map(value).collect()
    }

    #[test]
    fn smoothing_beats_both_baselines_on_waves_that_wander() {
        let all: Vec<Vec<Accuracy>> =
            (1..6).map(|seed| backtest(&series(seed), 300, &[1, 12, 72], &Model::ALL).unwrap()).collect();
        for horizon in [1, 2] {
            let of = |model| median_accuracy(&all, model, horizon).unwrap();
            let best = of(Model::Persistence).min(of(Model::SeasonalNaive));
            assert!(of(Model::Smoothing) < 0.95 * best, "{horizon}: {} against {best}", of(Model::Smoothing));
        }
    }

    #[test]
    fn errors_are_those_of_the_last_quarter() {
        let values: Vec<Option<f64>> = (0..400).map(|step| Some(f64::from(step))).collect();
        let accuracy = backtest(&values, 300, &[1, 5], &[Model::Persistence]).unwrap();
        assert_eq!(accuracy[0].errors, [Some(1.0), Some(5.0)]);
        let missing = vec![None; 400];
        assert_eq!(backtest(&missing, 300, &[1], &[Model::Smoothing]).unwrap()[0].errors, [None]);
        assert!(matches!(
            backtest(&values[..20], 300, &[12], &Model::ALL),
            Err(BacktestError::TooShort { needed: 52, .. })
        ));
        assert_eq!(backtest(&values, 300, &[0], &Model::ALL), Err(BacktestError::Horizons));
    }
}
