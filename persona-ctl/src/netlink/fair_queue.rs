//! `fq`'s own words, and our root queue of that kind: it sends each packet at the time that its program has set.
//!
//! Like our HTB it has the handle 7e50:, and queues with other handles are never touched. A device has one of the two.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::qdisc::{errno_of, foreign, is_our_root, is_root_of, kind, message, ours, request};
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

/// The loopback device, which every network namespace has under this index.
const LOOPBACK: u32 = 1;

impl Netlink {
    /// Whether the kernel has `fq`, or can load it. Changes nothing: a queue with an option that is too short is asked for,
    /// which `fq` itself refuses and a kernel without it doesn't know (ENOENT).
    pub async fn has_fq(&self) -> Result<bool, NetlinkError> {
        let too_short = TcAttribute::Options(vec![raw(TCA_FQ_PLIMIT, vec![0])]);
        let wish = message(LOOPBACK, TcHandle::UNSPEC, TcHandle::ROOT, FQ, Some(too_short));
        let request = request(RouteNetlinkMessage::NewQueueDiscipline(wish), NLM_F_CREATE | NLM_F_EXCL);
        let outcome = self.acknowledged(request, || "question for fq".to_owned()).await;
        match outcome.as_ref().map_err(errno_of) {
            Err(Some(libc::ENOENT)) => Ok(false),
            // Where somebody's queue is in the way (EEXIST), who sets ours will see.
            Ok(()) | Err(Some(libc::ERANGE | libc::EINVAL | libc::EEXIST)) => Ok(true),
            Err(_) => outcome.map(|()| true),
        }
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
