//! What a gateway tells of its instances, as metrics.

use prometheus_client::registry::Unit;

use super::family::{Family, Labels};
use super::snapshot::InstanceSample;

fn labels(sample: &InstanceSample) -> Labels {
    vec![("service", sample.service.clone()), ("instance", sample.instance.clone())]
}

fn both_ways(sample: &InstanceSample, egress: u64, ingress: u64) -> [(Labels, u64); 2] {
    let way = |name: &str| [labels(sample), vec![("direction", name.to_owned())]].concat();
    [(way("egress"), egress), (way("ingress"), ingress)]
}

/// What was counted. Ingress is towards the instance.
pub(super) fn counters(samples: &[InstanceSample]) -> [Family<u64>; 3] {
    let packets = samples.iter().flat_map(|it| both_ways(it, it.traffic.egress_packets, it.traffic.ingress_packets));
    let bytes = samples.iter().flat_map(|it| both_ways(it, it.traffic.egress_bytes, it.traffic.ingress_bytes));
    [
        Family { name: "gateway_packets", help: "Packets of an instance", unit: None, samples: packets.collect() },
        Family {
            name: "gateway_ip",
            help: "IP bytes of an instance",
            unit: Some(Unit::Bytes),
            samples: bytes.collect(),
        },
        Family {
            name: "gateway_flows_opened",
            help: "Flows that an instance was chosen for",
            unit: None,
            samples: samples.iter().map(|it| (labels(it), it.opened_count)).collect(),
        },
    ]
}

/// How the instances are.
pub(super) fn gauges(samples: &[InstanceSample]) -> [Family<f64>; 4] {
    let gauge = |name, help, value: fn(&InstanceSample) -> f64| Family {
        name,
        help,
        unit: None,
        samples: samples.iter().map(|it| (labels(it), value(it))).collect(),
    };
    [
        gauge("gateway_instance_alive", "Whether an instance answers", |it| f64::from(u8::from(it.is_alive))),
        gauge("gateway_instance_draining", "Whether new flows avoid it", |it| f64::from(u8::from(it.is_draining))),
        gauge("gateway_instance_weight", "Its share of new flows", |it| it.weight.into()),
        gauge("gateway_flows", "Flows in force", |it| it.flow_count as f64),
    ]
}
