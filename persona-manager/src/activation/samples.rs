//! What nodes measured, read into names and values, and the newest of it for people.

use persona_core::ids::{NodeName, SubjectId};
use persona_core::signal::SignalName;
use persona_core::wire::signals::SampleBatch;

/// What was measured of a subject at one time.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// When, milliseconds of the steady clock.
    pub(super) at_ms: u64,
    /// Signal and value.
    pub(super) values: Vec<(SignalName, f64)>,
}

/// A batch as rows of named values. What only a newer release measures is left out.
pub(super) fn rows_of(node: &NodeName, batch: &SampleBatch, now_ms: u64) -> Vec<(SubjectId, Measured)> {
    let at_ms = now_ms.saturating_sub(batch.age_ms.into());
    let names: Vec<Option<SignalName>> = batch.signals.iter().map(|name| name.parse().ok()).collect();
    let rows = batch.rows.iter().map(|row| {
        let subject = match &row.workload {
            None => SubjectId::Node(node.clone()),
            Some(workload) => SubjectId::Workload(node.clone(), workload.clone()),
        };
        let known = names.iter().zip(&row.values);
        let values = known.filter_map(|(name, value)| Some((name.clone()?, f64::from((*value)?)))).collect();
        (subject, Measured { at_ms, values })
    });
    rows.collect()
}

/// The same values as signals of the host of some subject.
pub(super) fn of_host(measured: &Measured) -> Measured {
    let of_host = |(name, value): &(SignalName, f64)| Some((format!("host.{name}").parse().ok()?, *value));
    Measured { at_ms: measured.at_ms, values: measured.values.iter().filter_map(of_host).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_named_values_and_what_is_missing_stays_so() {
        let batch: SampleBatch = serde_json::from_value(serde_json::json!({
            "ageMs": 300, "signals": ["cpu.usage", "weather.rain", "memory.bytes"],
            "rows": [{ "values": [0.5, 1.0, null] }, { "workload": "web", "values": [null, null, 7.0] }],
        }))
        .unwrap();
        let rows = rows_of(&"n1".parse().unwrap(), &batch, 1_000);
        let told: Vec<_> = rows.iter().map(|(subject, it)| format!("{subject} {} {:?}", it.at_ms, it.values)).collect();
        assert_eq!(told[0], r#"node/n1 700 [(SignalName("cpu.usage"), 0.5)]"#);
        assert_eq!(told[1], r#"workload/n1/web 700 [(SignalName("memory.bytes"), 7.0)]"#);
        assert_eq!(of_host(&rows[0].1).values[0].0.as_str(), "host.cpu.usage");
    }
}
