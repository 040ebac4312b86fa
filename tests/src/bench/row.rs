//! One line of the report: what ours took, what the peer took, and whether that reaches the goal.

use serde::Serialize;
use serde_json::{Value, json};

use super::samples::Samples;

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Costs.
    Less,
    /// Rates.
    More,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Nothing in particular: the row stands for comparison.
    None,
    /// At most so much.
    AtMost(f64),
    /// At most so much in every round, not only in the middle one.
    NeverMoreThan(f64),
    /// At least so much.
    AtLeast(f64),
    /// So many times as good as the peer.
    TimesPeer(f64),
}

/// A quantity of ours, beside the peer's.
#[derive(Debug, Clone)]
pub struct Row {
    /// Measure and case, such as `edge-out/leases-1000`.
    pub name: String,
    /// The unit of all values.
    pub unit: &'static str,
    better: Better,
    ours: Samples,
    peer: Option<(&'static str, Samples)>,
    goal: Goal,
}

impl Row {
    /// A row without a peer and without a goal.
    pub fn new(name: impl Into<String>, unit: &'static str, better: Better, ours: Samples) -> Self {
        Self { name: name.into(), unit, better, ours, peer: None, goal: Goal::None }
    }

    /// With what somebody else took in the same rounds.
    pub fn beside(mut self, peer_name: &'static str, peer: Samples) -> Self {
        self.peer = Some((peer_name, peer));
        self
    }

    /// With what is to be reached.
    pub fn reach(mut self, goal: Goal) -> Self {
        self.goal = goal;
        self
    }

    /// The median of ours.
    pub fn ours(&self) -> f64 {
        self.ours.median()
    }

    /// How many times as good as the peer's median ours is.
    pub fn ratio(&self) -> Option<f64> {
        let (_, peer) = self.peer.as_ref()?;
        let (ours, peer) = (self.ours.median(), peer.median());
        if ours == peer {
            return Some(1.0);
        }
        Some(match self.better {
            Better::Less => peer / ours,
            Better::More => ours / peer,
        })
    }

    /// Whether the goal is reached; None where there is none.
    pub fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::None => None,
            Goal::AtMost(most) => Some(self.ours() <= most),
            Goal::NeverMoreThan(most) => Some(self.ours.values().iter().all(|value| *value <= most)),
            Goal::AtLeast(least) => Some(self.ours() >= least),
            Goal::TimesPeer(times) => Some(self.ratio().is_some_and(|ratio| ratio >= times)),
        }
    }

    /// As it stands in the report.
    pub fn to_json(&self, rounds: u32, machine: &str) -> Value {
        let peer = self.peer.as_ref();
        json!({
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "ours": rounded(self.ours()),
            "minimum": rounded(self.ours.minimum()),
            "spread": rounded(self.ours.spread()),
            "peer": peer.map(|(_, samples)| rounded(samples.median())),
            "peer_name": peer.map(|(name, _)| *name),
            "ratio": self.ratio().map(rounded),
            "goal": self.goal_text(),
            "met": self.is_met(),
            "rounds": rounds,
            "machine": machine,
            "samples": {
                "ours": self.ours.values().iter().copied().map(rounded).collect::<Vec<_>>(),
                "peer": peer.map(|(_, samples)| samples.values().iter().copied().map(rounded).collect::<Vec<_>>()),
            },
        })
    }

    fn goal_text(&self) -> Option<String> {
        match self.goal {
            Goal::None => None,
            Goal::AtMost(most) => Some(format!("at most {most} {}", self.unit)),
            Goal::NeverMoreThan(most) => Some(format!("never more than {most} {}", self.unit)),
            Goal::AtLeast(least) => Some(format!("at least {least} {}", self.unit)),
            Goal::TimesPeer(times) => Some(format!("at least {times} times the peer")),
        }
    }
}

/// Three decimals: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(value: f64) -> Samples {
        Samples::from_iter([value; 3])
    }

    #[test]
    fn more_than_one_means_better_than_the_peer() {
        let cost = Row::new("cost", "ns", Better::Less, samples(50.0)).beside("kernel", samples(200.0));
        let rate = Row::new("rate", "Mbit/s", Better::More, samples(50.0)).beside("kernel", samples(200.0));
        assert_eq!((cost.ratio(), rate.ratio()), (Some(4.0), Some(0.25)));
    }

    #[test]
    fn goals_are_judged_by_the_median() {
        for (goal, met) in [
            (Goal::None, None),
            (Goal::AtMost(50.0), Some(true)),
            (Goal::AtMost(49.0), Some(false)),
            (Goal::AtLeast(51.0), Some(false)),
            (Goal::TimesPeer(4.0), Some(true)),
            (Goal::TimesPeer(4.1), Some(false)),
        ] {
            let row = Row::new("cost", "ns", Better::Less, samples(50.0)).beside("kernel", samples(200.0)).reach(goal);
            assert_eq!(row.is_met(), met, "{goal:?}");
        }
        let mostly = Samples::from_iter([0.0, 1.0, 0.0]);
        for (goal, met) in
            [(Goal::AtMost(0.0), true), (Goal::NeverMoreThan(0.0), false), (Goal::NeverMoreThan(1.0), true)]
        {
            let row = Row::new("dropped", "packets", Better::Less, mostly.clone()).reach(goal);
            assert_eq!(row.is_met(), Some(met), "{goal:?}");
        }
    }
}
