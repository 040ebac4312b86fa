//! What a device has sent, and what waits for nothing but the device.
//!
//! Packets in classes of ours wait for the rates of personas, and with departure times for their time: neither says that the device
//! is busy. What waits at a root queue beside them does, and so does all that waits at a root queue of somebody else.

use futures_util::TryStreamExt;
use netlink_packet_route::link::LinkAttribute;

use super::fair_queue::FQ;
use super::qdisc::HANDLE_MAJOR;
use super::queue_rows::{QueueRow, ROOT};
use super::{Netlink, NetlinkError, failed};

impl Netlink {
    /// What a device has sent since it is there. None: it does not count.
    pub async fn sent_bytes(&self, ifindex: u32) -> Result<Option<u64>, NetlinkError> {
        let links = self.handle.link().get().match_index(ifindex).execute();
        let links: Vec<_> = links.try_collect().await.map_err(failed("look at the uplink"))?;
        Ok(links.iter().flat_map(|link| &link.attributes).find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_bytes),
            _ => None,
        }))
    }
}

/// What waits for a device, of all queues that are shown.
#[derive(Debug)]
pub struct Waiting {
    ifindex: u32,
    at_root: u64,
    /// In queues of our classes, below our own root.
    for_rates: u64,
    /// Whether all that waits at the root waits for its time.
    is_timed: bool,
    is_ours: bool,
}

impl Waiting {
    /// Of this device.
    pub fn at(ifindex: u32) -> Self {
        Self { ifindex, at_root: 0, for_rates: 0, is_timed: false, is_ours: false }
    }

    /// Takes a queue in.
    pub fn add(&mut self, queue: &QueueRow<'_>) {
        if queue.ifindex != self.ifindex {
            return;
        }
        if queue.parent == ROOT {
            self.at_root = queue.waiting_bytes.into();
            self.is_ours = queue.handle >> 16 == u32::from(HANDLE_MAJOR);
            self.is_timed = self.is_ours && queue.kind == FQ.as_bytes();
        } else if queue.class().is_some() {
            self.for_rates += u64::from(queue.waiting_bytes);
        }
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        match (self.is_timed, self.is_ours) {
            (true, _) => 0,
            // Each is read a moment after the other.
            (false, true) => self.at_root.saturating_sub(self.for_rates),
            (false, false) => self.at_root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_rate_does_not_wait_for_the_device() {
        let (ours, other) = (u32::from(HANDLE_MAJOR) << 16, 0x8001_0000);
        let queue = |ifindex, handle, parent, kind: &'static str, waiting_bytes| QueueRow {
            ifindex,
            handle,
            parent,
            kind: kind.as_bytes(),
            waiting_bytes,
            dropped: 0,
        };
        let root = |kind, handle, waiting| queue(7, handle, ROOT, kind, waiting);
        let leaf = |minor, waiting| queue(7, other, ours | minor, "bfifo", waiting);
        let elsewhere = || [queue(8, ours, ROOT, "htb", 900), queue(8, other, ours | 1, "bfifo", 900)];
        for (mine, waiting) in [
            (vec![], 0),
            (vec![root("tbf", other, 300)], 300),
            (vec![root("mq", 0, 300)], 300),
            (vec![root("htb", ours, 300), leaf(1, 200), leaf(2, 100)], 0),
            (vec![root("htb", ours, 300), leaf(1, 200)], 100),
            (vec![root("htb", ours, 300), leaf(1, 400)], 0),
            (vec![root(FQ, ours, 300)], 0),
        ] {
            let mut seen = Waiting::at(7);
            mine.iter().chain(&elsewhere()).for_each(|queue| seen.add(queue));
            assert_eq!(seen.bytes(), waiting, "{mine:?}");
        }
    }
}
