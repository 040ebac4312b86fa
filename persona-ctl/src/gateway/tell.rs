//! What the gateway tells of itself: views for people and programs, samples for metrics.

use super::config::GatewayConfig;
use super::ground::Ground;
use super::plan::Plan;
use super::service_config::DeliveryChoice;
use super::view::{InstanceView, ServiceView};
use super::watch::Watch;
use crate::dataplane::gateway_tables::{DeliveryEntry, InstanceEntry, ServiceEntry};
use crate::dataplane::{FlowCounts, monotonic_now};
use crate::metrics::InstanceSample;

/// Every service as it is now.
pub(super) fn views(
    config: &GatewayConfig,
    plan: &Plan,
    ground: &Ground,
    watch: &Watch,
    counts: &FlowCounts,
) -> anyhow::Result<Vec<ServiceView>> {
    let mut views = Vec::new();
    for (file, entry) in config.file.service.iter().zip(&plan.tables.services) {
        let instances = entry.instances.iter().map(|instance| view(&file.name, entry, instance, ground, watch, counts));
        views.push(ServiceView {
            name: file.name.clone(),
            address: file.address,
            port: file.port,
            protocol: file.protocol,
            delivery: name_of(file.delivery).to_owned(),
            instances: instances.collect::<anyhow::Result<_>>()?,
        });
    }
    Ok(views)
}

fn view(
    service: &str,
    entry: &ServiceEntry,
    instance: &InstanceEntry,
    ground: &Ground,
    watch: &Watch,
    counts: &FlowCounts,
) -> anyhow::Result<InstanceView> {
    let counters = ground.gateway().map(|it| it.counters(entry.key, &instance.name)).transpose()?.flatten();
    let counters = counters.unwrap_or_default();
    let watched = watch.get(service, &instance.name);
    let changed = watched.map_or_else(monotonic_now, |it| it.health.changed());
    Ok(InstanceView {
        name: instance.name.clone(),
        address: instance.address,
        port: instance.port,
        node: if let DeliveryEntry::Tunnel { node, .. } = instance.delivery { Some(node) } else { None },
        weight: instance.weight,
        draining: instance.state.is_draining,
        alive: instance.state.is_alive,
        for_ms: monotonic_now().saturating_sub(changed).as_millis() as u64,
        trouble: watched.map(|it| it.trouble.clone()).unwrap_or_default(),
        flows: counts.of(entry.key, &instance.name) as u64,
        opened: counters.opened_count,
        ingress_packets: counters.traffic.ingress_packets,
        ingress_bytes: counters.traffic.ingress_bytes,
        egress_packets: counters.traffic.egress_packets,
        egress_bytes: counters.traffic.egress_bytes,
    })
}

fn name_of(delivery: DeliveryChoice) -> &'static str {
    match delivery {
        DeliveryChoice::Nat => "nat",
        DeliveryChoice::L2 => "l2",
        DeliveryChoice::Tunnel => "tunnel",
    }
}

/// What metrics show of the instances.
pub(super) fn samples(services: &[ServiceView]) -> Vec<InstanceSample> {
    let of_service = |service: &ServiceView| {
        let name = service.name.clone();
        service.instances.iter().map(move |instance| sample(&name, instance)).collect::<Vec<_>>()
    };
    services.iter().flat_map(of_service).collect()
}

fn sample(service: &str, instance: &InstanceView) -> InstanceSample {
    InstanceSample {
        service: service.to_owned(),
        instance: instance.name.clone(),
        is_alive: instance.alive,
        is_draining: instance.draining,
        weight: instance.weight,
        flow_count: instance.flows,
        opened_count: instance.opened,
        traffic: persona_core::wire::agent::Traffic {
            egress_packets: instance.egress_packets,
            egress_bytes: instance.egress_bytes,
            ingress_packets: instance.ingress_packets,
            ingress_bytes: instance.ingress_bytes,
        },
    }
}
