//! What a device has sent, and what waits for nothing but the device.
//!
//! Packets in classes of ours wait for the rates of personas, and with departure times for their time: neither says that the device
//! is busy. What waits at a root queue beside them does, and so does all that waits at a root queue of somebody else.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};
use persona_core::available::UplinkLook;

use super::fair_queue::FQ;
use super::qdisc::{HANDLE_MAJOR, drops_in, is_our_root, is_root_of, kind};
use super::{Netlink, NetlinkError, failed};

/// A look at all queues at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueLook {
    /// How many packets the queues of our classes have dropped since they were made, by device index and minor number.
    pub dropped: BTreeMap<(u32, u16), u32>,
    /// The uplink. None: it is not there, or does not count.
    pub uplink: Option<UplinkLook>,
}

impl Netlink {
    /// Looks at the queues of all devices, and at what the uplink has sent.
    pub async fn queue_look(&self, uplink: u32) -> Result<QueueLook, NetlinkError> {
        let qdiscs = self.qdiscs().await?;
        let links = self.handle.link().get().match_index(uplink).execute();
        let links: Vec<_> = links.try_collect().await.map_err(failed("look at the uplink"))?;
        let sent = links.iter().flat_map(|link| &link.attributes).find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_bytes),
            _ => None,
        });
        let waiting_bytes = waiting_in(&qdiscs, uplink);
        let uplink = sent.map(|sent_bytes| UplinkLook { ifindex: uplink, sent_bytes, waiting_bytes });
        Ok(QueueLook { dropped: drops_in(&qdiscs), uplink })
    }
}

fn waiting_in(qdiscs: &[TcMessage], ifindex: u32) -> u64 {
    let Some(root) = qdiscs.iter().find(|qdisc| is_root_of(qdisc, ifindex)) else { return 0 };
    if !is_our_root(root) {
        return backlog_of(root);
    }
    if kind(root) == FQ {
        return 0;
    }
    let leaves =
        qdiscs.iter().filter(|qdisc| qdisc.header.index == ifindex as i32 && qdisc.header.parent.major == HANDLE_MAJOR);
    // Each is read a moment after the other.
    backlog_of(root).saturating_sub(leaves.map(backlog_of).sum())
}

fn backlog_of(qdisc: &TcMessage) -> u64 {
    let backlog = qdisc.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Stats2(parts) => parts.iter().find_map(|part| match part {
            TcStats2::Queue(queue) => Some(queue.backlog),
            _ => None,
        }),
        _ => None,
    });
    backlog.unwrap_or(0).into()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::tc::{TcHandle, TcStatsQueue};

    use super::super::qdisc::{message, ours};
    use super::*;

    fn qdisc(ifindex: u32, handle: TcHandle, parent: TcHandle, kind: &str, backlog: u32) -> TcMessage {
        let mut qdisc = message(ifindex, handle, parent, kind, None);
        let mut queue = TcStatsQueue::default();
        (queue.backlog, queue.drops) = (backlog, backlog / 10);
        qdisc.attributes.push(TcAttribute::Stats2(vec![TcStats2::Queue(queue)]));
        qdisc
    }

    #[test]
    fn what_waits_for_a_rate_does_not_wait_for_the_device() {
        let other = TcHandle { major: 0x8001, minor: 0 };
        let root = |kind: &str, handle, backlog| qdisc(7, handle, TcHandle::ROOT, kind, backlog);
        let leaf = |minor, backlog| qdisc(7, other, ours(minor), "bfifo", backlog);
        let elsewhere = || [qdisc(8, ours(0), TcHandle::ROOT, "htb", 900), qdisc(8, other, ours(1), "bfifo", 900)];
        for (mine, waiting) in [
            (vec![], 0),
            (vec![root("tbf", other, 300)], 300),
            (vec![root("mq", TcHandle::UNSPEC, 300)], 300),
            (vec![root("htb", ours(0), 300), leaf(1, 200), leaf(2, 100)], 0),
            (vec![root("htb", ours(0), 300), leaf(1, 200)], 100),
            (vec![root("htb", ours(0), 300), leaf(1, 400)], 0),
            (vec![root(FQ, ours(0), 300)], 0),
        ] {
            let all: Vec<TcMessage> = mine.into_iter().chain(elsewhere()).collect();
            assert_eq!(waiting_in(&all, 7), waiting, "{all:?}");
        }
        let dropped = drops_in(&[root("htb", ours(0), 300), leaf(1, 200)]);
        assert_eq!(dropped, [((7, 1), 20)].into());
    }
}
