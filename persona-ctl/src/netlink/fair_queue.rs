//! `fq`'s own words, and our root queue of that kind: it sends each packet at the time that its program has set.
//!
//! Like our HTB it has the handle 7e50:, and queues with other handles are never touched. A device has one of the two.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::qdisc::{foreign, is_our_root, is_root_of, kind, message, ours, request};
use super::tc_options::{nested, option_bytes, raw, word_at};
use super::{Netlink, NetlinkError, failed};

/// The kind's name.
pub(super) const FQ: &str = "fq";

const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_FLOW_PLIMIT: u16 = 2;
const TCA_FQ_BUCKETS_LOG: u16 = 8;

/// Most packets that wait on a device, and in one of its flows: programs bound what waits by time, for each subject by itself.
const LIMITS: [(u16, u32); 2] = [(TCA_FQ_PLIMIT, 1 << 20), (TCA_FQ_FLOW_PLIMIT, 1 << 17)];

/// Whose flows pass a device: `fq` looks them up in rows, each of 8 bytes, and is made with 1,024 of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowsOf {
    /// One subject's: few rows are enough, and there is a device for each.
    OneSubject,
    /// Everybody's.
    Many,
}

impl FlowsOf {
    /// log2 of the rows.
    fn rows_log(self) -> u32 {
        match self {
            Self::OneSubject => 4,
            Self::Many => 10,
        }
    }

    fn options(self) -> Vec<(u16, u32)> {
        LIMITS.into_iter().chain([(TCA_FQ_BUCKETS_LOG, self.rows_log())]).collect()
    }
}

impl Netlink {
    /// Whether the kernel has `fq`, or can load it. Changes nothing: an option that is too short is refused.
    pub async fn has_fq(&self) -> Result<bool, NetlinkError> {
        self.has_queue(FQ, Some(raw(TCA_FQ_PLIMIT, vec![0]))).await
    }

    /// The devices that have our `fq`.
    pub async fn fair_queues(&self) -> Result<BTreeSet<u32>, NetlinkError> {
        let qdiscs = self.root_queues().await?;
        let ours = qdiscs.iter().filter(|qdisc| is_our_root(qdisc) && kind(qdisc) == FQ);
        Ok(ours.map(|qdisc| qdisc.header.index as u32).collect())
    }

    /// Makes our `fq` a device's root queue; our HTB makes room for it.
    pub async fn raise_fair_queue(&self, ifindex: u32, flows: FlowsOf) -> Result<(), NetlinkError> {
        let qdiscs = self.root_queues().await?;
        let root = qdiscs.iter().find(|qdisc| is_root_of(qdisc, ifindex) && qdisc.header.handle != TcHandle::UNSPEC);
        match root {
            Some(root) if !is_our_root(root) => return Err(foreign(ifindex, root)),
            Some(root) if kind(root) == FQ && has_options(root, flows) => return Ok(()),
            Some(root) if kind(root) != FQ => self.remove_shaper(ifindex).await?,
            _ => {}
        }
        let options = flows.options().into_iter().map(|(kind, value)| raw(kind, value.to_ne_bytes().to_vec()));
        let options = TcAttribute::Options(options.collect());
        let message = message(ifindex, ours(0), TcHandle::ROOT, FQ, Some(options));
        let request = request(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE);
        self.acknowledged(request, || format!("fq on device {ifindex}")).await?;
        let qdiscs = self.root_queues().await?;
        match qdiscs.iter().find(|qdisc| is_root_of(qdisc, ifindex)) {
            Some(root) if is_our_root(root) && kind(root) == FQ && has_options(root, flows) => Ok(()),
            shown => Err(NetlinkError::ReadBack { ifindex, shown: format!("{:?}", shown.map(kind)) }),
        }
    }

    /// Removes our `fq` from a device; the kernel puts its default back.
    pub async fn remove_fair_queue(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = message(ifindex, ours(0), TcHandle::ROOT, FQ, None);
        let request = request(RouteNetlinkMessage::DelQueueDiscipline(message), 0);
        self.acknowledged(request, || format!("removal of our fq on device {ifindex}")).await
    }

    async fn root_queues(&self) -> Result<Vec<TcMessage>, NetlinkError> {
        let all = self.handle.qdisc().get().execute().try_collect::<Vec<_>>().await;
        let all = all.map_err(failed("list of queues"))?;
        Ok(all.into_iter().filter(|qdisc| qdisc.header.parent == TcHandle::ROOT).collect())
    }
}

fn has_options(root: &TcMessage, flows: FlowsOf) -> bool {
    let Some(options) = option_bytes(root) else { return false };
    let word = |kind| nested(&options, kind).and_then(|value| word_at(&value, 0));
    flows.options().into_iter().all(|(kind, value)| word(kind) == Some(value))
}
