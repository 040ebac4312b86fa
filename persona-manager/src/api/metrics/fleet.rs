//! What the manager that leads knows of leases, pools, edges, nodes and subjects.

use std::collections::BTreeMap;

use persona_common::drop::DropReason;
use persona_core::ids::EdgeName;
use persona_core::lease::{LeaseState, Occupancy};
use persona_core::wire::agent::{EdgeHealth, LeaseUse, Role};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Gauges, Reals, seconds};
use crate::metrics::Labels;
use crate::store::{AgentId, EdgeState, Snapshot};
use crate::tasks::facts::space_of;
use crate::tasks::in_force::published;
use crate::tasks::reports::Reports;

/// Leases that have series of their own: the fullest.
const LEASE_COUNT_MAX: usize = 1_000;

/// Nodes and peers by which an edge has series of its own: those that hear it worst.
const MEASURER_COUNT_MAX: usize = 50;

/// Shows it all.
pub(super) fn register(registry: &mut Registry, snapshot: &Snapshot, reports: &Reports) {
    leases(registry, snapshot, reports);
    pools(registry, snapshot);
    edges(registry, snapshot, reports);
    agents(registry, snapshot, reports);
    subjects(registry, snapshot);
}

fn leases(registry: &mut Registry, snapshot: &Snapshot, reports: &Reports) {
    let (counts, live, slots, shared) = (Gauges::default(), Gauges::default(), Gauges::default(), Gauges::default());
    let mut used = Vec::new();
    for lease in snapshot.leases.values() {
        let family = lease.space.family().to_string();
        let of_kind =
            vec![("pool", lease.pool.to_string()), ("family", family), ("state", lease.state.as_str().to_owned())];
        counts.get_or_create(&of_kind).inc();
        let node = reports.get(&AgentId::node(lease.subject.node()));
        used.extend(node.and_then(|node| node.leases.get(&lease.id)).map(|held| (lease, held)));
    }
    let fullness = |(_, held): &(_, &LeaseUse)| f64::from(held.live_slot_count) / f64::from(held.slot_count.max(1));
    for (lease, held) in most(used, LEASE_COUNT_MAX, fullness) {
        let labels = vec![("lease", lease.id.to_string()), ("subject", lease.subject.to_string())];
        live.get_or_create(&labels).set(held.live_slot_count.into());
        slots.get_or_create(&labels).set(held.slot_count.into());
        shared.get_or_create(&labels).set(held.shared_port_count.into());
    }
    registry.register("leases", "Leases by pool, family and state", counts);
    registry.register("lease_live_slots", "External ports that live flows hold", live);
    registry.register("lease_slots", "External ports that there are", slots);
    registry.register("lease_shared_ports", "External ports shared between remotes", shared);
}

fn pools(registry: &mut Registry, snapshot: &Snapshot) {
    let (blocks, prefixes, addresses) = (Gauges::default(), Gauges::default(), Gauges::default());
    let mut occupancy = Occupancy::default();
    snapshot.leases.values().for_each(|lease| occupancy.hold(&lease.space));
    for pool in snapshot.pools() {
        let (name, space) = (&pool.metadata.name, space_of(&pool.spec));
        let [mut held, mut quarantined] = [(0_i64, 0_i64); 2];
        for lease in snapshot.leases.values().filter(|lease| lease.pool == *name) {
            let is_resting = matches!(lease.state, LeaseState::Quarantine { .. });
            let count = if is_resting { &mut quarantined } else { &mut held };
            let is_whole = lease.space.is_whole_address();
            count.0 +=
                if is_whole { space.blocks_per_address().into() } else { lease.space.port_ranges().len() as i64 };
            count.1 += i64::from(lease.space.prefix().is_some());
        }
        let set = |family: &Gauges, total: i64, held: i64, quarantined: i64| {
            let free = (total - held - quarantined).max(0);
            for (state, count) in [("free", free), ("held", held), ("quarantined", quarantined)] {
                family.get_or_create(&vec![("pool", name.to_string()), ("state", state.to_owned())]).set(count);
            }
        };
        set(&blocks, space.block_count().into(), held.0, quarantined.0);
        set(&prefixes, space.prefix_count().into(), held.1, quarantined.1);
        addresses.get_or_create(&vec![("pool", name.to_string())]).set(space.free_address_count(&occupancy).into());
    }
    registry.register("pool_blocks", "Port blocks of a pool by state", blocks);
    registry.register("pool_prefixes", "IPv6 /64 of a pool by state", prefixes);
    registry.register("pool_free_addresses", "IPv4 addresses of which nobody holds a port", addresses);
}

fn edges(registry: &mut Registry, snapshot: &Snapshot, reports: &Reports) {
    let (up, flagged, draining) = (Gauges::default(), Gauges::default(), Gauges::default());
    let maintenance = Gauges::default();
    let (rtt, jitter, loss) = (Reals::default(), Reals::default(), Reals::default());
    let (packets, bytes): (Family<Labels, Counter>, Family<Labels, Counter>) = Default::default();
    for agent in snapshot.agents.values() {
        let Some(edge) = agent.edge() else { continue };
        if let Some(live) = reports.get(&agent.id) {
            let it = live.counters.carried;
            let ways =
                [("egress", it.egress_packets, it.egress_bytes), ("ingress", it.ingress_packets, it.ingress_bytes)];
            for (way, packet_count, byte_count) in ways {
                let labels = vec![("edge", agent.id.name.clone()), ("direction", way.to_owned())];
                packets.get_or_create(&labels).inc_by(packet_count);
                bytes.get_or_create(&labels).inc_by(byte_count);
            }
        }
        let labels = vec![("edge", agent.id.name.clone()), ("group", edge.group.to_string())];
        up.get_or_create(&labels).set((edge.state == EdgeState::Up).into());
        flagged.get_or_create(&labels).set((!edge.flags.is_empty()).into());
        draining.get_or_create(&labels).set(edge.draining.into());
        maintenance.get_or_create(&labels).set(edge.maintenance.is_some().into());
        let Ok(name) = agent.id.name.parse::<EdgeName>() else { continue };
        let heard = snapshot.agents.keys().filter_map(|id| Some((id, &reports.get(id)?.edges.get(&name)?.0)));
        for (id, health) in most(heard.collect(), MEASURER_COUNT_MAX, |(_, health)| badness(health)) {
            let labels = vec![("edge", agent.id.name.clone()), ("from", id.to_string())];
            loss.get_or_create(&labels).set(health.loss.into());
            let micros = |us: u32| f64::from(us) / 1e6;
            health.rtt_us.into_iter().for_each(|us| _ = rtt.get_or_create(&labels).set(micros(us)));
            health.jitter_us.into_iter().for_each(|us| _ = jitter.get_or_create(&labels).set(micros(us)));
        }
    }
    registry.register("edge_up", "Whether an edge serves", up);
    registry.register("edge_flagged", "Whether something is wrong with an edge although it serves", flagged);
    registry.register("edge_draining", "Whether new flows avoid an edge", draining);
    registry.register("edge_maintenance", "Whether somebody works on an edge", maintenance);
    registry.register("edge_packets", "Packets that an edge carried", packets);
    registry.register("edge_inner_bytes", "Inner IP bytes that an edge carried", bytes);
    registry.register("edge_rtt_seconds", "Smoothed round-trip time of probes", rtt);
    registry.register("edge_jitter_seconds", "Mean deviation of the round-trip time of probes", jitter);
    registry.register("edge_loss_ratio", "Share of the last probes without answer", loss);
}

/// How badly an edge is heard: loss counts most, for no round trip takes ten seconds.
fn badness(health: &EdgeHealth) -> f64 {
    f64::from(health.loss) * 10.0 + health.rtt_us.map_or(0.0, |us| f64::from(us) / 1e6)
}

/// The `count` of which there is the most, in that order; of those that are alike the first.
fn most<T>(mut all: Vec<T>, count: usize, of: impl Fn(&T) -> f64) -> Vec<T> {
    all.sort_by(|one, other| of(other).total_cmp(&of(one)));
    all.truncate(count);
    all
}

fn agents(registry: &mut Registry, snapshot: &Snapshot, reports: &Reports) {
    let (up, desired, applied) = (Gauges::default(), Gauges::default(), Gauges::default());
    let (rejected, expires) = (Gauges::default(), Reals::default());
    let (drops, cut): (Family<Labels, Counter>, Family<Labels, Counter>) = Default::default();
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for agent in snapshot.agents.values() {
        let labels = vec![("agent", agent.id.to_string())];
        let live = reports.get(&agent.id);
        if agent.id.role == Role::Node {
            up.get_or_create(&vec![("node", agent.id.name.clone())])
                .set(agent.node().is_some_and(|node| node.up).into());
            let cut_flows = live.map_or(0, |live| live.counters.cut_flows);
            cut.get_or_create(&vec![("node", agent.id.name.clone())]).inc_by(cut_flows);
        }
        desired.get_or_create(&labels).set(published(snapshot, &agent.id).0 as i64);
        applied.get_or_create(&labels).set(live.map_or(0, |live| live.applied.0 as i64));
        rejected.get_or_create(&labels).set(live.is_some_and(|live| live.rejected.is_some()).into());
        expires.get_or_create(&labels).set(seconds(agent.certificate_expires_ms));
        for (reason, count) in live.iter().flat_map(|live| &live.counters.drops) {
            *sums.entry(known_reason(reason)).or_default() += count;
        }
    }
    for (reason, count) in sums {
        drops.get_or_create(&vec![("reason", reason.to_owned())]).inc_by(count);
    }
    registry.register("cut_flows", "Flows that a node cut because the grace of their lease was over", cut);
    registry.register("node_up", "Whether a node reports", up);
    registry.register("desired_generation", "The generation published for a node or an edge", desired);
    registry.register("applied_generation", "The generation that a node or an edge acknowledged", applied);
    registry.register("agent_rejected", "Whether a node or an edge refused its newest generation", rejected);
    let help = "When the newest certificate of a node or an edge ends";
    registry.register("agent_certificate_expires_timestamp_seconds", help, expires);
    registry.register("drops", "Packets dropped by reason, all nodes and edges together", drops);
}

/// A reason as a label: what an agent says that this release does not know has none of its own.
fn known_reason(reason: &str) -> &str {
    let is_known = DropReason::ALL.iter().any(|known| known.name() == reason);
    if is_known { reason } else { "unknown" }
}

fn subjects(registry: &mut Registry, snapshot: &Snapshot) {
    let subjects = Gauges::default();
    for (state, is_in) in [("assigned", true), ("unassigned", false)] {
        let count = snapshot.subjects.values().filter(|record| match is_in {
            true => record.target.is_some(),
            false => record.unassigned.is_some(),
        });
        subjects.get_or_create(&vec![("state", state.to_owned())]).set(count.count() as i64);
    }
    registry.register("subjects", "Subjects with a network persona, and those that should have one", subjects);
    let alerts = Gauges::default();
    for record in snapshot.subjects.values() {
        for (alert, raised) in &record.alerts {
            let labels = [("subject", record.subject.to_string()), ("persona", raised.persona.to_string())];
            alerts.get_or_create(&labels.into_iter().chain([("alert", alert.clone())]).collect()).set(1);
        }
    }
    registry.register("alert_raised", "Alerts that personas' monitoring has raised, each while it is", alerts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_have_series_and_those_that_are_alike_in_their_order() {
        assert_eq!(most(vec![1, 5, 3, 4], 2, |number| f64::from(*number)), [5, 4]);
        assert_eq!(most(vec!["a", "b", "c"], 2, |_| f64::NAN), ["a", "b"]);
        let heard = |loss, rtt_us| EdgeHealth {
            edge: "fra1".parse().unwrap(),
            alive: true,
            rtt_us,
            jitter_us: None,
            loss,
            generation: Default::default(),
        };
        let (lossy, slow, silent) = (heard(0.5, Some(10)), heard(0.0, Some(2_000_000)), heard(1.0, None));
        assert!(badness(&silent) > badness(&lossy) && badness(&lossy) > badness(&slow));
    }
}
