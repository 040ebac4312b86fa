//! What an edge carries beside what it can carry: its load, and how full that makes it.

use serde::{Deserialize, Serialize};

use super::agent::EdgeCapacity;

/// What an edge carries now, as it measures it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EdgeLoad {
    /// Bits per second of inner IP bytes, both directions together.
    pub bits_per_sec: u64,
    /// Packets per second, both directions together.
    pub packets_per_sec: u64,
    /// Packets per second that it drops.
    pub drops_per_sec: u64,
    /// Leases that its group holds; each of its edges carries all of them.
    pub lease_count: u32,
    /// Share of its host's processor time that is in use, 0 to 1. Absent: it did not say.
    pub cpu_share: Option<f32>,
    /// How full it is by its fullest dimension, 1 is full. Absent: it did not state what it can carry.
    pub fullness: Option<f64>,
    /// Which dimension that is. Absent: it carries nothing.
    pub fullest: Option<String>,
}

impl EdgeLoad {
    /// The same, with how full that makes an edge of this capacity.
    pub fn measured_by(mut self, capacity: Option<&EdgeCapacity>) -> Self {
        let Some(capacity) = capacity else { return self };
        let part = |carried: u64, most: Option<u64>| match most {
            Some(most) if most > 0 => carried as f64 / most as f64,
            _ => 0.0,
        };
        let parts = [
            ("bits per second", part(self.bits_per_sec, Some(capacity.bits_per_sec))),
            ("packets per second", part(self.packets_per_sec, capacity.packets_per_sec)),
            ("leases", part(self.lease_count.into(), Some(capacity.lease_count.into()))),
            ("processor", self.cpu_share.zip(capacity.cpu_percent).map_or(0.0, |(used, most)| of_percent(used, most))),
        ];
        let (name, fullness) = parts.into_iter().fold(("", 0.0), |most, it| if it.1 > most.1 { it } else { most });
        self.fullness = Some(fullness);
        self.fullest = (fullness > 0.0).then(|| name.to_owned());
        self
    }
}

/// What a share in use is of so many percent.
fn of_percent(used: f32, most: u8) -> f64 {
    if most == 0 { 0.0 } else { f64::from(used) * 100.0 / f64::from(most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_dimension_decides_and_what_has_no_limit_does_not() {
        let capacity = |packets_per_sec| EdgeCapacity {
            bits_per_sec: 1_000,
            lease_count: 10,
            packets_per_sec,
            flow_count: None,
            cpu_percent: Some(80),
        };
        let load = |bits_per_sec, packets_per_sec, lease_count| EdgeLoad {
            bits_per_sec,
            packets_per_sec,
            lease_count,
            ..EdgeLoad::default()
        };
        for (load, capacity, fullness, fullest) in [
            (load(500, 0, 1), Some(capacity(None)), Some(0.5), Some("bits per second")),
            (load(500, 90, 1), Some(capacity(Some(100))), Some(0.9), Some("packets per second")),
            (load(500, 90, 12), Some(capacity(None)), Some(1.2), Some("leases")),
            (load(0, 0, 0), Some(capacity(None)), Some(0.0), None),
            (
                EdgeLoad { cpu_share: Some(0.5), ..load(500, 0, 1) },
                Some(capacity(None)),
                Some(0.625),
                Some("processor"),
            ),
            (load(500, 90, 12), None, None, None),
        ] {
            let measured = load.measured_by(capacity.as_ref());
            assert_eq!((measured.fullness, measured.fullest.as_deref()), (fullness, fullest), "{measured:?}");
        }
    }
}
