//! A node: what `from_workload` and `from_edge` must do with a frame, by `docs/packets.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use persona_common::drop::DropReason;
use persona_common::{BYPASS_MARK, PERSONA_MARK, translation};
use persona_core::ids::{EdgeNumber, SubjectNumber};
use persona_ctl::dataplane::tables::{
    DeviceEntry, LeaseEntry, LeaseSpace, NodeTables, SubjectEgress, VlanProtocol, VlanTag,
};

use super::guard::Beside;
use super::nat::{Answer, Nat};
use super::packet::{ICMP, ICMPV6, Packet, Part, TCP, UDP};
use super::rewrite::End;
use super::shape::{Way, address_at, covers, ends, is_link_business, shape_refusals};
use super::towards::Towards;
use super::wire::short;
use super::{Seen, Verdict, tunnel};

/// What is known of one subject's flows: inner addresses of subjects may overlap.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pub(super) nat: Nat,
    pub(super) towards: Towards,
    /// Flows that a firewall let others open towards the subject.
    pub(super) let_in: HashSet<(u8, End, End)>,
    /// Flows that it let the subject open past its persona.
    pub(super) sent_beside: HashSet<(u8, End, End)>,
    /// (protocol, inner, remote) that the subject has tried to open: they may have a mapping or a record.
    pub(super) tried: HashSet<(u8, End, End)>,
}

/// A node as the contract describes it.
pub struct Node {
    pub(super) tables: NodeTables,
    pub(super) alive: BTreeSet<EdgeNumber>,
    pub(super) flows: BTreeMap<SubjectNumber, Flows>,
    /// Outer address → those of the host's own that would look like it outside, and the one that has been sent under it.
    pub(super) alike: HashMap<IpAddr, (BTreeSet<IpAddr>, Option<IpAddr>)>,
    /// The clock of both sides, seconds.
    pub now_secs: u32,
}

impl Node {
    /// A node with these tables and living edges, without flows.
    pub fn new(tables: NodeTables, alive: impl IntoIterator<Item = EdgeNumber>) -> Self {
        let alive = alive.into_iter().collect();
        let flows = tables.subjects.iter().map(|subject| (subject.number, Flows::default())).collect();
        Self { tables, alive, flows, alike: HashMap::new(), now_secs: 0 }
    }

    /// An edge dies, or lives again.
    pub fn set_alive(&mut self, edge: EdgeNumber, is_alive: bool) {
        if is_alive {
            self.alive.insert(edge);
        } else {
            self.alive.remove(&edge);
        }
    }

    /// A frame came in by a workload's device.
    pub fn from_workload(&mut self, ifindex: u32, frame: &[u8], seen: &Seen) -> Verdict {
        let Some(device) = self.tables.devices.iter().find(|device| device.ifindex == ifindex).cloned() else {
            return Verdict::dropped(seen, &[DropReason::UnknownDevice]);
        };
        if frame.len() < 14 {
            return Verdict::dropped(seen, &[DropReason::Malformed]);
        }
        let Some(frame) = without_tag(frame, device.vlan) else {
            return Verdict::dropped(seen, &[DropReason::Vlan, DropReason::Malformed, DropReason::Kernel]);
        };
        match short(&frame, 12) {
            0x0806 => passed(seen),
            0x0800 | 0x86dd => self.ip_from_workload(&device, &frame, seen),
            _ => Verdict::dropped(seen, &[DropReason::EtherType]),
        }
    }

    /// A frame leaves by the uplink: one of the host's own processes, or somebody else's.
    pub fn from_host(&mut self, frame: &[u8], beside: Beside, seen: &Seen) -> Verdict {
        let is_ours = beside.mark == PERSONA_MARK || beside.mark == BYPASS_MARK;
        let Some(number) = self.tables.cgroups.first().map(|cgroup| cgroup.subject) else {
            return untouched(beside, seen);
        };
        let is_ipv6 = match short(frame, 12) {
            0x0800 => false,
            0x86dd => true,
            _ => return untouched(beside, seen),
        };
        if beside.ingress_ifindex != 0 || is_ours {
            return untouched(beside, seen);
        }
        let bytes = &frame[14..];
        if bytes.len() < if is_ipv6 { 40 } else { 20 } {
            return Verdict::dropped(seen, &[DropReason::Malformed]);
        }
        if is_link_business(bytes, is_ipv6, &self.tables.bypass) || is_tunnel(bytes, is_ipv6) {
            return untouched(beside, seen);
        }
        self.ip_from_subject(number, frame, seen)
    }

    /// A frame that no program of ours let in goes to a workload: it passes as it is, and is remembered.
    pub fn to_workload(&mut self, frame: &[u8], beside: Beside, seen: &Seen) -> Verdict {
        if beside.mark != PERSONA_MARK {
            let subject = self.tables.devices.first().and_then(|device| device.subject);
            if let Some(number) = subject.filter(|number| !self.rules(*number).is_empty() && frame.len() >= 14) {
                return self.judge_neighbour(number, frame, beside, seen);
            }
            let now_secs = self.now_secs;
            if let Some(flows) = subject.and_then(|subject| self.flows.get_mut(&subject)) {
                flows.towards.note(frame, now_secs);
            }
        }
        untouched(beside, seen)
    }

    fn ip_from_workload(&mut self, device: &DeviceEntry, frame: &[u8], seen: &Seen) -> Verdict {
        let bytes = &frame[14..];
        let is_ipv6 = short(frame, 12) == 0x86dd;
        if bytes.len() < if is_ipv6 { 40 } else { 20 } {
            return Verdict::dropped(seen, &[DropReason::Malformed]);
        }
        if is_link_business(bytes, is_ipv6, &self.tables.bypass) {
            return passed(seen);
        }
        let source = address_at(bytes, is_ipv6, if is_ipv6 { 8 } else { 12 });
        let number = device.subject.expect("the model's devices have one subject each");
        if !is_own_source(device, source) && self.configured(number, source).is_none() {
            return Verdict::dropped(seen, &[DropReason::SourceAddress]);
        }
        self.ip_from_subject(number, frame, seen)
    }

    /// A packet whose subject is known.
    fn ip_from_subject(&mut self, number: SubjectNumber, frame: &[u8], seen: &Seen) -> Verdict {
        let bytes = &frame[14..];
        let is_ipv6 = short(frame, 12) == 0x86dd;
        let parsed = Packet::read(bytes).ok().filter(|packet| packet.source.is_ipv6() == is_ipv6);
        let destination = address_at(bytes, is_ipv6, if is_ipv6 { 24 } else { 16 });
        let is_near = covers(&self.tables.bypass, destination)
            || self.egress(number).is_some_and(|egress| covers(&egress.bypass, destination));
        if is_near && let Seen::Passed { mark: BYPASS_MARK } = seen {
            return self.judge_passing(number, parsed.as_ref(), bytes);
        }
        // What can't be read, and would pass by else.
        let unread = (is_near && !self.rules(number).is_empty()).then_some(DropReason::Firewall);
        let Some(packet) = parsed else {
            let reasons = [DropReason::Malformed, DropReason::ExtensionHeaders, DropReason::NoPersona];
            return Verdict::dropped(seen, &reasons.into_iter().chain(unread).collect::<Vec<_>>());
        };
        let mut refusals: BTreeSet<u32> = shape_refusals(&packet, bytes, Way::Outward).into_iter().collect();
        if !refusals.is_empty() {
            refusals.extend(unread.map(|reason| reason as u32));
        }
        if refusals.is_empty()
            && let Some(verdict) = self.judge_answering(number, &packet, bytes, seen)
        {
            return verdict;
        }
        if refusals.is_empty()
            && let Some(verdict) = self.judge_denied(number, &packet, (bytes, is_near), seen)
        {
            return verdict;
        }
        self.flows_of(number).nat.tries(packet.protocol, ends(&packet).0);
        let egress = self.egress(number).cloned();
        match &egress {
            None => _ = refusals.insert(DropReason::NoPersona as u32),
            Some(egress) => refusals.extend(self.persona_refusals(number, egress, &packet, bytes)),
        }
        if is_near && refusals.is_empty() && !packet.is_icmp_error(bytes) {
            // An old flow towards a near destination goes on as it began; the model has no such flows.
            return Verdict::no(format!("near destination {destination} must pass by, but is {seen:?}"));
        }
        if !refusals.is_empty() {
            return dropped_for(seen, &refusals);
        }
        let egress = egress.expect("else it is refused");
        if let Some(outer) = self.outer_of(&egress, packet.source) {
            self.alike.entry(outer).or_default().0.insert(packet.source);
        }
        self.judge_leaving(number, &egress, &packet, (bytes, frame), seen)
    }

    /// A packet that answers a connection towards the subject passes by, unless it is of a flow of the subject's own.
    fn judge_answering(
        &mut self,
        number: SubjectNumber,
        packet: &Packet,
        bytes: &[u8],
        seen: &Seen,
    ) -> Option<Verdict> {
        if packet.part == Part::Later || packet.is_icmp_error(bytes) || !matches!(packet.protocol, TCP | UDP) {
            return None;
        }
        let (inner, remote) = ends(packet);
        let flow = (packet.protocol, inner, remote);
        let flags = if packet.protocol == TCP { bytes[packet.l4_at + 13] } else { 0 };
        let now_secs = self.now_secs;
        let flows = self.flows_of(number);
        let answer = flows.towards.is_answer(&flow, flags, now_secs);
        match seen {
            Seen::Passed { mark: BYPASS_MARK } if answer != Answer::No => {
                flows.towards.answered(flow, now_secs);
                Some(Verdict::Agreed)
            }
            _ if answer == Answer::Surely(()) && !flows.tried.contains(&flow) => {
                Some(Verdict::no(format!("{flow:?} was opened towards the workload and must pass by, but is {seen:?}")))
            }
            _ => {
                flows.tried.insert(flow);
                None
            }
        }
    }

    pub(super) fn flows_of(&mut self, number: SubjectNumber) -> &mut Flows {
        self.flows.entry(number).or_default()
    }

    pub(super) fn egress(&self, number: SubjectNumber) -> Option<&SubjectEgress> {
        self.tables.subjects.iter().find(|subject| subject.number == number)?.network.as_ref()
    }

    fn persona_refusals(
        &self,
        number: SubjectNumber,
        egress: &SubjectEgress,
        packet: &Packet,
        bytes: &[u8],
    ) -> Vec<u32> {
        let mut refusals = Vec::new();
        let is_ipv6 = packet.source.is_ipv6();
        let lease = if is_ipv6 { egress.lease6 } else { egress.lease };
        if lease.is_none() {
            refusals.extend([DropReason::FamilyDenied as u32, DropReason::NoLease as u32]);
        }
        // The workload shall use what is configured on its interface. A later fragment only follows its first.
        let is_configured = self.tables.leases.iter().any(|entry| Some(entry.id) == lease && entry.configured);
        if is_configured && packet.part != Part::Later && self.configured(number, packet.source).is_none() {
            refusals.push(DropReason::SourceAddress as u32);
            if packet.is_icmp_error(bytes) {
                // What it embeds may be anything, and is looked at first.
                let embedded = [DropReason::Malformed, DropReason::Fragment, DropReason::ExtensionHeaders];
                refusals.extend(embedded.map(|reason| reason as u32));
            }
        }
        let is_allowed = match packet.protocol {
            TCP => egress.allow.tcp,
            UDP => egress.allow.udp,
            ICMP if !is_ipv6 => egress.allow.icmp,
            ICMPV6 if is_ipv6 => egress.allow.icmp,
            _ if !is_ipv6 && !is_configured => {
                refusals.push(DropReason::ProtocolWithoutPort as u32);
                false
            }
            _ => egress.allow.other,
        };
        // Errors belong to the flow that they are about.
        if !is_allowed && !packet.is_icmp_error(bytes) {
            refusals.push(DropReason::ProtocolDenied as u32);
        }
        if packet.part == Part::Later && self.tables.slow_ifindex.is_some() {
            // It waits for its first, which is what is judged.
            refusals.clear();
        }
        refusals
    }

    pub(super) fn lease_of(&self, address: IpAddr) -> Option<&LeaseEntry> {
        self.tables.leases.iter().find(|lease| match (&lease.space, address) {
            (LeaseSpace::Ports { address: leased, .. }, IpAddr::V4(address)) => *leased == address,
            (LeaseSpace::Prefix { prefix }, IpAddr::V6(address)) => prefix.octets()[..8] == address.octets()[..8],
            _ => false,
        })
    }

    /// The lease of the subject's whose address its interface has.
    fn configured(&self, number: SubjectNumber, address: IpAddr) -> Option<&LeaseEntry> {
        self.lease_of(address).filter(|lease| lease.configured && lease.subject == number)
    }

    /// What an IPv6 address becomes under the subject's lease.
    pub(super) fn outer_of(&self, egress: &SubjectEgress, source: IpAddr) -> Option<IpAddr> {
        let lease = self.tables.leases.iter().find(|lease| Some(lease.id) == egress.lease6)?;
        match &lease.space {
            LeaseSpace::Prefix { .. } if lease.configured => Some(source),
            LeaseSpace::Prefix { prefix } => translated(source, *prefix).map(IpAddr::V6),
            LeaseSpace::Ports { .. } => None,
        }
    }

    pub(super) fn ports(&self, egress: &SubjectEgress) -> Option<(std::net::Ipv4Addr, usize)> {
        let lease = self.tables.leases.iter().find(|lease| Some(lease.id) == egress.lease)?;
        match &lease.space {
            LeaseSpace::Ports { address, block_bits, blocks } if !lease.configured => {
                Some((*address, blocks.len() << block_bits))
            }
            _ => None,
        }
    }
}

/// Whether every packet is lost on purpose; of a lesser share the model says nothing of a single packet.
pub(super) fn loses_all(egress: &SubjectEgress) -> bool {
    egress.impair.loss_millionths >= 1_000_000
}

pub(super) fn ensure(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}

fn passed(seen: &Seen) -> Verdict {
    match seen {
        Seen::Passed { mark: BYPASS_MARK } => Verdict::Agreed,
        other => Verdict::no(format!("must pass by, but is {other:?}")),
    }
}

/// A frame without the tag that its device's row names; none, if it hasn't just that one. A tag of VLAN 0 is a priority,
/// of either kind.
fn without_tag(frame: &[u8], wanted: Option<VlanTag>) -> Option<Vec<u8>> {
    let is_tag = |kind: u16| kind == 0x8100 || kind == 0x88a8;
    let kind = short(frame, 12);
    if !is_tag(kind) {
        return wanted.is_none().then(|| frame.to_vec());
    }
    let id = short(frame, 14) & 0xfff;
    let is_named = match wanted {
        None => id == 0,
        Some(VlanTag { id: named, protocol: VlanProtocol::Customer }) => id == named && kind == 0x8100,
        Some(VlanTag { id: named, protocol: VlanProtocol::Service }) => id == named && kind == 0x88a8,
    };
    let is_right = frame.len() >= 18 && is_named && !is_tag(short(frame, 16));
    is_right.then(|| [&frame[..12], &frame[16..]].concat())
}

/// None of the node's business: as it was, mark and all.
pub(super) fn untouched(beside: Beside, seen: &Seen) -> Verdict {
    match seen {
        Seen::Passed { mark } if *mark == beside.mark => Verdict::Agreed,
        other => Verdict::no(format!("must pass as it is, but is {other:?}")),
    }
}

/// A tunnel packet or a probe.
fn is_tunnel(bytes: &[u8], is_ipv6: bool) -> bool {
    let (protocol, l4_at) = if is_ipv6 { (bytes[6], 40) } else { (bytes[9], usize::from(bytes[0] & 15) * 4) };
    protocol == UDP && bytes.len() >= l4_at + 8 && (short(bytes, l4_at) == 6081 || short(bytes, l4_at + 2) == 6081)
}

fn dropped_for(seen: &Seen, reasons: &BTreeSet<u32>) -> Verdict {
    let reasons: Vec<DropReason> =
        DropReason::ALL.iter().copied().filter(|reason| reasons.contains(&(*reason as u32))).collect();
    match seen {
        // An answer to what is too big or too old may come first.
        Seen::Redirected { frame } if tunnel::read(frame).is_err() => Verdict::Agreed,
        Seen::Dropped => Verdict::Drop(
            reasons
                .into_iter()
                .chain([DropReason::MidStream, DropReason::TooBig])
                .chain([DropReason::TtlExpired, DropReason::NoSlowPath, DropReason::NoMapping])
                .collect(),
        ),
        other => Verdict::no(format!("must be dropped as {reasons:?}, but is {other:?}")),
    }
}

pub(super) fn is_own_source(device: &DeviceEntry, source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => device.address == Some(source),
        IpAddr::V6(source) => device.prefix6.is_some_and(|(prefix, length)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            source.to_bits() & mask == prefix.to_bits() & mask
        }),
    }
}

/// The other side of a translation between /64s: the program's arithmetic is property-tested by itself.
pub(super) fn translated(from: IpAddr, prefix: Ipv6Addr) -> Option<Ipv6Addr> {
    let IpAddr::V6(from) = from else { return None };
    let words = |address: Ipv6Addr| persona_common::addr::address6(address.octets());
    let (from, to) = (words(from), words(prefix));
    let adjustment = translation::adjustment([from[0], from[1]], [to[0], to[1]]);
    let out = translation::translate(from, [to[0], to[1]], adjustment)?;
    Some(Ipv6Addr::from(persona_common::addr::octets6(out)))
}

pub(super) fn differs(expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).position(|(left, right)| left != right);
    format!("bytes differ at {at:?}\nexpected {expected:02x?}\nfound    {found:02x?}")
}
