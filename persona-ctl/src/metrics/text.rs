//! What a role knows, as metrics. Names follow the OpenMetrics conventions: counters end in `_total`, units come last.

use std::collections::BTreeMap;

use persona_core::wire::agent::Traffic;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::{Registry, Unit};

use super::family::{Family, Labels};
use super::snapshot::{EdgeSample, LeaseSample, Snapshot, SubjectSample};
use super::{gateway, own_edge, standing};

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
        let own = self.0.own_edge.as_ref();
        let instances = &self.0.gateway;
        let of_node = (own.is_none() && instances.is_empty()).then(|| cut_flows(&self.0));
        let own_counters = own.into_iter().flat_map(own_edge::counters).chain(gateway::counters(instances));
        for family in counters(&self.0).into_iter().chain(of_node).chain(own_counters) {
            family.encode(&mut encoder)?;
        }
        let own_gauges = own.into_iter().flat_map(own_edge::gauges).chain(gateway::gauges(instances));
        for family in standing::gauges(&self.0).into_iter().chain(gauges(&self.0)).chain(own_gauges) {
            family.encode(&mut encoder)?;
        }
        Ok(())
    }
}

fn counters(snapshot: &Snapshot) -> Vec<Family<u64>> {
    let subjects = snapshot.subjects.iter().map(|it| (("subject", it.subject.clone()), it.traffic));
    let of_subjects = |count: fn(&SubjectSample) -> u64| {
        snapshot.subjects.iter().map(|it| (vec![("subject", it.subject.clone())], count(it))).collect()
    };
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
            name: "subject_flows_opened",
            help: "Flows that a subject opened, and connections opened towards it",
            unit: None,
            samples: of_subjects(|it| it.opened_flow_count),
        },
        Family {
            name: "subject_drops",
            help: "Packets from a subject or for it that were dropped",
            unit: None,
            samples: of_subjects(|it| it.dropped_packet_count),
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

/// What nodes alone do.
fn cut_flows(snapshot: &Snapshot) -> Family<u64> {
    let help = "Flows cut because the grace of their lease was over";
    Family { name: "cut_flows", help, unit: None, samples: vec![(Vec::new(), snapshot.cut_flow_count)] }
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

pub(super) fn packets((label, traffic): ((&'static str, String), Traffic)) -> [(Labels, u64); 2] {
    both_ways(label, traffic.egress_packets, traffic.ingress_packets)
}

pub(super) fn bytes((label, traffic): ((&'static str, String), Traffic)) -> [(Labels, u64); 2] {
    both_ways(label, traffic.egress_bytes, traffic.ingress_bytes)
}

fn both_ways(label: (&'static str, String), egress: u64, ingress: u64) -> [(Labels, u64); 2] {
    let way = |name: &str| vec![label.clone(), ("direction", name.to_owned())];
    [(way("egress"), egress), (way("ingress"), ingress)]
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{InstanceSample, LinkSample, OwnEdgeSample};
    use super::*;

    #[test]
    fn a_scrape_tells_everything_under_its_labels() {
        let traffic = Traffic { egress_packets: 1, egress_bytes: 100, ingress_packets: 2, ingress_bytes: 200 };
        let snapshot = Snapshot {
            drops: [("no-edge".to_owned(), 3)].into(),
            subjects: vec![SubjectSample {
                subject: "workload/n1/web".into(),
                traffic,
                opened_flow_count: 6,
                dropped_packet_count: 8,
            }],
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
            cut_flow_count: 0,
            own_edge: Some(OwnEdgeSample {
                edge: "e2".into(),
                carried: traffic,
                lease_count: 7,
                owned_count: 2,
                announced_count: Some(3),
                heard_node_count: 3,
                silent_node_count: 1,
                is_outside_alive: Some(true),
                is_draining: false,
                capacity_bits_per_sec: Some(1_000),
            }),
            link: Some(LinkSample { is_connected: true, certificate_expires_ms: Some(1_500) }),
            gateway: vec![InstanceSample {
                service: "web".into(),
                instance: "a".into(),
                is_alive: true,
                weight: 100,
                flow_count: 6,
                opened_count: 8,
                traffic,
                ..InstanceSample::default()
            }],
            generation: 17,
            is_rejected: false,
        };
        let text = render(&snapshot);
        for line in [
            "persona_drops_total{reason=\"no-edge\"} 3",
            "persona_subject_packets_total{subject=\"workload/n1/web\",direction=\"ingress\"} 2",
            "persona_subject_inner_bytes_total{subject=\"workload/n1/web\",direction=\"egress\"} 100",
            "persona_subject_flows_opened_total{subject=\"workload/n1/web\"} 6",
            "persona_subject_drops_total{subject=\"workload/n1/web\"} 8",
            "persona_persona_packets_total{vni=\"42\",direction=\"egress\"} 1",
            "persona_edge_alive{edge=\"e1\"} 1",
            "persona_edge_rtt_seconds{edge=\"e1\"} 0.001",
            "persona_edge_loss_ratios{edge=\"e1\"} 0.25",
            "persona_lease_live_ports{lease=\"9\"} 5",
            "persona_slow_path_packets_total{outcome=\"cut\"} 4",
            "persona_edge_packets_total{edge=\"e2\",direction=\"egress\"} 1",
            "persona_edge_inner_bytes_total{edge=\"e2\",direction=\"ingress\"} 200",
            "persona_leases 7",
            "persona_owned_addresses 2",
            "persona_announced_ranges 3",
            "persona_nodes{state=\"heard\"} 3",
            "persona_nodes{state=\"silent\"} 1",
            "persona_outside_alive 1",
            "persona_draining 0",
            "persona_capacity_bits_per_second 1000",
            "persona_gateway_packets_total{service=\"web\",instance=\"a\",direction=\"ingress\"} 2",
            "persona_gateway_ip_bytes_total{service=\"web\",instance=\"a\",direction=\"egress\"} 100",
            "persona_gateway_flows_opened_total{service=\"web\",instance=\"a\"} 8",
            "persona_gateway_instance_alive{service=\"web\",instance=\"a\"} 1",
            "persona_gateway_instance_draining{service=\"web\",instance=\"a\"} 0",
            "persona_gateway_instance_weight{service=\"web\",instance=\"a\"} 100",
            "persona_gateway_flows{service=\"web\",instance=\"a\"} 6",
            "persona_generation 17",
            concat!("persona_build_info{role=\"edge\",version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "persona_manager_connected 1",
            "persona_certificate_expires_timestamp_seconds 1.5",
            "persona_rejected 0",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|told| told == line || told.starts_with(&format!("{line}."))),
                "{line} is not in\n{text}"
            );
        }
        assert!(!text.contains("edge_jitter"), "what isn't known isn't told");
        assert!(!text.contains("cut_flows"), "an edge cuts nothing");
        let text = render(&Snapshot { cut_flow_count: 3, ..Snapshot::default() });
        assert!(text.lines().any(|told| told == "persona_cut_flows_total 3"), "{text}");
    }
}
