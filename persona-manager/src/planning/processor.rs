//! For how many packets each edge's processor has time, from what edges measured. Pure.
//!
//! What a packet costs is the time in interrupts, in which programs carry packets, by the packets that were carried in it. What
//! others on the host take is theirs, and the rest up to what may be in use is for packets.

use std::collections::BTreeMap;

use persona_core::ids::{EdgeName, GroupName};

/// Fewer packets per second don't tell what one costs.
const PACKETS_MIN: f64 = 1_000.0;

/// Nor does a smaller share of the processor.
const SHARE_MIN: f64 = 0.01;

/// What an edge measured, and may use, as shares of its host's processor time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// The edge's group: edges of one are taken for alike where one has measured nothing yet.
    pub group: GroupName,
    /// What may be in use.
    pub most: f64,
    /// What is in use.
    pub busy: f64,
    /// What of it goes into interrupts.
    pub packet_path: f64,
    /// Packets per second that were carried meanwhile.
    pub packets_per_sec: f64,
}

/// Packets per second for which there is time, by edge. An edge is left out while nobody in its group knows what a packet costs.
pub(super) fn room(readings: &BTreeMap<EdgeName, Reading>) -> BTreeMap<EdgeName, u64> {
    let mut dearest: BTreeMap<&GroupName, f64> = BTreeMap::new();
    for reading in readings.values() {
        if let Some(cost) = cost_of(reading) {
            let most = dearest.entry(&reading.group).or_insert(cost);
            *most = most.max(cost);
        }
    }
    let room = |reading: &Reading| {
        let cost = cost_of(reading).or_else(|| dearest.get(&reading.group).copied())?;
        let others = (reading.busy - reading.packet_path).max(0.0);
        Some(rounded_down(((reading.most - others).max(0.0) / cost) as u64))
    };
    readings.iter().filter_map(|(edge, reading)| Some((edge.clone(), room(reading)?))).collect()
}

/// The share of the processor that one packet per second takes.
fn cost_of(reading: &Reading) -> Option<f64> {
    let is_telling = reading.packets_per_sec >= PACKETS_MIN && reading.packet_path >= SHARE_MIN;
    is_telling.then(|| reading.packet_path / reading.packets_per_sec)
}

/// The next lower of steps that are an eighth apart, so that noise makes no plans. Never 0, which is no capacity.
fn rounded_down(packets: u64) -> u64 {
    let step = 1 << packets.max(1).ilog2().saturating_sub(3);
    (packets / step * step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(group: &str, busy: f64, packet_path: f64, packets_per_sec: f64) -> Reading {
        Reading { group: group.parse().unwrap(), most: 0.8, busy, packet_path, packets_per_sec }
    }

    #[test]
    fn room_is_what_others_leave_by_what_a_packet_costs() {
        let readings = [
            // 10 % carry 100,000: 80 % carry 800,000.
            ("plain", reading("a", 0.1, 0.1, 100_000.0), Some(786_432)),
            // 40 % are others', so the 40 % that are left carry four times what 10 % do.
            ("shared", reading("a", 0.5, 0.1, 100_000.0), Some(393_216)),
            ("full", reading("a", 1.0, 0.1, 100_000.0), Some(1)),
            // Nothing measured: the dearest of its group counts, of which no 40 % are somebody else's.
            ("idle", reading("a", 0.0, 0.0, 10.0), Some(786_432)),
            ("dear", reading("b", 0.2, 0.2, 100_000.0), Some(393_216)),
            ("cheap", reading("b", 0.1, 0.1, 100_000.0), Some(786_432)),
            ("idle-beside-dear", reading("b", 0.0, 0.005, 100_000.0), Some(393_216)),
            ("alone", reading("c", 0.9, 0.0, 0.0), None),
        ];
        let name = |text: &str| text.parse::<EdgeName>().unwrap();
        let room = room(&readings.iter().map(|(edge, it, _)| (name(edge), it.clone())).collect());
        for (edge, reading, expected) in readings {
            assert_eq!(room.get(&name(edge)).copied(), expected, "{edge}: {reading:?}");
        }
    }

    #[test]
    fn steps_are_an_eighth_apart() {
        for packets in [1, 7, 8, 1_000, 99_999, 800_000] {
            let rounded = rounded_down(packets);
            assert!(rounded <= packets && rounded * 9 >= packets * 8, "{packets}: {rounded}");
        }
        assert_eq!(rounded_down(0), 1);
    }
}
