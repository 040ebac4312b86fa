//! The edge's queues in the kernel: raised before the tables name their classes, trimmed after none does.

use std::collections::BTreeSet;

use persona_core::wire::desired::{DesiredState, Item};

use super::life::Edge;
use super::observe::Observed;
use super::queues::EdgeQueues;
use crate::dataplane::Hook;
use crate::netlink::NetlinkError;

impl Edge {
    /// Whether packets go through queues of ours; asked only where a state needs some.
    pub(super) async fn can_queue(&self, desired: &DesiredState, observed: &Observed) -> Result<bool, NetlinkError> {
        if !needs_queues(desired) || self.surroundings.dataplane().hook() != Hook::Tc {
            return Ok(false);
        }
        let foreign = self.netlink.foreign_roots().await?;
        let devices = BTreeSet::from([observed.inside.index, observed.outside.index]);
        Ok(foreign.is_disjoint(&devices))
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
        let is_unqueued = !queues.held.is_empty() && !observed.can_queue;
        if is_unqueued && !self.is_unqueued {
            let message = "packets pass no queue of ours here (programs at XDP, or a root queue of somebody else): what is beyond the rate of a persona with enforceAt: edge is dropped instead of delayed";
            tracing::warn!(edge.name = %self.own.name, message);
            let name = self.own.name.to_string();
            self.link.report_next(|outbox| outbox.push_event("qos.policed", name, message));
        }
        self.is_unqueued = is_unqueued;
    }
}

fn needs_queues(desired: &DesiredState) -> bool {
    let is_held = |item: &Item| matches!(item, Item::Lease(lease) if lease.rates.is_some_and(|rates| rates.held));
    desired.items.values().any(is_held)
}
