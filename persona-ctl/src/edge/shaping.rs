//! The edge's queues in the kernel: raised before the tables name their classes, trimmed after none does.

use std::collections::BTreeSet;

use persona_core::wire::desired::{DesiredState, Item, LeaseRates};

use super::life::Edge;
use super::observe::Observed;
use super::queues::EdgeQueues;
use crate::agent::queues::{Leaves, is_low_latency};
use crate::dataplane::Hook;
use crate::netlink::NetlinkError;

impl Edge {
    /// The queues of ours that packets may go through; looked for only where a state needs some.
    pub(super) async fn leaves(
        &mut self,
        desired: &DesiredState,
        observed: &Observed,
    ) -> Result<Option<Leaves>, NetlinkError> {
        if held(desired).next().is_none() || self.surroundings.dataplane().hook() != Hook::Tc {
            return Ok(None);
        }
        let foreign = self.netlink.foreign_roots().await?;
        let devices = BTreeSet::from([observed.inside.index, observed.outside.index]);
        if !foreign.is_disjoint(&devices) {
            return Ok(None);
        }
        let is_wanted = held(desired).any(|rates| is_low_latency(rates.dscp));
        let is_fair = is_wanted && self.netlink.look_for_fair_leaf(&mut self.fair_leaf).await?;
        Ok(Some(if is_fair { Leaves::Fair } else { Leaves::Plain }))
    }

    /// Adds and changes what the state needs.
    pub(super) async fn raise_queues(&self, queues: &EdgeQueues) -> Result<(), NetlinkError> {
        for (ifindex, shaper) in &queues.shapers {
            self.netlink.raise_shaper(*ifindex, shaper).await?;
        }
        Ok(())
    }

    /// Removes what the state before needed and this one does not. Queues of others on this host, also of a node's, are left
    /// alone.
    pub(super) async fn trim_queues(&self, before: &EdgeQueues, now: &EdgeQueues) -> Result<(), NetlinkError> {
        for (ifindex, shaper) in &now.shapers {
            self.netlink.trim_shaper(*ifindex, shaper).await?;
        }
        if before.shapers.keys().all(|ifindex| now.shapers.contains_key(ifindex)) {
            return Ok(());
        }
        let present = self.netlink.shapers().await?;
        let is_over = |ifindex: &&u32| present.contains_key(ifindex) && !now.shapers.contains_key(ifindex);
        for ifindex in before.shapers.keys().filter(is_over) {
            self.netlink.remove_shaper(*ifindex).await?;
        }
        Ok(())
    }

    /// Says it once where rates are held by dropping although queues would do better.
    pub(super) fn tell_unqueued(&mut self, queues: &EdgeQueues, observed: &Observed) {
        let is_unqueued = !queues.held.is_empty() && observed.leaves.is_none();
        if is_unqueued && !self.is_unqueued {
            let message = "packets pass no queue of ours here (programs at XDP, or a root queue of somebody else): what is beyond the rate of a persona with enforceAt: edge is dropped instead of delayed";
            tracing::warn!(edge.name = %self.own.name, message);
            let name = self.own.name.to_string();
            self.link.report_next(|outbox| outbox.push_event("qos.policed", name, message));
        }
        self.is_unqueued = is_unqueued;
    }
}

/// The rates to which holders of leases are held here.
fn held(desired: &DesiredState) -> impl Iterator<Item = LeaseRates> {
    let rates = desired.items.values().filter_map(|item| match item {
        Item::Lease(lease) => lease.rates,
        _ => None,
    });
    rates.filter(|rates| rates.held)
}
