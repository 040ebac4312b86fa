//! How a rollout goes: its waves, how long each soaks, and what it takes to go on.

use serde::{Deserialize, Serialize};

use crate::units::{Share, Span};

/// Waves that a rollout may have.
const WAVE_COUNT_MAX: usize = 20;

/// The longest soak: a week, milliseconds.
const SOAK_MS_MAX: u64 = 7 * 86_400_000;

/// What is there before the first wave is measured for a soak's time, and for this at most, milliseconds.
const OBSERVE_MS_MAX: u64 = 60_000;

/// How a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutSpec {
    /// What part of the members each wave leaves moved; the last is all of them.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub waves: Vec<Share>,
    /// How long each wave is watched before the next, such as `5m`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub soak: Span,
    /// What it takes to go on.
    pub gate: Gate,
}

/// How much worse those who were moved may do, than they did before and than those do who were not moved yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gate {
    /// Packets dropped for one reason on their nodes: so much more of all, such as `1%`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub drops: Share,
    /// Probes of their edges that stay unanswered: so much more of all.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub loss: Share,
    /// Of those who send and were answered before, so many may hear nothing.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub unanswered: Share,
    /// After this time, and the soak's, everybody who was moved must have it in force.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub settle: Span,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        let waves = [1, 5, 20, 100].map(percent).to_vec();
        Self { waves, soak: Span(300_000), gate: Gate::default() }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { drops: percent(1), loss: percent(2), unanswered: percent(10), settle: Span(30_000) }
    }
}

fn percent(count: u32) -> Share {
    Share::from_millionths(count * (Share::WHOLE / 100))
}

/// A rollout that could not go as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRollout {
    /// None, or too many.
    #[error("waves has {0} entries; write 1 to {WAVE_COUNT_MAX}")]
    WaveCount(usize),
    /// One that moves nobody, or back.
    #[error("waves[{0}] is not more than the one before: each leaves a larger part moved")]
    NotRising(usize),
    /// Somebody would never be moved.
    #[error("the last of waves is {0}; it has to be 100%, for it leaves everybody moved")]
    NotWhole(Share),
    /// Longer than anybody watches.
    #[error("soak is {0}; write 7d at most")]
    Soak(Span),
}

impl RolloutSpec {
    /// Refuses what could not go as it is written.
    pub fn check(&self) -> Result<(), InvalidRollout> {
        if !(1..=WAVE_COUNT_MAX).contains(&self.waves.len()) {
            return Err(InvalidRollout::WaveCount(self.waves.len()));
        }
        let mut before = Share::default();
        for (index, wave) in self.waves.iter().enumerate() {
            if *wave <= before {
                return Err(InvalidRollout::NotRising(index));
            }
            before = *wave;
        }
        if before.millionths() != Share::WHOLE {
            return Err(InvalidRollout::NotWhole(before));
        }
        if self.soak.0 > SOAK_MS_MAX { Err(InvalidRollout::Soak(self.soak)) } else { Ok(()) }
    }

    /// How long is measured before the first wave, milliseconds.
    pub fn observe_ms(&self) -> u64 {
        self.soak.0.min(OBSERVE_MS_MAX)
    }

    /// When everybody who was moved must have it in force, milliseconds after the move.
    pub fn settle_ms(&self) -> u64 {
        self.soak.0.max(self.gate.settle.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(shares: &[&str]) -> RolloutSpec {
        let waves = shares.iter().map(|share| share.parse().unwrap()).collect();
        RolloutSpec { waves, ..RolloutSpec::default() }
    }

    #[test]
    fn waves_rise_to_the_whole() {
        assert_eq!(RolloutSpec::default().check(), Ok(()));
        for (shares, expected) in [
            (&["100%"][..], Ok(())),
            (&["0.5%", "100%"], Ok(())),
            (&[], Err(InvalidRollout::WaveCount(0))),
            (&["0%", "100%"], Err(InvalidRollout::NotRising(0))),
            (&["20%", "20%", "100%"], Err(InvalidRollout::NotRising(1))),
            (&["20%", "99%"], Err(InvalidRollout::NotWhole("99%".parse().unwrap()))),
        ] {
            assert_eq!(waves(shares).check(), expected, "{shares:?}");
        }
        let long = RolloutSpec { soak: "8d".parse().unwrap(), ..RolloutSpec::default() };
        assert_eq!(long.check().unwrap_err().to_string(), "soak is 8d; write 7d at most");
    }

    #[test]
    fn what_is_left_out_is_as_by_default() {
        let read: RolloutSpec = serde_json::from_str(r#"{ "soak": "2m", "gate": { "drops": "3%" } }"#).unwrap();
        assert_eq!((read.waves.len(), read.soak, read.gate.loss), (4, Span(120_000), percent(2)));
        assert!(serde_json::from_str::<RolloutSpec>(r#"{ "soaks": "2m" }"#).is_err());
    }
}
