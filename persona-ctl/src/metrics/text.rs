//! What a role knows, as metrics. Names follow the OpenMetrics conventions: counters end in `_total`, units come last.

use std::collections::BTreeMap;

use persona_core::wire::agent::Traffic;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Everything that is shown, as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Drop reason → packets.
    pub drops: BTreeMap<String, u64>,
    /// Per subject that lives here.
    pub subjects: Vec<SubjectSample>,
    /// Per persona, by VNI.
    pub personas: BTreeMap<u32, Traffic>,
    /// Per edge that is probed.
    pub edges: Vec<EdgeSample>,
    /// Per lease that is held here.
    pub leases: Vec<LeaseSample>,
    /// What user space did for the programs: cut, waited, released, expired … → packets.
    pub slow_path: BTreeMap<String, u64>,
    /// The generation in force, as a number.
    pub generation: u64,
    /// Whether the newest generation was refused.
    pub is_rejected: bool,
}

/// What one subject sent and received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectSample {
    /// Who, such as `workload/n1/web`.
    pub subject: String,
    /// Its traffic.
    pub traffic: Traffic,
}

/// What probes say of one edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSample {
    /// Its name.
    pub edge: String,
    /// Whether it answers.
    pub alive: bool,
    /// Smoothed round-trip time, seconds.
    pub rtt_secs: Option<f64>,
    /// Mean deviation of the round-trip time, seconds.
    pub jitter_secs: Option<f64>,
    /// Share of probes without answer, 0 to 1.
    pub loss: f64,
}

/// How full one lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSample {
    /// Its id.
    pub lease: u64,
    /// Ports in use, over all protocols.
    pub live_slot_count: u32,
    /// Ports there are, over all protocols.
    pub slot_count: u32,
    /// Flows under a port that is shared.
    pub shared_port_count: u32,
}

type Labels = Vec<(&'static str, String)>;

/// One family: the same metric under several labels.
struct Family<T> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: Vec<(Labels, T)>,
}

/// The text that a scrape gets.
pub fn render(snapshot: &Snapshot) -> String {
    let mut registry = Registry::with_prefix("persona");
    registry.register_collector(Box::new(Collector(snapshot.clone())));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes whatever is written");
    out
}

#[derive(Debug)]
struct Collector(Snapshot);

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in counters(&self.0) {
            family.encode(&mut encoder, |value, encoder| ConstCounter::new(value).encode(encoder))?;
        }
        for family in gauges(&self.0) {
            family.encode(&mut encoder, |value, encoder| ConstGauge::new(value).encode(encoder))?;
        }
        Ok(())
    }
}

impl<T: Copy> Family<T> {
    fn encode(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        write: impl Fn(T, MetricEncoder<'_>) -> Result<(), std::fmt::Error>,
    ) -> Result<(), std::fmt::Error> {
        // A family without samples is left out: an empty one tells nothing.
        let Some(first) = self.samples.first() else { return Ok(()) };
        let kind = metric_type(self.name);
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        if first.0.is_empty() {
            return write(first.1, metric);
        }
        for (labels, value) in &self.samples {
            write(*value, metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// Gauges and counters are told apart by the list they stand in.
fn metric_type(name: &str) -> prometheus_client::metrics::MetricType {
    if COUNTER_NAMES.contains(&name) {
        prometheus_client::metrics::MetricType::Counter
    } else {
        prometheus_client::metrics::MetricType::Gauge
    }
}

const COUNTER_NAMES: [&str; 6] =
    ["drops", "subject_packets", "subject_inner", "persona_packets", "persona_inner", "slow_path_packets"];

fn counters(snapshot: &Snapshot) -> Vec<Family<u64>> {
    let subjects = snapshot.subjects.iter().map(|it| (("subject", it.subject.clone()), it.traffic));
    let personas = snapshot.personas.iter().map(|(vni, traffic)| (("vni", vni.to_string()), *traffic));
    let named = |key: &'static str, values: &BTreeMap<String, u64>| {
        values.iter().map(|(name, count)| (vec![(key, name.clone())], *count)).collect()
    };
    vec![
        Family {
            name: "drops",
            help: "Packets dropped, by reason",
            unit: None,
            samples: named("reason", &snapshot.drops),
        },
        Family {
            name: "subject_packets",
            help: "Packets of a subject",
            unit: None,
            samples: subjects.clone().flat_map(packets).collect(),
        },
        Family {
            name: "subject_inner",
            help: "Inner IP bytes of a subject",
            unit: Some(Unit::Bytes),
            samples: subjects.flat_map(bytes).collect(),
        },
        Family {
            name: "persona_packets",
            help: "Packets of a persona's wearers",
            unit: None,
            samples: personas.clone().flat_map(packets).collect(),
        },
        Family {
            name: "persona_inner",
            help: "Inner IP bytes of a persona's wearers",
            unit: Some(Unit::Bytes),
            samples: personas.flat_map(bytes).collect(),
        },
        Family {
            name: "slow_path_packets",
            help: "Packets that user space cut, held or sent for the programs",
            unit: None,
            samples: named("outcome", &snapshot.slow_path),
        },
    ]
}

fn gauges(snapshot: &Snapshot) -> Vec<Family<f64>> {
    let edge = |value: fn(&EdgeSample) -> Option<f64>| {
        let labelled = snapshot.edges.iter().filter_map(move |it| Some((vec![("edge", it.edge.clone())], value(it)?)));
        labelled.collect::<Vec<_>>()
    };
    let lease = |value: fn(&LeaseSample) -> u32| {
        let labelled = snapshot.leases.iter().map(move |it| (vec![("lease", it.lease.to_string())], value(it).into()));
        labelled.collect::<Vec<_>>()
    };
    let gauge = |name, help, unit, samples| Family { name, help, unit, samples };
    vec![
        gauge("edge_alive", "Whether an edge answers probes", None, edge(|it| Some(f64::from(u8::from(it.alive))))),
        gauge("edge_rtt", "Smoothed round-trip time to an edge", Some(Unit::Seconds), edge(|it| it.rtt_secs)),
        gauge("edge_jitter", "Deviation of the round-trip time", Some(Unit::Seconds), edge(|it| it.jitter_secs)),
        gauge("edge_loss", "Share of probes without answer", Some(Unit::Ratios), edge(|it| Some(it.loss))),
        gauge("lease_live_ports", "Ports of a lease in use", None, lease(|it| it.live_slot_count)),
        gauge("lease_ports", "Ports of a lease", None, lease(|it| it.slot_count)),
        gauge("lease_shared_flows", "Flows under a shared port", None, lease(|it| it.shared_port_count)),
        gauge("generation", "The generation in force", None, vec![(Vec::new(), snapshot.generation as f64)]),
        gauge(
            "rejected",
            "Whether the newest generation was refused",
            None,
            vec![(Vec::new(), f64::from(u8::from(snapshot.is_rejected)))],
        ),
    ]
}

fn packets((label, traffic): ((&'static str, String), Traffic)) -> [(Labels, u64); 2] {
    both_ways(label, traffic.egress_packets, traffic.ingress_packets)
}

fn bytes((label, traffic): ((&'static str, String), Traffic)) -> [(Labels, u64); 2] {
    both_ways(label, traffic.egress_bytes, traffic.ingress_bytes)
}

fn both_ways(label: (&'static str, String), egress: u64, ingress: u64) -> [(Labels, u64); 2] {
    let way = |name: &str| vec![label.clone(), ("direction", name.to_owned())];
    [(way("egress"), egress), (way("ingress"), ingress)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_tells_everything_under_its_labels() {
        let traffic = Traffic { egress_packets: 1, egress_bytes: 100, ingress_packets: 2, ingress_bytes: 200 };
        let snapshot = Snapshot {
            drops: [("no-edge".to_owned(), 3)].into(),
            subjects: vec![SubjectSample { subject: "workload/n1/web".into(), traffic }],
            personas: [(42, traffic)].into(),
            edges: vec![EdgeSample {
                edge: "e1".into(),
                alive: true,
                rtt_secs: Some(0.001),
                jitter_secs: None,
                loss: 0.25,
            }],
            leases: vec![LeaseSample { lease: 9, live_slot_count: 5, slot_count: 3_072, shared_port_count: 1 }],
            slow_path: [("cut".to_owned(), 4)].into(),
            generation: 17,
            is_rejected: false,
        };
        let text = render(&snapshot);
        for line in [
            "persona_drops_total{reason=\"no-edge\"} 3",
            "persona_subject_packets_total{subject=\"workload/n1/web\",direction=\"ingress\"} 2",
            "persona_subject_inner_bytes_total{subject=\"workload/n1/web\",direction=\"egress\"} 100",
            "persona_persona_packets_total{vni=\"42\",direction=\"egress\"} 1",
            "persona_edge_alive{edge=\"e1\"} 1",
            "persona_edge_rtt_seconds{edge=\"e1\"} 0.001",
            "persona_edge_loss_ratios{edge=\"e1\"} 0.25",
            "persona_lease_live_ports{lease=\"9\"} 5",
            "persona_slow_path_packets_total{outcome=\"cut\"} 4",
            "persona_generation 17",
            "persona_rejected 0",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|told| told == line || told.starts_with(&format!("{line}."))),
                "{line} is not in\n{text}"
            );
        }
        assert!(!text.contains("edge_jitter"), "what isn't known isn't told");
    }
}
