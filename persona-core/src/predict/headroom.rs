//! How high a limit has to be: of many bounds on the past, the one that would have served best lately.
//!
//! ```text
//!   values ─► windows ─percentile × margin─► bounds ─held─► what each would have cost ─► the cheapest one's limit
//! ```
//! A bound costs what it leaves unused, much more where a value went over it, and something when it moves. Each is held: it
//! rises at once and sinks only after it was lower for long, so that limits change seldom.

use std::collections::VecDeque;

use super::steps_per_day;

/// What a change of the limit costs, as a share of a limit that is left unused for a step.
const CHANGE_COST: f64 = 2.0;

/// Windows, in quarters of a day.
const WINDOWS: [usize; 4] = [1, 4, 12, 28];

/// Which shares of a window's values a bound is not below.
const SHARES: [f64; 7] = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0];

/// How much more a bound is than that.
const MARGINS: [f64; 3] = [1.0, 1.15, 1.3];

/// A bound that is lower than this share of what is held lets it sink …
const SINK_SHARE: f64 = 0.85;

/// … once that was so for such a part of a day.
const SINK_DIVISOR: usize = 2;

/// After so many days a cost counts half.
const HALF_LIFE_DAYS: f64 = 4.0;

/// Another bound is taken only if it costs less than this share of the one in use.
const BETTER_SHARE: f64 = 0.95;

/// The least limit: what is nothing needs no room, and no share of it can be told.
const LEAST: f64 = 1e-9;

/// A limit that follows a series.
#[derive(Debug, Clone)]
pub struct Headroom {
    windows: Vec<Window>,
    bounds: Vec<Bound>,
    chosen: usize,
    limit: Option<f64>,
    sink_steps: usize,
    fading: f64,
    ceiling: f64,
    overrun_cost: f64,
}

/// The newest values, also in order of size.
#[derive(Debug, Clone)]
struct Window {
    length: usize,
    values: VecDeque<f64>,
    sorted: Vec<f64>,
}

/// One way to bound the next values.
#[derive(Debug, Clone)]
struct Bound {
    window: usize,
    share: f64,
    margin: f64,
    held: f64,
    /// For how many steps it was lower, and how high it was then at most.
    low_steps: usize,
    low_max: f64,
    cost: f64,
}

impl Headroom {
    /// For values `step_s` seconds apart, none of which can be over `ceiling`. A step in which the value is over the limit costs
    /// as much as `overrun_cost` steps in which all of the limit is unused: 3 is thrifty, 11 careful, 15 strict.
    pub fn daily(step_s: u64, ceiling: f64, overrun_cost: f64) -> Self {
        let day = steps_per_day(step_s);
        let window = |quarters: &usize| Window {
            length: (day * quarters / 4).max(1),
            values: VecDeque::new(),
            sorted: Vec::new(),
        };
        let pairs = SHARES.iter().flat_map(|share| MARGINS.iter().map(move |margin| (*share, *margin)));
        let bounds = (0..WINDOWS.len()).flat_map(|window| {
            let bound = move |(share, margin)| Bound {
                window,
                share,
                margin,
                held: 0.0,
                low_steps: 0,
                low_max: 0.0,
                cost: 0.0,
            };
            pairs.clone().map(bound)
        });
        Self {
            windows: WINDOWS.iter().map(window).collect(),
            bounds: bounds.collect(),
            chosen: 0,
            limit: None,
            sink_steps: (day / SINK_DIVISOR).max(1),
            fading: 0.5_f64.powf(1.0 / (HALF_LIFE_DAYS * day as f64)),
            ceiling,
            overrun_cost,
        }
    }

    /// Takes the next value, and says what should be permitted from now on. None: nothing was seen yet.
    pub fn observe(&mut self, value: Option<f64>) -> Option<f64> {
        let Some(value) = value.filter(|value| value.is_finite()) else { return self.limit };
        self.windows.iter_mut().for_each(|window| window.push(value));
        for bound in &mut self.bounds {
            let cost = bound.cost_of(value, self.overrun_cost);
            let wanted = self.windows[bound.window].percentile(bound.share) * bound.margin;
            let is_moved = bound.hold(wanted.clamp(LEAST, self.ceiling), self.sink_steps);
            let cost = cost + if is_moved { CHANGE_COST } else { 0.0 };
            bound.cost = bound.cost * self.fading + cost * (1.0 - self.fading);
        }
        self.choose();
        self.limit = Some(self.bounds[self.chosen].held);
        self.limit
    }

    /// What the limit rests on, for people.
    pub fn explain(&self) -> String {
        let Bound { window, share, margin, .. } = &self.bounds[self.chosen];
        format!(
            "{:.1} % of the values of the last {} hours, and {:.0} % more",
            share * 100.0,
            WINDOWS[*window] * 6,
            (margin - 1.0) * 100.0
        )
    }

    fn choose(&mut self) {
        let cheapest =
            (0..self.bounds.len()).min_by(|one, other| self.bounds[*one].cost.total_cmp(&self.bounds[*other].cost));
        let Some(cheapest) = cheapest else { return };
        if self.bounds[cheapest].cost < self.bounds[self.chosen].cost * BETTER_SHARE {
            self.chosen = cheapest;
        }
    }
}

impl Bound {
    /// What a step with this value costs under what was held until now.
    fn cost_of(&self, value: f64, overrun_cost: f64) -> f64 {
        match self.held {
            held if held <= 0.0 => 0.0,
            held if value > held => overrun_cost,
            held => 1.0 - value.max(0.0) / held,
        }
    }

    /// Holds what is wanted. Returns whether that is another bound.
    fn hold(&mut self, wanted: f64, sink_steps: usize) -> bool {
        let before = self.held;
        if wanted >= before * SINK_SHARE {
            (self.low_steps, self.low_max) = (0, 0.0);
            self.held = before.max(wanted);
        } else {
            (self.low_steps, self.low_max) = (self.low_steps + 1, self.low_max.max(wanted));
            if self.low_steps >= sink_steps {
                (self.held, self.low_steps, self.low_max) = (self.low_max, 0, 0.0);
            }
        }
        self.held != before
    }
}

impl Window {
    fn push(&mut self, value: f64) {
        if self.values.len() == self.length
            && let Some(oldest) = self.values.pop_front()
        {
            let at = self.sorted.partition_point(|known| *known < oldest);
            self.sorted.remove(at);
        }
        self.values.push_back(value);
        let at = self.sorted.partition_point(|known| *known < value);
        self.sorted.insert(at, value);
    }

    /// The least value that this share of all is not above.
    fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_rises_at_once_and_sinks_after_long() {
        let mut model = Headroom::daily(300, 100.0, 12.0);
        assert_eq!(model.observe(None), None);
        let after = |model: &mut Headroom, steps: usize, value: f64| {
            (0..steps).fold(None, |_, _| model.observe(Some(value))).unwrap()
        };
        let calm = after(&mut model, 288 * 3, 20.0);
        assert!((20.0..=26.0).contains(&calm), "{calm}");
        let risen = after(&mut model, 73, 60.0);
        assert!(risen >= 60.0, "{risen}");
        let sunk = after(&mut model, 288 * 8, 20.0);
        assert!(sunk < 27.0, "{sunk}: {}", model.explain());
        assert!(model.explain().contains("% of the values of the last"));
    }

    #[test]
    fn nothing_is_permitted_over_the_ceiling_and_what_is_no_number_is_left_out() {
        let mut model = Headroom::daily(300, 100.0, 15.0);
        for value in [Some(99.0), None, Some(f64::NAN), Some(f64::INFINITY), Some(-5.0), Some(0.0)] {
            let limit = model.observe(value).unwrap();
            assert!(limit > 0.0 && limit <= 100.0, "{value:?}: {limit}");
        }
    }

    #[test]
    fn windows_know_their_percentiles() {
        let mut window = Window { length: 4, values: VecDeque::new(), sorted: Vec::new() };
        [9.0, 1.0, 3.0, 2.0, 4.0].into_iter().for_each(|value| window.push(value));
        assert_eq!([0.25, 0.5, 0.75, 1.0].map(|share| window.percentile(share)), [1.0, 2.0, 3.0, 4.0]);
    }
}
