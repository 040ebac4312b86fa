//! Flows as a watcher sees them: opened, closed, or fallen silent.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

/// A flow with its addresses before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// When, monotonic.
    #[serde(skip)]
    pub time: Duration,
    /// The lease it leaves under.
    pub lease: u64,
    /// The subject's number.
    pub subject: u32,
    /// The persona's unique id.
    pub vni: u32,
    /// The subject's own address.
    pub inner: IpAddr,
    /// The other side's address.
    pub remote: IpAddr,
    /// The egress address.
    pub outer: IpAddr,
    /// The subject's own port, or the ICMP id.
    pub inner_port: u16,
    /// The other side's port; 0 for ICMP.
    pub remote_port: u16,
    /// The egress port, or the ICMP id outside.
    pub outer_port: u16,
    /// The IP protocol.
    pub protocol: u8,
}

/// What makes two records speak of one flow.
type FlowId = (u32, SocketAddr, SocketAddr, u8);

impl FlowView {
    fn id(&self) -> FlowId {
        let inner = SocketAddr::new(self.inner, self.inner_port);
        (self.subject, inner, SocketAddr::new(self.remote, self.remote_port), self.protocol)
    }
}

/// The flows that were seen to open and not to close, at most so many.
#[derive(Debug)]
pub struct OpenFlows {
    flows: HashMap<FlowId, FlowView>,
    count_max: usize,
}

impl OpenFlows {
    /// None yet.
    pub fn new(count_max: usize) -> Self {
        Self { flows: HashMap::new(), count_max }
    }

    /// Notes one that opened; beyond the bound it is told but not remembered.
    pub fn open(&mut self, flow: &FlowView) {
        if self.flows.len() < self.count_max {
            self.flows.insert(flow.id(), flow.clone());
        }
    }

    /// Takes one that closed; says for how long it was open, if its opening was seen.
    pub fn close(&mut self, flow: &FlowView) -> Option<Duration> {
        self.flows.remove(&flow.id()).map(|opened| flow.time.saturating_sub(opened.time))
    }

    /// Takes those that have ended meanwhile by what `has_ended` says, with for how long they were open at `now`.
    pub fn take_ended<E>(
        &mut self,
        now: Duration,
        has_ended: impl Fn(&FlowView) -> Result<bool, E>,
    ) -> Result<Vec<(FlowView, Duration)>, E> {
        let mut ended = Vec::new();
        for (id, flow) in &self.flows {
            if has_ended(flow)? {
                ended.push(*id);
            }
        }
        let taken = ended.into_iter().filter_map(|id| self.flows.remove(&id));
        Ok(taken.map(|flow| (FlowView { time: now, ..flow.clone() }, now.saturating_sub(flow.time))).collect())
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

#[cfg(test)]
pub(super) fn example() -> FlowView {
    FlowView {
        time: Duration::from_secs(9),
        lease: 4,
        subject: 7,
        vni: 42,
        inner: "10.1.0.2".parse().unwrap(),
        remote: "203.0.113.5".parse().unwrap(),
        outer: "192.0.2.100".parse().unwrap(),
        inner_port: 40_000,
        remote_port: 443,
        outer_port: 5_184,
        protocol: 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_tells_how_long_it_was_open() {
        let mut open = OpenFlows::new(1);
        let opened = example();
        open.open(&opened);
        open.open(&FlowView { inner_port: 1, ..opened.clone() });
        assert_eq!(open.len(), 1, "bounded");
        let closed = FlowView { time: Duration::from_secs(12), ..opened };
        assert_eq!(open.close(&closed), Some(Duration::from_secs(3)));
        assert_eq!(open.close(&closed), None, "told once");
    }

    #[test]
    fn flows_that_fell_silent_are_taken_once() {
        let mut open = OpenFlows::new(9);
        open.open(&example());
        let take = |open: &mut OpenFlows, ended: bool| {
            open.take_ended(Duration::from_secs(20), |_| Ok::<_, ()>(ended)).unwrap()
        };
        assert!(take(&mut open, false).is_empty());
        let taken = take(&mut open, true);
        assert_eq!((taken.len(), taken[0].1, taken[0].0.time), (1, Duration::from_secs(11), Duration::from_secs(20)));
        assert!(open.is_empty() && take(&mut open, true).is_empty());
    }
}
