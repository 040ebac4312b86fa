//! Which external port stands for whom: read from what the program chose, and held against RFC 4787's rules.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use super::rewrite::End;

/// Below every idle limit of the contract: a mapping that was used so lately is in force.
const SURELY_LIVE_SECS: u32 = 8;
/// Above every idle limit: one that was silent for so long is not.
const SURELY_OVER_SECS: u32 = 7_445;

/// One end outside, with the protocol.
type Outer = (u8, Ipv4Addr, u16);

#[derive(Debug, Clone, Copy)]
struct Mapping {
    inner: End,
    used_secs: u32,
}

/// Mappings of one node.
#[derive(Debug, Default)]
pub struct Nat {
    by_outer: HashMap<Outer, Mapping>,
    by_inner: HashMap<(u8, End, Ipv4Addr), u16>,
    /// A shared port's remotes: (outer, remote) → inner.
    shared: HashMap<(Outer, End), Mapping>,
    /// Ends that may have a mapping which no packet has shown: theirs was refused later on its way.
    unseen: HashMap<(u8, End), u32>,
    /// Ends that have sent anything: a mapping of theirs may have been made by a packet that was refused later on.
    tried: HashSet<(u8, End)>,
    /// Every remote that an inner end has spoken to.
    flows: HashMap<(u8, End, End), (Outer, u32)>,
}

/// How a packet left.
#[derive(Debug, Clone, Copy)]
pub struct Pressure {
    /// Whether the lease may have no free port.
    pub is_full: bool,
    /// Whether it opens a TCP connection.
    pub opens: bool,
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T> {
    /// Surely so.
    Surely(T),
    /// So or not: it is about to end.
    Maybe(T),
    /// Surely not.
    No,
}

/// How sure something is that was last used then.
pub(super) fn judged<T>(value: T, used_secs: u32, now_secs: u32) -> Answer<T> {
    match now_secs.saturating_sub(used_secs) {
        idle if idle < SURELY_LIVE_SECS => Answer::Surely(value),
        idle if idle < SURELY_OVER_SECS => Answer::Maybe(value),
        _ => Answer::No,
    }
}

impl Nat {
    /// The flow's outer end, if it has one.
    pub fn outer_of_flow(&self, protocol: u8, inner: End, remote: End, now_secs: u32) -> Answer<(Ipv4Addr, u16)> {
        match self.flows.get(&(protocol, inner, remote)) {
            Some(((_, address, port), used_secs)) => judged((*address, *port), *used_secs, now_secs),
            None => Answer::No,
        }
    }

    /// Who stands behind an outer end for a remote.
    pub fn inner_of(&self, outer: Outer, remote: End, now_secs: u32) -> Answer<End> {
        if let Some(shared) = self.shared.get(&(outer, remote)) {
            match judged(shared.inner, shared.used_secs, now_secs) {
                Answer::No => {}
                answer => return answer,
            }
        }
        match self.by_outer.get(&outer) {
            Some(mapping) => judged(mapping.inner, mapping.used_secs, now_secs),
            None => Answer::No,
        }
    }

    /// Whether the inner end has spoken to the remote.
    pub fn has_spoken(&self, protocol: u8, inner: End, remote: End, now_secs: u32) -> Answer<()> {
        match self.flows.get(&(protocol, inner, remote)) {
            Some((_, used_secs)) => judged((), *used_secs, now_secs),
            None => Answer::No,
        }
    }

    /// Ports of an address that may be taken, for one protocol.
    pub fn taken_count(&self, protocol: u8, address: Ipv4Addr, now_secs: u32) -> usize {
        let is_taken = |(outer, mapping): &(&Outer, &Mapping)| {
            outer.0 == protocol && outer.1 == address && judged((), mapping.used_secs, now_secs) != Answer::No
        };
        let is_unseen = |((of, _), since_secs): &(&(u8, End), &u32)| {
            *of == protocol && judged((), **since_secs, now_secs) != Answer::No
        };
        self.by_outer.iter().filter(is_taken).count() + self.unseen.iter().filter(is_unseen).count()
    }

    /// Whether an end may have a mapping that no packet has shown.
    pub fn may_be_unseen(&self, protocol: u8, inner: End) -> bool {
        self.tried.contains(&(protocol, inner))
    }

    /// An end has sent a packet.
    pub fn tries(&mut self, protocol: u8, inner: End) {
        self.tried.insert((protocol, inner));
    }

    /// A packet was refused after it may have got a mapping.
    pub fn refused(
        &mut self,
        protocol: u8,
        (inner, remote): (End, End),
        address: Ipv4Addr,
        opens: bool,
        now_secs: u32,
    ) {
        if opens && let Some((before, _)) = self.flows.remove(&(protocol, inner, remote)) {
            // It ended the connection that there was.
            self.shared.remove(&(before, remote));
        }
        if !self.by_inner.contains_key(&(protocol, inner, address)) {
            self.unseen.insert((protocol, inner), now_secs);
        }
    }

    /// A packet left: takes note of what stands for its source, or says what is wrong with that.
    pub fn left(
        &mut self,
        protocol: u8,
        (inner, remote): (End, End),
        (address, port): (Ipv4Addr, u16),
        pressure: Pressure,
        now_secs: u32,
    ) -> Result<(), String> {
        let outer = (protocol, address, port);
        if pressure.opens {
            // A connection that had ended begins anew, maybe elsewhere.
            let ended = self.flows.remove(&(protocol, inner, remote));
            if let Some((before, _)) = ended.filter(|(before, _)| *before != outer) {
                self.shared.remove(&(before, remote));
            }
        }
        let is_full = pressure.is_full;
        if let Answer::Surely(before) = self.outer_of_flow(protocol, inner, remote, now_secs)
            && before != (address, port)
        {
            return Err(format!("flow {inner:?} > {remote:?} left by {before:?} and now by {address}:{port}"));
        }
        let own = self.by_inner.get(&(protocol, inner, address)).copied();
        let is_owner = self.by_outer.get(&outer).is_some_and(|mapping| mapping.inner == inner);
        if is_owner {
            self.by_outer.insert(outer, Mapping { inner, used_secs: now_secs });
        } else {
            self.take(outer, inner, remote, own, is_full, now_secs)?;
        }
        self.flows.insert((protocol, inner, remote), (outer, now_secs));
        Ok(())
    }

    fn take(
        &mut self,
        outer: Outer,
        inner: End,
        remote: End,
        own: Option<u16>,
        is_full: bool,
        now_secs: u32,
    ) -> Result<(), String> {
        let holder = self.by_outer.get(&outer).copied();
        let holder_state = holder.map_or(Answer::No, |mapping| judged(mapping.inner, mapping.used_secs, now_secs));
        let own_state = own.and_then(|port| self.by_outer.get(&(outer.0, outer.1, port)).copied());
        let own_is_sure = own_state.is_some_and(|mapping| {
            mapping.inner == inner && matches!(judged((), mapping.used_secs, now_secs), Answer::Surely(()))
        });
        let may_share = outer.0 == super::packet::TCP && is_full;
        let shared_key = (outer, remote);
        let shared_before = self.shared.get(&shared_key).copied();
        let is_shared_before = shared_before.is_some_and(|mapping| mapping.inner == inner);
        // Its owner may be one that no packet has shown.
        let may_have_unseen_owner =
            holder.is_none() && self.tried.iter().any(|tried| tried.0 == outer.0 && tried.1 != inner);
        let has_owner = matches!(holder_state, Answer::Surely(_) | Answer::Maybe(_)) || may_have_unseen_owner;
        if is_shared_before || (may_share && has_owner) {
            if let Some(other) = shared_before
                && other.inner != inner
                && let Answer::Surely(_) = judged((), other.used_secs, now_secs)
            {
                return Err(format!("port {} is shared twice towards {remote:?}", outer.2));
            }
            if let Some(holder) = holder
                && let Answer::Surely(()) = self.has_spoken(outer.0, holder.inner, remote, now_secs)
                && self.flows.get(&(outer.0, holder.inner, remote)).is_some_and(|(used, _)| *used == outer)
            {
                return Err(format!("port {} is shared towards {remote:?}, to whom its owner speaks", outer.2));
            }
            self.shared.insert(shared_key, Mapping { inner, used_secs: now_secs });
            return Ok(());
        }
        if own_is_sure && outer.0 != super::packet::TCP {
            return Err(format!("{inner:?} has port {own:?} and got {}", outer.2));
        }
        if own_is_sure && !may_share {
            return Err(format!("{inner:?} has port {own:?}, blocks are not full, and it got {}", outer.2));
        }
        if let Answer::Surely(other) = holder_state {
            return Err(format!("port {} of {} is {other:?}'s and was given to {inner:?}", outer.2, outer.1));
        }
        self.unseen.remove(&(outer.0, inner));
        self.by_outer.insert(outer, Mapping { inner, used_secs: now_secs });
        self.by_inner.insert((outer.0, inner, outer.1), outer.2);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> End {
        let parsed: std::net::SocketAddr = text.parse().unwrap();
        (parsed.ip(), parsed.port())
    }

    #[test]
    fn what_the_rules_forbid_is_told() {
        let outside = Ipv4Addr::new(192, 0, 2, 1);
        let (a, b, server) = (end("10.0.0.1:5"), end("10.0.0.2:5"), end("203.0.113.1:53"));
        let calm = Pressure { is_full: false, opens: false };
        let mut nat = Nat::default();
        nat.left(17, (a, server), (outside, 1024), calm, 100).unwrap();
        nat.left(17, (a, end("203.0.113.2:53")), (outside, 1024), calm, 101).unwrap();
        assert!(nat.left(17, (a, server), (outside, 1025), calm, 102).is_err(), "a flow keeps its port");
        assert!(nat.left(17, (a, end("203.0.113.3:1")), (outside, 1026), calm, 102).is_err(), "so does an end");
        assert!(nat.left(17, (b, server), (outside, 1024), calm, 102).is_err(), "nobody's port is stolen");
        nat.left(17, (b, server), (outside, 1024), calm, 102 + 7_445).unwrap();
        assert_eq!(nat.inner_of((17, outside, 1024), server, 7_548), Answer::Surely(b));
        assert_eq!(nat.inner_of((17, outside, 1030), server, 7_548), Answer::No);
    }
}
