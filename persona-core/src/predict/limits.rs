//! What a limit that follows a series costs: what it leaves unused, how often the series goes over it, how often it moves.

use std::collections::VecDeque;

use super::{DecayedPercentile, Forecaster, Headroom, steps_per_day};

/// Ways to choose a limit from the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimitRule {
    /// All there is.
    Ceiling,
    /// The largest value of the last day.
    DayMaximum,
    /// A percentile of the past, which counts half after a day, and so much more.
    Percentile {
        /// Which, 0 to 1.
        share: f64,
        /// By what it is multiplied.
        margin: f64,
    },
    /// [`Headroom`].
    Headroom {
        /// What a step over the limit costs, in steps in which all of it is unused.
        overrun_cost: f64,
    },
}

/// What a limit cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LimitCosts {
    /// Steps that were looked at.
    pub step_count: u64,
    /// The mean share of the limit that was unused, in steps in which the value was not over it, of all steps.
    pub unused: f64,
    /// The share of steps in which the value was over it.
    pub over: f64,
    /// How often it changed in a day.
    pub changes_per_day: f64,
}

impl LimitCosts {
    /// What limits cost together, each counting as much as it has steps.
    pub fn together(all: &[Self]) -> Self {
        let step_count: u64 = all.iter().map(|costs| costs.step_count).sum();
        let mean = |of: fn(&Self) -> f64| {
            all.iter().map(|costs| of(costs) * costs.step_count as f64).sum::<f64>() / step_count.max(1) as f64
        };
        Self {
            step_count,
            unused: mean(|it| it.unused),
            over: mean(|it| it.over),
            changes_per_day: mean(|it| it.changes_per_day),
        }
    }
}

/// A limit that is chosen anew after each value, from those so far.
enum Chooser {
    Ceiling,
    Window(VecDeque<f64>, usize),
    Percentile(Box<DecayedPercentile>, f64),
    Headroom(Box<Headroom>),
}

/// Has a limit follow a series with a fixed step, and says what it cost in the last quarter: each limit is chosen before the value
/// that it is for. None is a missing value, which costs nothing.
pub fn limit_costs(values: &[Option<f64>], step_s: u64, ceiling: f64, rule: LimitRule) -> LimitCosts {
    let start = values.len() * 3 / 4;
    let (mut chooser, mut limit) = (Chooser::of(rule, step_s, ceiling), ceiling);
    let (mut step_count, mut unused, mut over_count, mut change_count) = (0_u64, 0.0, 0_u64, 0_u64);
    for (index, value) in values.iter().enumerate() {
        let is_tested = index >= start;
        if let Some(value) = value.filter(|_| is_tested) {
            step_count += 1;
            match value > limit {
                true => over_count += 1,
                false => unused += 1.0 - value.max(0.0) / limit,
            }
        }
        let next = chooser.next(*value).unwrap_or(limit).min(ceiling);
        change_count += u64::from(is_tested && next != limit);
        limit = next;
    }
    let steps = step_count.max(1) as f64;
    let days = steps / steps_per_day(step_s) as f64;
    LimitCosts {
        step_count,
        unused: unused / steps,
        over: over_count as f64 / steps,
        changes_per_day: change_count as f64 / days,
    }
}

impl Chooser {
    fn of(rule: LimitRule, step_s: u64, ceiling: f64) -> Self {
        match rule {
            LimitRule::Ceiling => Self::Ceiling,
            LimitRule::DayMaximum => Self::Window(VecDeque::new(), steps_per_day(step_s)),
            LimitRule::Percentile { share, margin } => {
                Self::Percentile(Box::new(DecayedPercentile::of_share(share, step_s)), margin)
            }
            LimitRule::Headroom { overrun_cost } => {
                Self::Headroom(Box::new(Headroom::daily(step_s, ceiling, overrun_cost)))
            }
        }
    }

    fn next(&mut self, value: Option<f64>) -> Option<f64> {
        match self {
            Self::Ceiling => None,
            Self::Window(window, length) => {
                window.extend(value);
                if window.len() > *length {
                    window.pop_front();
                }
                window.iter().copied().reduce(f64::max)
            }
            Self::Percentile(model, margin) => {
                model.observe(value);
                model.predict(1).map(|forecast| forecast.value * *margin)
            }
            Self::Headroom(model) => model.observe(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [LimitRule; 4] = [
        LimitRule::Ceiling,
        LimitRule::DayMaximum,
        LimitRule::Percentile { share: 0.98, margin: 1.15 },
        LimitRule::Headroom { overrun_cost: 12.0 },
    ];

    /// Four weeks of a daily wave with a peak of its own height every day.
    fn waves() -> Vec<Option<f64>> {
        let peak = |day: usize| 40.0 + (day * 7 % 5) as f64;
        let value = |step: usize| {
            let wave = (step as f64 / 288.0 * std::f64::consts::TAU).sin();
            Some(25.0 + (peak(step / 288) - 25.0) * wave)
        };
        (0..8_000).map(value).collect()
    }

    #[test]
    fn costs_are_those_of_the_last_quarter() {
        let values = [vec![Some(50.0); 750], vec![Some(25.0); 125], vec![None; 125]].concat();
        let costs = limit_costs(&values, 300, 100.0, LimitRule::Ceiling);
        assert_eq!(costs, LimitCosts { step_count: 125, unused: 0.75, over: 0.0, changes_per_day: 0.0 });
        let costs = limit_costs(&values, 300, 100.0, LimitRule::DayMaximum);
        assert_eq!((costs.unused, costs.over), (0.5, 0.0));
        let rising: Vec<_> = (0..400).map(|step| Some(f64::from(step) / 10.0)).collect();
        let costs = limit_costs(&rising, 300, 100.0, LimitRule::DayMaximum);
        assert_eq!((costs.over, costs.changes_per_day.round()), (1.0, 288.0), "it is late each time");
    }

    #[test]
    fn on_daily_waves_headroom_leaves_less_unused_than_all_there_is_and_moves_seldom() {
        let [all, day, percentile, headroom] = RULES.map(|rule| limit_costs(&waves(), 300, 100.0, rule));
        assert!(headroom.unused < 0.75 * all.unused && headroom.over < 0.02, "{headroom:?}");
        assert!(
            headroom.changes_per_day < percentile.changes_per_day.min(day.changes_per_day),
            "{headroom:?} {day:?} {percentile:?}"
        );
        let both = LimitCosts::together(&[all, headroom]);
        assert!((both.unused - all.unused.midpoint(headroom.unused)).abs() < 1e-9 && both.step_count == 4_000);
    }
}
