//! The safe order: desired knobs minus observed knobs gives actions.
//!
//! What can fail or do harm comes first, so that giving up has changed nothing else: memory that shrinks. Memory never
//! shrinks under what is in use, because the kernel would then kill (v2) or refuse (v1):
//!
//! ```text
//!   v2   memory.high = below the new maximum → wait until usage fits and nobody asks for more
//!        → memory.max → memory.high as wanted
//!   v1   let nobody be killed → limit (the kernel refuses if it cannot reclaim) → wait that nobody asks for more
//!        → killing as it was
//! ```

use super::knob::{Knob, Knobs, amount, names};

/// What v2 keeps free while usage is made to fit: this share of the new maximum, as a divisor, and so many bytes more.
///
/// Who is over `memory.high` by a share `o` sleeps 64·o² s for each 128 KiB that he takes, at most 2 s (`calculate_high_delay`
/// in mm/memcontrol.c), so that one thread takes seconds for what is kept free, whatever the maximum: between the last
/// look and the write of the maximum nobody gets there.
const SLACK_DIVISOR: u64 = 32;
const SLACK_BYTES: u64 = 2 << 20;

/// The share of `memory.high` above it, as a divisor, from which on usage counts as more than it. The kernel lets who is over by less than an
/// eightieth go on without a sleep: so far above it is who frees as he goes, or a cache that is being cut; farther, who needs more.
const OVER_DIVISOR: u64 = 128;

/// Bytes to which the slack is rounded.
const PAGE_BYTES: u64 = 4_096;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sets a knob.
    Write {
        /// Which.
        knob: Knob,
        /// To what.
        value: String,
    },
    /// Waits until the memory in use fits, and stays so for a while.
    Fit {
        /// Into how much, bytes.
        bytes: u64,
    },
    /// Waits for a while in which no process waits for memory.
    Endure,
}

/// What leads from `observed` to `wanted`. Knobs that are not wanted are left alone.
pub fn plan(observed: &Knobs, wanted: &Knobs) -> Vec<Action> {
    let mut plan = Plan { observed, wanted, actions: Vec::new() };
    plan.memory_v2();
    plan.memory_v1();
    plan.quota_v1();
    let ordered = [
        names::MEMORY_MAX,
        names::MEMORY_HIGH,
        names::MEMORY_LIMIT,
        names::MEMORY_AND_SWAP,
        names::OOM_CONTROL,
        names::CFS_QUOTA,
        names::CFS_PERIOD,
    ];
    // A balloon is memory that shrinks, too; it takes its own time and fails by itself.
    plan.write_if_other(names::BALLOON);
    let rest = wanted.keys().filter(|knob| !ordered.contains(&knob.as_str()) && knob.as_str() != names::BALLOON);
    rest.for_each(|knob| plan.write_if_other(knob.as_str()));
    plan.actions
}

struct Plan<'a> {
    observed: &'a Knobs,
    wanted: &'a Knobs,
    actions: Vec<Action>,
}

impl Plan<'_> {
    fn now(&self, name: &str) -> Option<&str> {
        self.observed.get(&Knob::new(name)).map(String::as_str)
    }

    /// What a knob shall be in the end: as wanted, else as it is.
    fn then(&self, name: &str) -> Option<&str> {
        self.wanted.get(&Knob::new(name)).map(String::as_str).or_else(|| self.now(name))
    }

    fn write(&mut self, name: &str, value: impl ToString) {
        self.actions.push(Action::Write { knob: Knob::new(name), value: value.to_string() });
    }

    fn write_if_other(&mut self, name: &str) {
        if let Some(then) = self.then(name).filter(|then| self.now(name) != Some(*then)).map(str::to_owned) {
            self.write(name, then);
        }
    }

    fn is_lowered(&self, name: &str) -> bool {
        let (now, then) = (self.now(name).and_then(amount), self.then(name).and_then(amount));
        now.zip(then).is_some_and(|(now, then)| then < now)
    }

    fn memory_v2(&mut self) {
        let max = self.then(names::MEMORY_MAX).and_then(amount).filter(|_| self.is_lowered(names::MEMORY_MAX));
        let Some(max) = max else {
            self.write_if_other(names::MEMORY_MAX);
            return self.write_if_other(names::MEMORY_HIGH);
        };
        let guard = max - slack(max);
        let high = self.now(names::MEMORY_HIGH).map(str::to_owned);
        // A lower one that goes up afterwards would hide what is needed until then.
        let is_raised = |high| self.then(names::MEMORY_HIGH).and_then(amount).is_some_and(|then| then > high);
        let is_held = high.as_deref().and_then(amount).is_some_and(|high| high > guard || is_raised(high));
        if is_held && high.as_deref() != Some(guard.to_string().as_str()) {
            self.write(names::MEMORY_HIGH, guard);
        }
        self.actions.push(Action::Fit { bytes: guard + guard / OVER_DIVISOR });
        self.write_if_other(names::MEMORY_MAX);
        let high_then = self.then(names::MEMORY_HIGH).map(str::to_owned);
        let in_force = if is_held { Some(guard.to_string()) } else { high };
        if let Some(then) = high_then.filter(|then| Some(then) != in_force.as_ref()) {
            self.write(names::MEMORY_HIGH, then);
        }
    }

    fn memory_v1(&mut self) {
        let lowered = [names::MEMORY_LIMIT, names::MEMORY_AND_SWAP].map(|name| self.is_lowered(name));
        let is_guarded = lowered.contains(&true) && self.now(names::OOM_CONTROL) == Some("0");
        if is_guarded {
            self.write(names::OOM_CONTROL, 1);
        }
        // The limit may never be above that of memory and swap together, not even between two writes.
        if lowered[0] || lowered[1] {
            self.write_if_other(names::MEMORY_LIMIT);
            self.write_if_other(names::MEMORY_AND_SWAP);
        } else {
            self.write_if_other(names::MEMORY_AND_SWAP);
            self.write_if_other(names::MEMORY_LIMIT);
        }
        if is_guarded {
            self.actions.push(Action::Endure);
            let then = self.then(names::OOM_CONTROL).unwrap_or("0").to_owned();
            self.write(names::OOM_CONTROL, then);
        } else {
            self.write_if_other(names::OOM_CONTROL);
        }
    }

    /// Between the two writes the share of time may only be less than before and after, or a parent would refuse it.
    fn quota_v1(&mut self) {
        let period = |value: Option<&str>| value.and_then(amount).unwrap_or(0);
        let is_longer = period(self.then(names::CFS_PERIOD)) > period(self.now(names::CFS_PERIOD));
        let order =
            if is_longer { [names::CFS_PERIOD, names::CFS_QUOTA] } else { [names::CFS_QUOTA, names::CFS_PERIOD] };
        order.into_iter().for_each(|name| self.write_if_other(name));
    }
}

fn slack(max: u64) -> u64 {
    let slack = (max / SLACK_DIVISOR + SLACK_BYTES).min(max / 2);
    slack.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn knobs(pairs: &[(&str, &str)]) -> Knobs {
        pairs.iter().map(|(name, value)| (Knob::new(name), (*value).to_owned())).collect()
    }

    fn told(observed: &[(&str, &str)], wanted: &[(&str, &str)]) -> Vec<String> {
        let tell = |action| match action {
            Action::Write { knob, value } => format!("{knob} {value}"),
            Action::Fit { bytes } => format!("fit {bytes}"),
            Action::Endure => "endure".to_owned(),
        };
        plan(&knobs(observed), &knobs(wanted)).into_iter().map(tell).collect()
    }

    #[test]
    fn what_is_as_wanted_is_not_written() {
        let same = [("cpu.weight", "100"), ("memory.max", "max"), ("pids.max", "5")];
        assert!(told(&same, &same).is_empty());
        assert_eq!(told(&same, &[("pids.max", "7")]), ["pids.max 7"]);
    }

    #[test]
    fn version_2_shrinks_behind_memory_high() {
        let max = (64 * MIB).to_string();
        let before = [("cpu.weight", "100"), ("memory.high", "max"), ("memory.max", "max")];
        let wanted = [("cpu.weight", "200"), ("memory.max", max.as_str())];
        assert_eq!(
            told(&before, &wanted),
            ["memory.high 62914560", "fit 63406080", "memory.max 67108864", "memory.high max", "cpu.weight 200"]
        );
        let high = [("memory.high", "1048576"), ("memory.max", "max")];
        assert_eq!(told(&high, &[("memory.max", &max)]), ["fit 63406080", "memory.max 67108864"]);
        let both = [("memory.high", "62914560"), ("memory.max", max.as_str())];
        assert_eq!(told(&before[1..], &both), ["memory.high 62914560", "fit 63406080", "memory.max 67108864"]);
        let raised = [("memory.high", "62914560"), ("memory.max", max.as_str())];
        let expected = ["memory.high 62914560", "fit 63406080", "memory.max 67108864"];
        assert_eq!(told(&high, &raised), expected, "a lower one would hide what is needed");
        assert_eq!(told(&both, &before[1..]), ["memory.max max", "memory.high max"], "growing needs no care");
    }

    #[test]
    fn version_1_shrinks_while_nobody_can_be_killed() {
        let (oom, limit, both) =
            ("memory.oom_control@oom_kill_disable", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        let before = [(oom, "0"), (limit, "200"), (both, "300")];
        let expected = [format!("{oom} 1"), format!("{limit} 100"), "endure".into(), format!("{oom} 0")];
        assert_eq!(told(&before, &[(limit, "100")]), expected);
        assert_eq!(told(&before, &[(limit, "400"), (both, "500")]), [format!("{both} 500"), format!("{limit} 400")]);
        let waiting = [(oom, "1"), (limit, "200")];
        assert_eq!(told(&waiting, &[(limit, "100")]), [format!("{limit} 100")], "who waits already goes on waiting");
    }

    #[test]
    fn whatever_the_maximum_growth_through_what_is_kept_free_takes_longer_than_a_look_and_a_write() {
        // `calculate_high_delay`, for one thread, with the least sleep that the kernel bothers with.
        let slept_secs = |high: f64, usage: f64| match 64.0 * ((usage - high) / high).powi(2) {
            secs if secs <= 0.01 => 0.0,
            secs => secs.min(2.0),
        };
        for max in [4 * MIB, 8 * MIB, 32 * MIB, 128 * MIB, 512 * MIB, 8 << 30, 1 << 36] {
            let high = max - slack(max);
            let usages = (high..max).step_by(128 << 10);
            let secs: f64 = usages.map(|usage| slept_secs(high as f64, usage as f64)).sum();
            assert!(secs > 2.0, "{max}: {secs} s");
        }
    }

    #[test]
    fn a_longer_period_comes_first_and_a_shorter_one_last() {
        let (quota, period) = ("cpu.cfs_quota_us", "cpu.cfs_period_us");
        let (long, short) = ([(quota, "1000"), (period, "1000000")], [(quota, "50000"), (period, "100000")]);
        assert_eq!(told(&short, &long), [format!("{period} 1000000"), format!("{quota} 1000")]);
        assert_eq!(told(&long, &short), [format!("{quota} 50000"), format!("{period} 100000")]);
    }

    fn memory() -> impl Strategy<Value = String> {
        prop_oneof![(1_u64..512).prop_map(|mib| (mib * MIB).to_string()), Just("max".to_owned())]
    }

    proptest! {
        /// Whatever is between two states: v1's pair stays in order, a maximum of v2 is lowered only after usage was made
        /// to fit below it, and in the end every knob is as wanted.
        #[test]
        fn every_order_is_safe(now in [memory(), memory(), memory(), memory()], then in [memory(), memory(), memory(), memory()]) {
            let names = [names::MEMORY_MAX, names::MEMORY_HIGH, names::MEMORY_LIMIT, names::MEMORY_AND_SWAP];
            let state = |values: &[String; 4]| {
                let mut values = values.clone();
                if amount(&values[2]) > amount(&values[3]) {
                    values.swap(2, 3);
                }
                let mut knobs: Knobs = names.iter().map(|name| Knob::new(name)).zip(values).collect();
                knobs.insert(Knob::new(names::OOM_CONTROL), "0".to_owned());
                knobs
            };
            let (mut knobs, wanted) = (state(&now), state(&then));
            let mut fits = u64::MAX;
            for action in plan(&knobs, &wanted) {
                match action {
                    Action::Fit { bytes } => fits = bytes,
                    Action::Endure => prop_assert_eq!(&knobs[&Knob::new(names::OOM_CONTROL)], "1"),
                    Action::Write { knob, value } => {
                        let lowers = amount(&value) < amount(&knobs[&knob]);
                        if lowers && knob.as_str() == names::MEMORY_MAX {
                            prop_assert!(fits < amount(&value).unwrap());
                        }
                        if lowers && knob.as_str() == names::MEMORY_LIMIT {
                            prop_assert_eq!(&knobs[&Knob::new(names::OOM_CONTROL)], "1");
                        }
                        knobs.insert(knob, value);
                    }
                }
                let of = |name: &str| amount(&knobs[&Knob::new(name)]);
                prop_assert!(of(names::MEMORY_LIMIT) <= of(names::MEMORY_AND_SWAP));
            }
            prop_assert_eq!(knobs, wanted);
        }
    }
}
