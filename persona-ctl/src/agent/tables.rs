//! From a desired state and what is observed to the tables of the data plane and the queues, or the reason why not.
//!
//! Pure: the same inputs give the same tables. A state is taken whole or refused whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use persona_core::ids::{EdgeNumber, GroupName, LeaseId, NodeName, SubjectId, SubjectNumber};
use persona_core::maglev;
use persona_core::wire::desired::{DesiredState, EdgeItem, Item, LeaseItem, ProbeItem, SubjectItem, SubjectNetwork};

use super::config::AgentConfig;
use super::observe::Observed;
use super::queues::{QueuePlan, ShapedSubject, plan};
use super::workload_config::Told;
use crate::dataplane::tables::{
    AllowedProtocols, DeviceEntry, EdgeEntry, GroupTable, LeaseEntry, NodeTables, SubjectEgress, SubjectEntry,
};

/// What encapsulation adds to an inner packet: IPv4 20, UDP 8, Geneve 8 (RFC 8926 §3.4).
const ENCAPSULATION_BYTES: u32 = 36;

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
        "persona MTU {mtu} of {subject} does not fit: the way to edge {edge} carries {underlay} bytes and encapsulation takes {ENCAPSULATION_BYTES}; lower the persona's mtu to {} or raise the underlay's",
        underlay.saturating_sub(ENCAPSULATION_BYTES)
    )]
    Mtu {
        /// Who.
        subject: SubjectId,
        /// The persona's.
        mtu: u16,
        /// The edge.
        edge: EdgeNumber,
        /// The underlay's.
        underlay: u32,
    },
    /// A protocol that is not enforced.
    #[error("IP protocol {protocol} of {subject} cannot be carried: valid are 1 (ICMP), 6 (TCP) and 17 (UDP)")]
    Protocol {
        /// Who.
        subject: SubjectId,
        /// The number.
        protocol: u8,
    },
}

/// Everything that a desired state means on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodePlan {
    /// For the data plane.
    pub tables: NodeTables,
    /// For the devices' queues.
    pub queues: QueuePlan,
    /// Edges to probe.
    pub edges: BTreeMap<EdgeNumber, EdgeItem>,
    /// How to probe them.
    pub probe: ProbeItem,
    /// Leases to report once their last flow has ended.
    pub retiring: Vec<LeaseId>,
    /// Who is behind a number.
    pub subjects: BTreeMap<SubjectNumber, SubjectId>,
}

/// Maglev tables by the edges and weights that they were built from; building one is the dearest step of a pass.
pub(super) type MaglevCache = BTreeMap<Vec<(EdgeNumber, String, u16)>, Vec<(EdgeNumber, EdgeNumber)>>;

/// What `desired` means on the node that `observed` describes.
pub(super) fn build(
    desired: &DesiredState,
    config: &AgentConfig,
    observed: &Observed,
    cache: &mut MaglevCache,
) -> Result<NodePlan, Refusal> {
    let parts = Parts::of(desired, &config.name)?;
    parts.check_leases()?;
    let queues = plan(observed.uplink.index, &parts.shaped(config, observed));
    let mut subjects = Vec::new();
    for item in parts.subjects.values() {
        let network =
            item.network.as_ref().map(|network| parts.egress(item, network, observed, &queues)).transpose()?;
        subjects.push(SubjectEntry { number: item.number, network });
    }
    let tables = NodeTables {
        underlay_address: Some(observed.address.into()),
        slow_ifindex: None,
        subjects,
        devices: parts.devices(config, observed),
        cgroups: Vec::new(),
        sources: Vec::new(),
        leases: parts.leases.iter().map(|lease| parts.lease(lease)).collect::<Result<_, _>>()?,
        edges: parts.edges(observed),
        groups: parts.groups(observed, cache),
        bypass: bypass(config, observed),
        managed: managed(config),
    };
    Ok(NodePlan {
        tables,
        queues,
        probe: parts.probe,
        edges: parts.edges.values().map(|edge| (edge.number, (*edge).clone())).collect(),
        retiring: parts.leases.iter().filter(|lease| lease.retiring).map(|lease| lease.id).collect(),
        subjects: parts.subjects.values().map(|item| (item.number, item.subject.clone())).collect(),
    })
}

/// The items of a state by kind.
struct Parts<'a> {
    subjects: BTreeMap<&'a SubjectId, &'a SubjectItem>,
    leases: Vec<&'a LeaseItem>,
    edges: BTreeMap<EdgeNumber, &'a EdgeItem>,
    probe: ProbeItem,
}

impl<'a> Parts<'a> {
    fn of(desired: &'a DesiredState, node: &NodeName) -> Result<Self, Refusal> {
        let (subjects, leases, edges, probe) = Default::default();
        let mut parts = Self { subjects, leases, edges, probe };
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

    fn shaped(&self, config: &AgentConfig, observed: &Observed) -> Vec<ShapedSubject> {
        let devices = self.devices(config, observed);
        let shaped = self.subjects.values().filter_map(|item| {
            let network = item.network.as_ref()?;
            let device = devices.iter().find(|device| device.subject == Some(item.number)).map(|device| device.ifindex);
            Some(ShapedSubject { number: item.number, mtu: network.mtu, qos: item.qos.clone(), device })
        });
        shaped.collect()
    }

    fn egress(
        &self,
        item: &SubjectItem,
        network: &SubjectNetwork,
        observed: &Observed,
        queues: &QueuePlan,
    ) -> Result<SubjectEgress, Refusal> {
        self.check_mtu(item, network, observed)?;
        Ok(SubjectEgress {
            vni: network.vni,
            mtu: network.mtu,
            allow: allowed(item, network)?,
            dscp: item.qos.dscp,
            egress_class: queues.egress_classes.get(&item.number).copied().unwrap_or(0),
            lease: network.lease,
            lease6: network.lease6,
            filtering: network.filtering,
            bypass: network.bypass.iter().map(|range| (range.address(), range.prefix_length())).collect(),
        })
    }

    fn check_mtu(&self, item: &SubjectItem, network: &SubjectNetwork, observed: &Observed) -> Result<(), Refusal> {
        for edge in self.edges.values().filter(|edge| edge.group == network.group) {
            let Some(path) = observed.paths.get(&edge.number) else { continue };
            let Some(link_mtu) = observed.mtus.get(&path.ifindex) else { continue };
            let underlay = path.mtu.unwrap_or(u32::MAX).min(*link_mtu);
            if underlay < u32::from(network.mtu) + ENCAPSULATION_BYTES {
                let (subject, mtu, edge) = (item.subject.clone(), network.mtu, edge.number);
                return Err(Refusal::Mtu { subject, mtu, edge, underlay });
            }
        }
        Ok(())
    }

    fn devices(&self, config: &AgentConfig, observed: &Observed) -> Vec<DeviceEntry> {
        let devices = config.file.workload.iter().filter_map(|workload| {
            let Told::Device(_) = workload.told() else { return None };
            let subject = SubjectId::Workload(config.name.clone(), workload.name().clone());
            let ifindex = *observed.attached.get(workload.name())?;
            let number = self.subjects.get(&subject)?.number;
            Some(DeviceEntry {
                ifindex,
                subject: Some(number),
                address: Some(workload.address?),
                prefix6: None,
                vlan: None,
            })
        });
        devices.collect()
    }

    fn lease(&self, lease: &LeaseItem) -> Result<LeaseEntry, Refusal> {
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
            mtu: lease.mtu,
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

    /// A table for every group that a lease needs, over the edges in service that can be reached.
    fn groups(&self, observed: &Observed, cache: &mut MaglevCache) -> Vec<GroupTable> {
        let groups: BTreeSet<&GroupName> = self.leases.iter().map(|lease| &lease.group).collect();
        let mut used = MaglevCache::new();
        let mut tables = Vec::new();
        for group in groups {
            let usable = self.edges.values().filter(|edge| {
                edge.group == *group
                    && edge.in_service
                    && !edge.draining
                    && edge.weight > 0
                    && observed.paths.contains_key(&edge.number)
            });
            let key: Vec<_> = usable.map(|edge| (edge.number, edge.name.to_string(), edge.weight)).collect();
            let rows = cache.remove(&key).or_else(|| used.get(&key).cloned()).unwrap_or_else(|| build_rows(&key));
            tables.push(GroupTable { group: group.clone(), rows: rows.clone() });
            used.insert(key, rows);
        }
        *cache = used;
        tables
    }
}

fn build_rows(edges: &[(EdgeNumber, String, u16)]) -> Vec<(EdgeNumber, EdgeNumber)> {
    let edges: Vec<(EdgeNumber, &str, u16)> =
        edges.iter().map(|(number, name, weight)| (*number, name.as_str(), *weight)).collect();
    maglev::build(&edges)
}

fn allowed(item: &SubjectItem, network: &SubjectNetwork) -> Result<AllowedProtocols, Refusal> {
    let mut allow = AllowedProtocols::default();
    for protocol in &network.protocols {
        match protocol {
            1 | 58 => allow.icmp = true,
            6 => allow.tcp = true,
            17 => allow.udp = true,
            _ => return Err(Refusal::Protocol { subject: item.subject.clone(), protocol: *protocol }),
        }
    }
    Ok(allow)
}

/// The subnets on workload devices, this host's own addresses, and what the configuration adds.
fn bypass(config: &AgentConfig, observed: &Observed) -> Vec<(IpAddr, u8)> {
    let on_workloads = |ifindex: u32| observed.attached.values().any(|attached| *attached == ifindex);
    let subnets = observed.addresses.iter().filter(|address| on_workloads(address.ifindex));
    let bits = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let own = observed.addresses.iter().map(|address| (address.address, bits(address.address)));
    let configured = config.file.bypass.iter().map(|range| (range.address(), range.prefix_length()));
    let all: BTreeSet<_> = subnets.map(|address| address.subnet()).chain(own).chain(configured).collect();
    all.into_iter().collect()
}

/// What the configuration says, and every workload's address: a workload without a subject yet must not leak either.
fn managed(config: &AgentConfig) -> Vec<(IpAddr, u8)> {
    let configured = config.file.managed.iter().map(|range| (range.address(), range.prefix_length()));
    let workloads = config.file.workload.iter().filter_map(|workload| Some((workload.address?.into(), 32)));
    let all: BTreeSet<_> = configured.chain(workloads).collect();
    all.into_iter().collect()
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
