//! From a desired state and what is observed to the tables of the data plane and the queues, or the reason why not.
//!
//! Pure: the same inputs give the same tables. A state is taken whole or refused whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use persona_core::ids::{EdgeNumber, GroupName, LeaseId, NodeName, PersonaName, SubjectId, SubjectNumber};
use persona_core::maglev;
use persona_core::units::BitRate;
use persona_core::wire::desired::{
    DesiredState, EdgeItem, EnforceAt, Item, LeaseItem, LeaseSpace, Normalise, ProbeItem, ShareItem, SubjectImpair,
    SubjectItem, SubjectNetwork, SubjectQos,
};

use super::budget::{self, Budget, MtuPolicy};
use super::changes::Note;
use super::config::{AgentConfig, Queues};
use super::configure::ConfiguredWorkload;
use super::observe::Observed;
use super::places::{Places, managed_ranges};
use super::planned::{Wishes, planned_tables};
use super::queues::{DEVICE_OVERHEAD_BYTES, Mechanism, OutOfClasses, QueuePlan, ShapedSubject, Upward, plan};
use super::shared_rate::Overbooked;
use crate::dataplane::tables::{
    AllowedProtocols, EdgeEntry, GroupTable, Impairment, LeaseEntry, NodeTables, Normalisation, SubjectEgress,
    SubjectEntry, WireTable,
};

/// Smallest MTU that IPv4 can live with (RFC 791 §3.1), and IPv6 (RFC 8200 §5).
const MTU_MIN: u16 = 68;
const MTU_MIN_V6: u16 = 1_280;

/// What a node has of a total over all nodes before it is told its share, bits per second: with less, a queue that gets its share
/// would not notice for seconds.
const SHARE_BPS_MIN: u64 = 64_000;

/// Smaller than this no router's word makes packets of IPv4: every host takes them (RFC 791 §3.1).
const NARROWED_MIN: u16 = 576;

/// Why a desired state cannot be applied here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The manager sent a subject of another node.
    #[error("{0} does not live on this node")]
    ForeignSubject(SubjectId),
    /// A subject's lease is not in the state.
    #[error("{subject} shall use lease {lease}, which is not in the desired state")]
    UnknownLease {
        /// Who.
        subject: SubjectId,
        /// Which lease.
        lease: LeaseId,
    },
    /// A lease's holder is not in the state.
    #[error("lease {lease} belongs to {subject}, which is not in the desired state")]
    UnknownHolder {
        /// Which lease.
        lease: LeaseId,
        /// Its holder.
        subject: SubjectId,
    },
    /// A group without a single edge that is known.
    #[error("{subject} shall leave through edge group {group}, of which no edge is in the desired state")]
    NoEdges {
        /// Who.
        subject: SubjectId,
        /// Which group.
        group: GroupName,
    },
    /// Inner packets would not fit.
    #[error(
        "persona MTU {mtu} of {subject} does not fit: the way to edge {} carries {} bytes and encapsulation takes {}; lower the persona's mtu to {} or raise the underlay's",
        budget.edge, budget.underlay, budget.encapsulation, budget.inner
    )]
    Mtu {
        /// Who.
        subject: SubjectId,
        /// The persona's.
        mtu: u16,
        /// What there is room for.
        budget: Budget,
    },
    /// A protocol without ports under a lease of ports.
    #[error(
        "IP protocol {protocol} of {subject} has no ports and lease {lease} is not a whole address: valid are 1 (ICMP), 6 (TCP) and 17 (UDP), or a persona with assign: configure"
    )]
    Protocol {
        /// Who.
        subject: SubjectId,
        /// The number.
        protocol: u8,
        /// The lease.
        lease: LeaseId,
    },
    /// Classes have run out.
    #[error(transparent)]
    Classes(#[from] OutOfClasses),
}

/// Everything that a desired state means on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodePlan {
    /// For the data plane.
    pub tables: NodeTables,
    /// For the devices' queues.
    pub queues: QueuePlan,
    /// What subjects have of totals downwards, bits per second.
    pub shares_down: BTreeMap<SubjectNumber, u64>,
    /// Edges to probe.
    pub edges: BTreeMap<EdgeNumber, EdgeItem>,
    /// How to probe them.
    pub probe: ProbeItem,
    /// Leases to report once their last flow has ended.
    pub retiring: Vec<LeaseId>,
    /// Who is behind a number.
    pub subjects: BTreeMap<SubjectNumber, SubjectId>,
    /// What workloads' own interfaces shall have.
    pub configured: Vec<ConfiguredWorkload>,
    /// Policy files of getaddrinfo → the local prefixes that shall prefer IPv6 destinations; none: our block goes.
    pub gai_files: BTreeMap<PathBuf, Vec<(Ipv6Addr, u8)>>,
    /// The host's own local prefixes that shall prefer IPv6 destinations. None: the host's labels are no affair of ours.
    pub host_prefixes: Option<Vec<(Ipv6Addr, u8)>>,
    /// What stands as long as this plan does and somebody should know.
    pub notes: Vec<Note>,
}

/// Maglev tables by the edges and weights that they were built from; building one is the dearest step of a pass.
pub(super) type MaglevCache = BTreeMap<Vec<(EdgeNumber, String, u16)>, Vec<(EdgeNumber, EdgeNumber)>>;

/// What `desired` means on the node that `observed` describes.
pub(super) fn build(
    desired: &DesiredState,
    config: &AgentConfig,
    observed: &Observed,
    policy: MtuPolicy,
    cache: &mut MaglevCache,
) -> Result<NodePlan, Refusal> {
    let parts = Parts::of(desired, &config.name)?;
    parts.check_leases()?;
    let numbers = parts.subjects.values().map(|item| (&item.subject, item.number)).collect();
    let places = Places { config, observed, numbers };
    let (queues, shares_down) = parts.queues(&places, observed)?;
    let mut notes = places.notes(&parts);
    notes.extend(queues.overbooked.iter().map(overbooked_note));
    notes.extend(parts.overbooked_uplink(config));
    let mut subjects = Vec::new();
    for item in parts.subjects.values() {
        // Who keeps its ordinary network is no affair of the programs, but for leases that it had before and that have to end.
        let is_beside = places.keeps_network(&item.subject);
        if is_beside && !parts.leases.iter().any(|lease| lease.subject == item.subject) {
            continue;
        }
        let egress = |network| parts.egress(item, network, observed, policy, &queues, &mut notes);
        let network = item.network.as_ref().filter(|_| !is_beside).map(egress).transpose()?;
        let firewall = item.firewall.as_ref().map(|firewall| firewall.rules.clone()).unwrap_or_default();
        subjects.push(SubjectEntry { number: item.number, network, firewall });
    }
    let groups = parts.groups(observed, cache);
    let planned = planned_tables(parts.wishes(observed), &groups, parts.has_encrypted(), &mut notes);
    let tables = NodeTables {
        underlay_address: observed.address,
        slow_ifindex: None,
        subjects,
        devices: places.devices(),
        cgroups: places.cgroups(),
        sources: places.sources(),
        leases: parts.leases.iter().map(|lease| parts.lease(lease, observed)).collect::<Result<_, _>>()?,
        edges: parts.edges(observed),
        groups,
        planned,
        bypass: places.bypass(),
        managed: managed_ranges(&config.file),
        wire: parts.wire(observed),
    };
    let host = SubjectId::Node(config.name.clone());
    Ok(NodePlan {
        tables,
        queues,
        shares_down,
        probe: parts.probe,
        edges: parts.edges.values().map(|edge| (edge.number, (*edge).clone())).collect(),
        retiring: parts.leases.iter().filter(|lease| lease.retiring).map(|lease| lease.id).collect(),
        subjects: parts.subjects.values().map(|item| (item.number, item.subject.clone())).collect(),
        configured: places.configured(&parts),
        gai_files: places.gai_files(&parts),
        host_prefixes: config.file.host.cgroup.is_some().then(|| places.preferred_prefixes(&host, &parts)),
        notes,
    })
}

/// The items of a state by kind.
pub(super) struct Parts<'a> {
    subjects: BTreeMap<&'a SubjectId, &'a SubjectItem>,
    leases: Vec<&'a LeaseItem>,
    edges: BTreeMap<EdgeNumber, &'a EdgeItem>,
    probe: ProbeItem,
    /// Addresses of the ends of encrypted tunnels.
    tunnels: BTreeSet<IpAddr>,
    /// What the node has of totals over all nodes.
    shares: BTreeMap<&'a PersonaName, &'a ShareItem>,
}

impl<'a> Parts<'a> {
    fn of(desired: &'a DesiredState, node: &NodeName) -> Result<Self, Refusal> {
        let (subjects, leases, edges, probe, tunnels, shares) = Default::default();
        let mut parts = Self { subjects, leases, edges, probe, tunnels, shares };
        for item in desired.items.values() {
            match item {
                Item::Subject(item) if item.subject.node() != node => {
                    return Err(Refusal::ForeignSubject(item.subject.clone()));
                }
                Item::Subject(item) => drop(parts.subjects.insert(&item.subject, item)),
                Item::Lease(lease) => parts.leases.push(lease),
                Item::Edge(edge) => drop(parts.edges.insert(edge.number, edge)),
                Item::Probe(probe) => parts.probe = *probe,
                // Pools and nodes are for edges.
                Item::Pool(_) | Item::Node(_) => {}
                Item::Tunnel(tunnel) => drop(parts.tunnels.insert(tunnel.address)),
                Item::Share(share) => drop(parts.shares.insert(&share.persona, share)),
            }
        }
        Ok(parts)
    }

    fn check_leases(&self) -> Result<(), Refusal> {
        for (subject, item) in &self.subjects {
            let Some(network) = &item.network else { continue };
            for id in network.lease.into_iter().chain(network.lease6) {
                if !self.leases.iter().any(|lease| lease.id == id && lease.subject == **subject) {
                    return Err(Refusal::UnknownLease { subject: (*subject).clone(), lease: id });
                }
            }
            if !self.edges.values().any(|edge| edge.group == network.group) {
                return Err(Refusal::NoEdges { subject: (*subject).clone(), group: network.group.clone() });
            }
        }
        Ok(())
    }

    /// Every subject of the state.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (&'a SubjectId, &'a SubjectItem)> {
        self.subjects.iter().map(|(subject, item)| (*subject, *item))
    }

    /// Every lease of the state.
    pub(super) fn leases(&self) -> impl Iterator<Item = &'a LeaseItem> {
        self.leases.iter().copied()
    }

    /// The network section that a subject wears.
    pub(super) fn network_of(&self, subject: &SubjectId) -> Option<&'a SubjectNetwork> {
        self.subjects.get(subject).and_then(|item| item.network.as_ref())
    }

    /// The leases for a subject's new flows are encrypted both, or neither is.
    fn is_encrypted(&self, network: &SubjectNetwork) -> bool {
        let used = |lease: &&&LeaseItem| [network.lease, network.lease6].contains(&Some(lease.id));
        self.leases.iter().filter(used).any(|lease| lease.encrypted)
    }

    /// `mtu`, or what the ways to the group's edges leave of it, for a packet that is or is not encrypted. Whatever routers
    /// say, IPv6 goes on where `is_ipv6`.
    pub(super) fn lowered(
        &self,
        mtu: u16,
        group: &GroupName,
        is_encrypted: bool,
        is_ipv6: bool,
        observed: &Observed,
    ) -> u16 {
        let edges = || self.edges.values().copied();
        let budget = budget::of_group(group, is_encrypted, edges(), observed).map(|budget| budget.inner);
        let least = if is_ipv6 { MTU_MIN_V6 } else { NARROWED_MIN };
        let narrowed = budget::narrowed(group, is_encrypted, edges(), observed).map(|inner| inner.max(least.into()));
        let limits = budget.into_iter().chain(narrowed);
        limits.fold(mtu, |mtu, limit| u16::try_from(limit).unwrap_or(u16::MAX).min(mtu))
    }

    /// What a tunnel adds at most.
    fn encapsulation(&self) -> u16 {
        let each = self.edges.values().map(|edge| budget::encapsulation_to(edge.address, false));
        let most = each.max().unwrap_or_else(|| budget::encapsulation_to(IpAddr::from([0, 0, 0, 0]), false));
        u16::try_from(most).unwrap_or(u16::MAX)
    }

    /// Queues, and what subjects have of totals downwards. Upwards, encrypted subjects are held to their rates by classes on
    /// the tunnel's device: on the uplink their packets are nobody's.
    fn queues(
        &self,
        places: &Places<'_>,
        observed: &Observed,
    ) -> Result<(QueuePlan, BTreeMap<SubjectNumber, u64>), OutOfClasses> {
        let mechanism = match places.config.file.queues {
            Queues::Auto | Queues::Htb => Mechanism::Classes,
            Queues::Edt => Mechanism::DepartureTimes,
        };
        let (mut shaped, encrypted) = self.shaped(places, observed);
        let shares_down = observed.demands.divide(&mut shaped);
        let (encrypted, beside): (Vec<_>, Vec<_>) =
            shaped.into_iter().partition(|subject| encrypted.contains(&subject.number));
        let tunnel_bytes = self.encapsulation();
        let uplink = Upward { ifindex: observed.uplink.index, overhead_bytes: DEVICE_OVERHEAD_BYTES + tunnel_bytes };
        let mut queues = plan(mechanism, uplink, &beside)?;
        if let Some(ifindex) = observed.wire_ifindex {
            // It has no Ethernet, and what encryption adds comes behind it.
            let upward = Upward { ifindex, overhead_bytes: tunnel_bytes };
            queues.extend(plan(Mechanism::Classes, upward, &encrypted)?);
        }
        Ok((queues, shares_down))
    }

    /// Whether some of its leases go through the encrypted tunnel.
    fn has_encrypted(&self) -> bool {
        self.leases.iter().any(|lease| lease.encrypted)
    }

    /// What goes through the encrypted tunnel.
    fn wire(&self, observed: &Observed) -> WireTable {
        let encrypted = self.leases.iter().filter(|lease| lease.encrypted).map(|lease| lease.space.clone());
        WireTable { ifindex: observed.wire_ifindex, encrypted: encrypted.collect(), edges: self.tunnels.clone() }
    }

    /// Everybody who may have queues, and who of them goes through the encrypted tunnel.
    fn shaped(&self, places: &Places<'_>, observed: &Observed) -> (Vec<ShapedSubject>, BTreeSet<SubjectNumber>) {
        let (mut shaped, mut encrypted) = (Vec::new(), BTreeSet::new());
        for item in self.subjects.values().filter(|item| !places.keeps_network(&item.subject)) {
            let Some(network) = &item.network else { continue };
            let device = places.own_device(&item.subject);
            let (number, mtu, qos) = (item.number, network.mtu, self.held_here(&item.qos));
            let (impair, leaves) = (network.impair.unwrap_or_default(), observed.leaves);
            shaped.push(ShapedSubject { number, mtu, qos, impair, device, leaves });
            encrypted.extend(self.is_encrypted(network).then_some(number));
        }
        (shaped, encrypted)
    }

    /// What the node holds a subject to: nothing where edges do, and of a total over all nodes what it has of it.
    fn held_here(&self, qos: &SubjectQos) -> SubjectQos {
        if qos.enforce_at == EnforceAt::Edge {
            return SubjectQos { egress_bps: None, ingress_bps: None, shared: None, ..qos.clone() };
        }
        let mut qos = qos.clone();
        if let Some(shared) = qos.shared.as_mut().filter(|shared| !shared.scope.is_node()) {
            let share = self.shares.get(&shared.persona);
            let part = |total: u64, share: Option<u64>| total.min(share.unwrap_or(0).max(SHARE_BPS_MIN));
            shared.egress_bps = shared.egress_bps.map(|total| part(total, share.map(|share| share.egress_bps)));
            shared.ingress_bps = shared.ingress_bps.map(|total| part(total, share.map(|share| share.ingress_bps)));
        }
        qos
    }

    /// Guarantees that the uplink cannot keep, where somebody has said what it carries.
    fn overbooked_uplink(&self, config: &AgentConfig) -> Option<Note> {
        let rate = config.file.uplink_rate?;
        let held = self.subjects.values().map(|item| self.held_here(&item.qos));
        let guaranteed = held.filter_map(|qos| qos.shared.and_then(|shared| shared.guaranteed_bps));
        let guaranteed_bps = guaranteed.fold(0, u64::saturating_add);
        let message = format!(
            "subjects of this node are guaranteed {} together, and its uplink carries {rate}: lower guaranteedRate, spread wearers over nodes, or correct uplink_rate",
            BitRate(guaranteed_bps)
        );
        (guaranteed_bps > rate.0).then(|| Note::new("qos.uplink-overbooked", format!("node/{}", config.name), message))
    }

    fn egress(
        &self,
        item: &SubjectItem,
        network: &SubjectNetwork,
        observed: &Observed,
        policy: MtuPolicy,
        queues: &QueuePlan,
        notes: &mut Vec<Note>,
    ) -> Result<SubjectEgress, Refusal> {
        let mtu =
            self.lowered(network.mtu, &network.group, self.is_encrypted(network), network.lease6.is_some(), observed);
        if mtu < network.mtu {
            self.judge_mtu(item, network, observed, policy)?;
            let message = format!(
                "the underlay carries less than persona {} of {} needs: its packets are held to {mtu} bytes instead of {}",
                network.persona, item.subject, network.mtu
            );
            notes.push(Note::new("mtu.lowered", &item.subject, message));
        }
        Ok(SubjectEgress {
            vni: network.vni,
            mtu,
            allow: self.allowed(item, network)?,
            dscp: item.qos.dscp.or(network.normalise.contains(&Normalise::Dscp).then_some(0)),
            egress_class: queues.egress_classes.get(&item.number).copied().unwrap_or(0),
            lease: network.lease,
            lease6: network.lease6,
            filtering: network.filtering,
            bypass: network.bypass.iter().map(|range| (range.address(), range.prefix_length())).collect(),
            normalise: normalisation(&network.normalise),
            impair: impairment(network.impair.unwrap_or_default()),
        })
    }

    /// Whether a persona that does not fit may go on with smaller packets.
    fn judge_mtu(
        &self,
        item: &SubjectItem,
        network: &SubjectNetwork,
        observed: &Observed,
        policy: MtuPolicy,
    ) -> Result<(), Refusal> {
        let is_encrypted = self.is_encrypted(network);
        let Some(budget) = budget::of_group(&network.group, is_encrypted, self.edges.values().copied(), observed)
        else {
            return Ok(());
        };
        // Only a router says that it is too narrow: that is no reason against a state.
        if budget.inner >= network.mtu.into() {
            return Ok(());
        }
        let least = if network.lease6.is_some() { MTU_MIN_V6 } else { MTU_MIN };
        if policy == MtuPolicy::Lower && budget.inner >= least.into() {
            return Ok(());
        }
        Err(Refusal::Mtu { subject: item.subject.clone(), mtu: network.mtu, budget })
    }

    fn allowed(&self, item: &SubjectItem, network: &SubjectNetwork) -> Result<AllowedProtocols, Refusal> {
        let mut allow = AllowedProtocols::default();
        for protocol in &network.protocols {
            match protocol {
                1 | 58 => allow.icmp = true,
                6 => allow.tcp = true,
                17 => allow.udp = true,
                _ => allow.other = true,
            }
        }
        let portless = network.protocols.iter().find(|protocol| ![1, 58, 6, 17].contains(*protocol));
        let of_ports =
            self.leases.iter().find(|lease| Some(lease.id) == network.lease && !lease.space.is_whole_address());
        match (portless, of_ports) {
            (Some(protocol), Some(lease)) => {
                let (subject, lease) = (item.subject.clone(), lease.id);
                Err(Refusal::Protocol { subject, protocol: *protocol, lease })
            }
            _ => Ok(allow),
        }
    }

    fn lease(&self, lease: &LeaseItem, observed: &Observed) -> Result<LeaseEntry, Refusal> {
        let holder = self.subjects.get(&lease.subject);
        let holder =
            holder.ok_or_else(|| Refusal::UnknownHolder { lease: lease.id, subject: lease.subject.clone() })?;
        Ok(LeaseEntry {
            id: lease.id,
            subject: holder.number,
            vni: lease.vni,
            space: lease.space.clone(),
            configured: lease.configured,
            group: lease.group.clone(),
            mtu: self.lowered(lease.mtu, &lease.group, lease.encrypted, is_prefix(lease), observed),
            generation: lease.generation,
        })
    }

    fn edges(&self, observed: &Observed) -> Vec<EdgeEntry> {
        let edges = self.edges.values().filter_map(|edge| {
            let path = observed.paths.get(&edge.number)?;
            Some(EdgeEntry {
                number: edge.number,
                address: edge.address,
                ifindex: path.ifindex,
                next_hop: path.next_hop,
            })
        });
        edges.collect()
    }

    /// Who is planned onto which edges. One that is not in service or cannot be reached carries nobody; one that is being
    /// emptied carries whom the plan has not moved yet.
    fn wishes(&self, observed: &Observed) -> Wishes {
        let mut wishes = Wishes::new();
        for item in self.subjects.values() {
            let Some(network) = &item.network else { continue };
            let is_usable = |edge: &&&EdgeItem| {
                let is_meant = edge.group == network.group && network.planned.contains(&edge.name);
                is_meant && edge.in_service && edge.weight > 0 && observed.paths.contains_key(&edge.number)
            };
            let edges: Vec<EdgeNumber> = self.edges.values().filter(is_usable).map(|edge| edge.number).collect();
            if !edges.is_empty() {
                wishes.entry((network.group.clone(), edges)).or_default().insert(item.number);
            }
        }
        wishes
    }

    /// A table for every group that a lease needs, over the edges in service that can be reached. Edges that are being
    /// emptied get no rows, unless there is nobody else to carry what they carry.
    fn groups(&self, observed: &Observed, cache: &mut MaglevCache) -> Vec<GroupTable> {
        let groups: BTreeSet<&GroupName> = self.leases.iter().map(|lease| &lease.group).collect();
        let mut used = MaglevCache::new();
        let mut tables = Vec::new();
        for group in groups {
            let usable = self.edges.values().filter(|edge| {
                edge.group == *group && edge.in_service && edge.weight > 0 && observed.paths.contains_key(&edge.number)
            });
            let (draining, staying): (Vec<&EdgeItem>, Vec<&EdgeItem>) = usable.copied().partition(|edge| edge.draining);
            let chosen = if staying.is_empty() { draining } else { staying };
            let key: Vec<_> = chosen.iter().map(|edge| (edge.number, edge.name.to_string(), edge.weight)).collect();
            let rows = cache.remove(&key).or_else(|| used.get(&key).cloned()).unwrap_or_else(|| build_rows(&key));
            tables.push(GroupTable { group: group.clone(), rows: rows.clone() });
            used.insert(key, rows);
        }
        *cache = used;
        tables
    }
}

fn overbooked_note(total: &Overbooked) -> Note {
    let Overbooked { persona, total_bps, guaranteed_bps, wearer_count } = total;
    let message = format!(
        "{wearer_count} wearers of {persona} on this node are guaranteed {} together, of a total of {}: each has an equal share of that; raise shared.egressRate, lower guaranteedRate, or spread the wearers over nodes",
        BitRate(*guaranteed_bps),
        BitRate(*total_bps)
    );
    Note::new("qos.overbooked", format!("persona/{persona}"), message)
}

/// Whether a lease is of IPv6.
pub(super) fn is_prefix(lease: &LeaseItem) -> bool {
    matches!(lease.space, LeaseSpace::Prefix { .. })
}

fn build_rows(edges: &[(EdgeNumber, String, u16)]) -> Vec<(EdgeNumber, EdgeNumber)> {
    let edges: Vec<(EdgeNumber, &str, u16)> =
        edges.iter().map(|(number, name, weight)| (*number, name.as_str(), *weight)).collect();
    maglev::build(&edges)
}

/// What the programs hide themselves; a DSCP is hidden by setting one.
fn normalisation(fields: &[Normalise]) -> Normalisation {
    Normalisation {
        hops: fields.contains(&Normalise::Ttl),
        id: fields.contains(&Normalise::IpId),
        timestamps: fields.contains(&Normalise::TcpTimestamps),
        options: fields.contains(&Normalise::TcpOptions),
    }
}

/// What the programs do themselves; delays are queues.
fn impairment(impair: SubjectImpair) -> Impairment {
    Impairment { loss_millionths: impair.loss.millionths(), is_delayed: impair.needs_queue() }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
