//! What the edge tells the manager, and people through its log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use persona_core::ids::EdgeNumber;
use persona_core::liveness::Verdict;
use persona_core::wire::agent::Counters;

use super::life::Edge;
use super::routes::Standing;
use crate::agent::edge_health;
use crate::dataplane::RawCounters;
use crate::metrics::{self, LinkSample, OwnEdgeSample, Snapshot};
use crate::slow_path::SlowPathCounters;

impl Edge {
    /// Tells which generation is in force and how the peers do.
    pub(super) fn tell_state(&mut self) {
        let edges = edge_health(&self.plan.peers, &self.surroundings.prober.health());
        let tunnel = crate::wire::report(&mut self.wire);
        self.link.report_now(|outbox| {
            outbox.report.tunnel = Some(tunnel);
            outbox.set_in_force(&self.applied);
            outbox.report.rejected = self.rejected.clone();
            outbox.report.edges = Some(edges);
        });
    }

    /// The guardian knows already; this is for people and for the manager.
    pub(super) fn tell_verdict(&self, peer: EdgeNumber, verdict: Verdict) {
        let name = self.plan.peers.get(&peer).map_or_else(|| peer.to_string(), |edge| edge.name.to_string());
        let edges = edge_health(&self.plan.peers, &self.surroundings.prober.health());
        self.link.report_now(|outbox| {
            let said = outbox.report.edges.iter().flatten().find(|edge| edge.edge.as_str() == name);
            if said.map(|edge| edge.alive) != Some(verdict.alive) {
                let event = if verdict.alive { "edge.up" } else { "edge.down" };
                tracing::info!(edge.name = name, event, "peer changed");
                let message =
                    if verdict.alive { "peer answers" } else { "peer is silent; its addresses are taken over" };
                outbox.push_event(event, name, message);
            }
            outbox.report.edges = Some(edges);
        });
    }

    /// Tells what the guardian has decided since this was last called.
    pub(super) fn tell_standing(&mut self) {
        let standing = self.surroundings.guardian.standing();
        if standing.asks_manager {
            tracing::debug!("cut off, or back again: the lease table is asked for anew before anything is served");
            self.link.ask_for_snapshot();
        }
        self.tell_routes();
        let silent = self.plan.tables.nodes.iter().map(|node| node.address);
        let silent: Vec<IpAddr> = silent.filter(|node| !standing.heard_nodes.contains(node)).collect();
        self.tell_silence(silent);
        self.link.report_now(|outbox| {
            if outbox.report.outside_alive.is_some_and(|before| before != standing.is_outside_alive) {
                let event = if standing.is_outside_alive { "outside.up" } else { "outside.down" };
                let message = if standing.is_outside_alive {
                    "the outside next hop answers"
                } else {
                    "the outside next hop is silent: no probe is reflected and no address answered for until it answers"
                };
                let targets = self.config.outside_targets().into_iter().map(|target| target.to_string());
                outbox.push_event(event, targets.collect::<Vec<_>>().join(", "), message);
            }
            for address in &standing.taken_over {
                tracing::info!(%address, "answering for address");
                let message = format!("{} answers for it", self.own.name);
                outbox.push_event("address.taken-over", address.to_string(), message);
            }
            outbox.report.outside_alive = Some(standing.is_outside_alive);
            outbox.report.owned = Some(standing.owned.iter().copied().collect());
        });
    }

    /// Tells which routes lead here, where some shall.
    fn tell_routes(&mut self) {
        let Some(table) = self.config.announced_table() else { return };
        let now = self.routes.standing();
        let before = std::mem::replace(&mut self.told_routes, now.clone());
        self.link.report_next(|outbox| {
            outbox.report.announced = Some(now.ranges.iter().copied().collect());
            if let Some((event, message)) = routes_news(table, &before, &now) {
                tracing::info!(event, message, "routes to this edge");
                outbox.push_event(event, self.own.name.to_string(), message);
            }
        });
    }

    /// Nodes that have fallen silent, or speak again: what is for them goes through a peer meanwhile.
    fn tell_silence(&mut self, silent: Vec<IpAddr>) {
        let changed = |now: &[IpAddr], before: &[IpAddr]| -> Vec<IpAddr> {
            now.iter().filter(|node| !before.contains(node)).copied().collect()
        };
        let (fell, spoke) = (changed(&silent, &self.silent_nodes), changed(&self.silent_nodes, &silent));
        self.silent_nodes = silent;
        let nodes = &self.plan.tables.nodes;
        let is_node = |address: &IpAddr| nodes.iter().any(|node| node.address == *address);
        self.link.report_next(|outbox| {
            for node in &fell {
                tracing::info!(%node, "node is silent");
                let message = "node is silent here; what is for it goes through a peer";
                outbox.push_event("node.silent", node.to_string(), message);
            }
            for node in spoke.iter().filter(|node| is_node(node)) {
                tracing::info!(%node, "node is heard");
                outbox.push_event("node.heard", node.to_string(), "node is heard here");
            }
        });
    }

    /// Ways that carry less than before, as routers say, or are believed whole again.
    pub(super) fn tell_narrowed(&mut self, narrowed: &BTreeMap<IpAddr, u32>) {
        let before = std::mem::replace(&mut self.narrowed, narrowed.clone());
        self.link.report_next(|outbox| {
            for (far_end, mtu) in narrowed.iter().filter(|(far_end, mtu)| before.get(*far_end) != Some(*mtu)) {
                let message = format!(
                    "a router says that the way to {far_end} carries {mtu} bytes: what is sent there is held to that, and the internet told"
                );
                outbox.push_event("mtu.lowered", far_end.to_string(), message);
            }
        });
        for far_end in before.keys().filter(|far_end| !narrowed.contains_key(*far_end)) {
            tracing::info!(%far_end, "what routers said of the way is forgotten; larger packets are tried again");
        }
    }

    /// Puts counters into the next report.
    pub(super) fn count(&mut self) {
        let counted = tokio::task::block_in_place(|| self.surroundings.dataplane().counters());
        let slow_path = self.slow_path.counters();
        match counted {
            Ok(raw) => {
                self.carried.count(&raw.personas);
                let mut counters = counters(raw, slow_path);
                counters.carried = self.carried.total();
                let processor = self.processor.look(Path::new("/proc/stat"));
                counters.cpu_millionths = processor.map(|share| share.busy);
                counters.packet_cpu_millionths = processor.map(|share| share.packet_path);
                self.link.report_next(|outbox| outbox.report.counters = Some(counters));
            }
            Err(error) => self.say(&crate::host::error_chain(&error)),
        }
        self.tell_metrics();
    }

    /// Shows a scraper what the next report says, and how this edge stands.
    fn tell_metrics(&self) {
        let mut report = Default::default();
        self.link.report_next(|outbox| report = outbox.report.clone());
        let tables = &self.plan.tables;
        let own_edge = OwnEdgeSample {
            edge: self.own.name.to_string(),
            carried: self.carried.total(),
            lease_count: tables.leases.len(),
            owned_count: report.owned.as_ref().map_or(0, Vec::len),
            announced_count: report.announced.as_ref().map(Vec::len),
            heard_node_count: tables.nodes.len().saturating_sub(self.silent_nodes.len()),
            silent_node_count: self.silent_nodes.len(),
            is_outside_alive: report.outside_alive,
            is_draining: self.plan.is_draining,
            capacity_bits_per_sec: self.config.file.capacity.map(|capacity| capacity.bits_per_sec),
        };
        let link = Some(LinkSample::of(&self.link));
        self.metrics.send_replace(Snapshot { own_edge: Some(own_edge), link, ..metrics::of_report(&report) });
    }

    /// The same trouble every second is one line in the log.
    pub(super) fn say(&mut self, trouble: &str) {
        if self.said != trouble {
            tracing::error!(trouble, "pass failed; what was in force stays so, and it is tried again");
            self.link.report_next(|outbox| outbox.push_event("apply.failing", self.own.name.to_string(), trouble));
            self.said = trouble.to_owned();
        }
    }
}

/// What has changed of the routes to this edge, in words.
fn routes_news(table: u32, before: &Standing, now: &Standing) -> Option<(&'static str, String)> {
    let listed = now.ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match now {
        Standing { trouble: Some(trouble), .. } => (before.trouble != now.trouble)
            .then(|| ("routes.failing", format!("routes in table {table} are not as they should be: {trouble}"))),
        _ if before.ranges == now.ranges => None,
        Standing { withheld: Some(obstacle), .. } => {
            Some(("routes.withdrawn", format!("no route leads here: {obstacle}")))
        }
        _ if now.ranges.is_empty() => Some(("routes.withdrawn", "no route leads here: it carries no pool".to_owned())),
        _ => Some(("routes.announced", format!("routes to {listed} lead here, from table {table}"))),
    }
}

fn counters(raw: RawCounters, slow_path: SlowPathCounters) -> Counters {
    let personas = raw.personas.into_iter().map(|(vni, traffic)| (vni.0, traffic)).collect();
    let mut counters = Counters { subjects: Vec::new(), personas, drops: raw.drops, ..Counters::default() };
    slow_path.add_to(&mut counters);
    counters
}
