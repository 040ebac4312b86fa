//! A node's way in: what `from_edge` must do with a frame, by `docs/packets.md` §8.

use std::net::IpAddr;

use persona_common::drop::DropReason;
use persona_common::encapsulation::{GATEWAY, WAIT_INWARD};
use persona_core::document::Direction;
use persona_core::ids::SubjectNumber;
use persona_ctl::dataplane::tables::{DeviceEntry, Filtering, LeaseSpace, Normalisation};

use super::nat::Answer;
use super::node::{Node, differs, ensure, is_own_source, loses_all, translated};
use super::packet::{ICMP, Packet, Part, TCP, UDP};
use super::rewrite::{Change, Side, changed, is_same};
use super::shape::{Way, embedded_port, shape_refusals};
use super::wire::{ecn_at_exit, set_ecn};
use super::{Seen, Verdict, tunnel};

impl Node {
    /// A frame came in by the uplink.
    pub fn from_edge(&mut self, frame: &[u8], seen: &Seen) -> Verdict {
        let Some(found) = tunnel::read_loosely(frame) else { return judge_alien(seen) };
        // A gateway's packets are for the programs that deliver for it.
        if Some(found.destination) != self.tables.underlay_address || found.is_control || found.marker == GATEWAY {
            return judge_alien(seen);
        }
        if !self.tables.edges.iter().any(|edge| edge.address == found.source) {
            return Verdict::dropped(seen, &[DropReason::UnknownPeer, DropReason::Geneve, DropReason::Malformed]);
        }
        let Seen::Redirected { frame: out } = seen else { return self.judge_undelivered(&found, seen) };
        match self.judge_delivery(&found, out) {
            Ok(()) => Verdict::Agreed,
            Err(text) => Verdict::no(text),
        }
    }

    fn judge_delivery(&mut self, found: &tunnel::Tunnel<'_>, out: &[u8]) -> Result<(), String> {
        let packet = Packet::read(found.inner).map_err(|reason| format!("delivered although {}", reason.name()))?;
        if let Some(waiting) = tunnel::read(out).ok().filter(|waiting| waiting.marker == WAIT_INWARD) {
            ensure(self.tables.slow_ifindex.is_some(), || "handed over although there is no slow path".to_owned())?;
            return judge_waiting(&packet, found.inner, &waiting);
        }
        let lease = self.lease_of(packet.destination).cloned();
        let lease = lease.ok_or_else(|| format!("{} is not leased and was delivered", packet.destination))?;
        ensure(lease.vni.0 == found.vni, || format!("vni {} delivered under {}", found.vni, lease.vni.0))?;
        let egress = self.egress(lease.subject);
        ensure(!egress.is_some_and(loses_all), || "all is lost on purpose and it was delivered".to_owned())?;
        let delivered = out.get(14..).unwrap_or_default();
        let got = Packet::read(delivered).map_err(|reason| format!("delivered packet is {}", reason.name()))?;
        // Ethernet's padding may follow.
        let delivered = &delivered[..got.length];
        let is_error = packet.is_icmp_error(found.inner);
        let device = self.tables.devices.iter().find(|device| device.subject == Some(lease.subject));
        let is_host = self.tables.cgroups.iter().any(|cgroup| cgroup.subject == lease.subject);
        ensure(is_host || device.is_some(), || "delivered to nobody".to_owned())?;
        let is_its_own = |device: &DeviceEntry| lease.configured || is_own_source(device, got.destination);
        ensure(device.is_none_or(is_its_own), || format!("{} is not the workload", got.destination))?;
        if !is_error && packet.part != Part::Later && matches!(packet.protocol, TCP | UDP) {
            self.judge_let_in(lease.subject, &got)?;
        }
        let mut to = (got.destination, got.destination_port);
        if is_error {
            to.1 = embedded_port(&got, delivered, Way::Inward);
        }
        if lease.configured {
            ensure(got.destination == packet.destination, || format!("{} became another", packet.destination))?;
            let is_asked = packet.part != Part::Later && !is_error;
            let has_sent = self.flows[&lease.subject].nat.may_be_unseen(packet.protocol, to);
            ensure(!is_asked || has_sent, || format!("{to:?} has sent nothing and got something"))?;
        } else if let (LeaseSpace::Ports { address, .. }, Part::Whole | Part::First, false) =
            (&lease.space, packet.part, is_error)
        {
            let outer = (packet.protocol, *address, packet.destination_port);
            let remote = (packet.source, if packet.protocol == ICMP { 0 } else { packet.source_port });
            let nat = &self.flows[&lease.subject].nat;
            match nat.inner_of(outer, remote, self.now_secs) {
                _ if nat.may_be_unseen(packet.protocol, to) => {}
                Answer::No => return Err(format!("port {} stands for nobody and was delivered", outer.2)),
                Answer::Surely(inner) if inner != to => return Err(format!("{inner:?}'s packet went to {to:?}")),
                _ => {}
            }
        }
        if let LeaseSpace::Prefix { prefix } = &lease.space
            && !lease.configured
        {
            let inner = translated(got.destination, *prefix).map(IpAddr::V6);
            ensure(inner == Some(packet.destination), || format!("{} became {}", packet.destination, got.destination))?;
        }
        let timestamps = self.egress(lease.subject).is_some_and(|egress| egress.normalise.timestamps);
        let hidden = Normalisation { timestamps, ..Normalisation::default() };
        let change = Change { side: Side::Destination, to, id: None, dscp: None, mtu: lease.mtu, hops: 1, hidden };
        let mut expected = changed(&packet, found.inner, &change);
        let ecn = ecn_at_exit(super::wire::ecn(&expected), found.tos);
        set_ecn(&mut expected, ecn);
        ensure(is_same(&packet, &expected, delivered), || differs(&expected, delivered))?;
        if packet.has_right_checksums(found.inner) {
            ensure(got.has_right_checksums(delivered), || "a right checksum became wrong".to_owned())?;
        }
        Ok(())
    }

    /// What was delivered is of a flow of the subject's, or a stranger may open it.
    fn judge_let_in(&mut self, number: SubjectNumber, got: &Packet) -> Result<(), String> {
        let flow = (got.protocol, (got.destination, got.destination_port), (got.source, got.source_port));
        let may_open = self.may_open(number, got, Direction::Ingress);
        let flows = self.flows_of(number);
        ensure(may_open || flows.tried.contains(&flow), || format!("{flow:?} passed a firewall that denies it"))?;
        flows.let_in.insert(flow);
        Ok(())
    }

    fn judge_undelivered(&self, found: &tunnel::Tunnel<'_>, seen: &Seen) -> Verdict {
        if let Seen::Passed { .. } = seen {
            return Verdict::no("a tunnel packet for us passed");
        }
        let Ok(packet) = Packet::read(found.inner) else { return Verdict::Agreed };
        let ttl = found.inner[if packet.source.is_ipv6() { 7 } else { 8 }];
        let Some(lease) = self.lease_of(packet.destination) else {
            return Verdict::Agreed;
        };
        let is_lossy = self.egress(lease.subject).is_some_and(|egress| egress.impair.loss_millionths > 0);
        let is_plain = packet.part == Part::Whole
            && !is_lossy
            && found.kind == if packet.source.is_ipv6() { 0x86dd } else { 0x0800 }
            && matches!(packet.protocol, TCP | UDP)
            && shape_refusals(&packet, found.inner, Way::Inward).is_empty()
            && lease.vni.0 == found.vni
            && ttl > 1
            && found.tos & 3 != 3;
        let LeaseSpace::Ports { address, .. } = &lease.space else { return Verdict::Agreed };
        let outer = (packet.protocol, *address, packet.destination_port);
        let remote = (packet.source, packet.source_port);
        let nat = &self.flows[&lease.subject].nat;
        let Answer::Surely(inner) = nat.inner_of(outer, remote, self.now_secs) else { return Verdict::Agreed };
        let is_open = self.egress(lease.subject).is_none_or(|it| it.filtering == Filtering::EndpointIndependent);
        let may_open = self.rules(lease.subject).is_empty();
        let may_come = (is_open && may_open)
            || matches!(nat.has_spoken(packet.protocol, inner, remote, self.now_secs), Answer::Surely(()));
        if is_plain && may_come {
            return Verdict::no(format!("{remote:?} > {}:{} is {inner:?}'s and was dropped", address, outer.2));
        }
        Verdict::Agreed
    }
}

/// Handed over: a later fragment, as it was, that waits for its first.
pub(super) fn judge_waiting(packet: &Packet, bytes: &[u8], waiting: &tunnel::Tunnel<'_>) -> Result<(), String> {
    let is_right = packet.part == Part::Later && waiting.is_control && waiting.vni == 0;
    ensure(is_right && waiting.inner == &bytes[..packet.length], || format!("{:?} waits as {waiting:?}", packet.part))
}

/// Not a tunnel packet for this node: whatever comes next on the host gets it as it is.
fn judge_alien(seen: &Seen) -> Verdict {
    match seen {
        Seen::Passed { mark: 0 } => Verdict::Agreed,
        // A tunnel packet whose headers lie is ours to drop.
        Seen::Dropped => Verdict::Drop(vec![
            DropReason::Malformed,
            DropReason::Geneve,
            DropReason::UnknownPeer,
            DropReason::Unleased,
            DropReason::NoMapping,
        ]),
        other => Verdict::no(format!("none of the node's business, but is {other:?}")),
    }
}
