//! Where subjects are found on this host: devices, sources, control groups; and whose addresses are whose. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use persona_core::document::Direction;
use persona_core::ids::{SubjectId, SubjectNumber};
use persona_core::wire::desired::{Assign, LeaseSpace, PREFIX_LENGTH, SubjectItem, SubjectQos};

use super::changes::Note;
use super::config::{AgentConfig, AgentFile};
use super::configure::{ConfiguredLease, ConfiguredWorkload, Reach};
use super::observe::Observed;
use super::tables::{Parts, is_prefix};
use super::workload_config::{Told, WorkloadConfig};
use crate::dataplane::tables::{CgroupEntry, DeviceEntry, SourceEntry};

/// The configuration and the kernel, as places where the subjects of a state may be.
pub(super) struct Places<'a> {
    pub config: &'a AgentConfig,
    pub observed: &'a Observed,
    pub numbers: BTreeMap<&'a SubjectId, SubjectNumber>,
}

impl Places<'_> {
    /// Devices whose packets are looked at: those of one workload, and those that several share.
    pub(super) fn devices(&self) -> Vec<DeviceEntry> {
        let mut devices = BTreeMap::new();
        for (workload, number, ifindex) in self.attached() {
            let is_shared = matches!(workload.told(), Told::Source(_));
            let entry = DeviceEntry {
                ifindex,
                subject: (!is_shared).then_some(number),
                address: workload.address,
                prefix6: workload.prefix6(),
                vlan: workload.vlan_tag(),
            };
            devices.entry(ifindex).or_insert(entry);
        }
        devices.into_values().collect()
    }

    /// Subjects behind shared devices.
    pub(super) fn sources(&self) -> Vec<SourceEntry> {
        let shared = self.attached().filter(|(workload, ..)| matches!(workload.told(), Told::Source(_)));
        let entries = shared.flat_map(|(workload, subject, ifindex)| {
            workload.all_sources().map(move |range| SourceEntry {
                prefix: (range.address(), range.prefix_length()),
                subject,
                ifindex,
            })
        });
        entries.collect()
    }

    /// Subjects among the host's own processes.
    pub(super) fn cgroups(&self) -> Vec<CgroupEntry> {
        let workloads = self.config.file.workload.iter().filter_map(|workload| {
            let Told::Cgroup(path) = workload.told() else { return None };
            Some((path, self.number_of(workload)?))
        });
        let host = SubjectId::Node(self.config.name.clone());
        let host = self.config.file.host.cgroup.as_deref().zip(self.numbers.get(&host).copied());
        let known = workloads.chain(host);
        known
            .filter_map(|(path, subject)| Some(CgroupEntry { id: *self.observed.cgroups.get(path)?, subject }))
            .collect()
    }

    /// The device that only this subject's packets go through.
    pub(super) fn own_device(&self, subject: &SubjectId) -> Option<u32> {
        let SubjectId::Workload(_, name) = subject else { return None };
        let workload = self.config.file.workload.iter().find(|workload| workload.name() == name)?;
        matches!(workload.told(), Told::Device(_)).then(|| self.observed.attached.get(name).copied()).flatten()
    }

    /// What workloads' own interfaces shall have: every workload that has a device, also one that shall have nothing.
    pub(super) fn configured(&self, parts: &Parts<'_>) -> Vec<ConfiguredWorkload> {
        let of_device = self.config.file.workload.iter().filter_map(|workload| {
            let Told::Device(_) = workload.told() else { return None };
            let ifindex = *self.observed.attached.get(workload.name())?;
            let subject = SubjectId::Workload(self.config.name.clone(), workload.name().clone());
            Some(ConfiguredWorkload {
                name: workload.name().clone(),
                ifindex,
                reach: reach(workload),
                leases: configured_leases(&subject, parts, self.observed),
                preferred_prefixes: self.preferred_prefixes(&subject, parts),
            })
        });
        of_device.collect()
    }

    /// The unique local prefixes (RFC 4193) of a subject that shall prefer IPv6: from these, the default policy would
    /// choose IPv4 for every destination outside.
    pub(super) fn preferred_prefixes(&self, subject: &SubjectId, parts: &Parts<'_>) -> Vec<(Ipv6Addr, u8)> {
        if !parts.network_of(subject).is_some_and(|network| network.prefer_ipv6) {
            return Vec::new();
        }
        let local = |(address, length): (IpAddr, u8)| match address {
            IpAddr::V6(address) if address.is_unique_local() && length > 7 => Some((address, length)),
            _ => None,
        };
        let found: BTreeSet<_> = match subject {
            SubjectId::Workload(_, name) => {
                let workload = self.config.file.workload.iter().find(|workload| workload.name() == name);
                let ranges = workload
                    .into_iter()
                    .flat_map(|workload| workload.address6.into_iter().chain(workload.all_sources()));
                ranges.filter_map(|range| local((range.address(), range.prefix_length()))).collect()
            }
            SubjectId::Node(_) => {
                self.observed.addresses.iter().filter_map(|address| local(address.subnet())).collect()
            }
        };
        found.into_iter().collect()
    }

    /// Every configured policy file of getaddrinfo, and what shall stand in it.
    pub(super) fn gai_files(&self, parts: &Parts<'_>) -> BTreeMap<PathBuf, Vec<(Ipv6Addr, u8)>> {
        let host = self.config.file.host.gai_conf.clone();
        let host = host.map(|path| (path, SubjectId::Node(self.config.name.clone())));
        let workloads = self.config.file.workload.iter().filter_map(|workload| {
            let subject = SubjectId::Workload(self.config.name.clone(), workload.name().clone());
            Some((workload.gai_conf.clone()?, subject))
        });
        let files = host.into_iter().chain(workloads);
        files.map(|(path, subject)| (path, self.preferred_prefixes(&subject, parts))).collect()
    }

    /// What cannot be had where a subject is found.
    pub(super) fn notes(&self, parts: &Parts<'_>) -> Vec<Note> {
        let mut notes = Vec::new();
        for (subject, item) in parts.subjects() {
            let is_beside = self.keeps_network(subject);
            let of_packets = [item.network.is_some(), item.qos != SubjectQos::default(), item.firewall.is_some()];
            if is_beside && of_packets.contains(&true) {
                let message = format!(
                    "{subject} keeps its ordinary network, and what its persona says of network, rates and firewall is not in force: set device or cgroup for it in this agent's file"
                );
                notes.push(Note::new("network.unreachable", subject, message));
            }
            if !is_beside && self.lacks_device(subject) && has_ingress_rule(item) {
                let message = format!(
                    "ingress rules of {subject} hold for what comes through its persona alone: no program sees what others send to processes of the host"
                );
                notes.push(Note::new("firewall.unenforced", subject, message));
            }
            let Some(network) = item.network.as_ref().filter(|_| !is_beside) else { continue };
            let has_own_device = match subject {
                SubjectId::Node(_) => false,
                SubjectId::Workload(_, name) => {
                    let mut workloads = self.config.file.workload.iter();
                    workloads.any(|workload| workload.name() == name && matches!(workload.told(), Told::Device(_)))
                }
            };
            if matches!(subject, SubjectId::Node(_)) && self.config.file.host.cgroup.is_none() {
                let message = format!(
                    "{subject} wears {}, but no cgroup is set under [host]: none of the host's processes is steered",
                    network.persona
                );
                notes.push(Note::new("host.unclassified", subject, message));
            }
            if network.assign == Assign::Configure && !has_own_device {
                let message = format!(
                    "persona {} assigns addresses to the interface of {subject}, which has none of its own: use assign: rewrite",
                    network.persona
                );
                notes.push(Note::new("configure.unreachable", subject, message));
            }
            if item.qos.ingress_most_bps().is_some() && !has_own_device {
                let message = format!("ingressRate of {subject} is not held: it has no device of its own for a queue");
                notes.push(Note::new("qos.unenforced", subject, message));
            }
            if network.impair.is_some_and(|impair| impair.needs_queue()) && !has_own_device {
                let message = format!(
                    "packets to {subject} are neither delayed nor repeated, only those from it: it has no device of its own for a queue"
                );
                notes.push(Note::new("impair.unenforced", subject, message));
            }
            if let Some(link) = self.own_device(subject).and_then(|ifindex| self.observed.link(ifindex))
                && link.mtu < u32::from(network.mtu)
            {
                let message = format!(
                    "device {} of {subject} carries {} bytes, persona {} lets {} come: raise the device's MTU or lower the persona's",
                    link.name, link.mtu, network.persona, network.mtu
                );
                notes.push(Note::new("mtu.device", subject, message));
            }
        }
        notes
    }

    /// Destinations that pass by: the subnets on workload devices, this host's own addresses, and what the configuration adds.
    pub(super) fn bypass(&self) -> Vec<(IpAddr, u8)> {
        let on_workloads = |ifindex: u32| self.observed.attached.values().any(|attached| *attached == ifindex);
        // Link-local destinations pass by nature, on every link.
        let addresses = || self.observed.addresses.iter().filter(|address| !address.is_link_local());
        let subnets = addresses().filter(|address| on_workloads(address.ifindex)).map(|address| address.subnet());
        let own = addresses().map(|address| (address.address, bits(address.address)));
        let configured = self.config.file.bypass.iter().map(|range| (range.address(), range.prefix_length()));
        let all: BTreeSet<_> = subnets.chain(own).chain(configured).collect();
        all.into_iter().collect()
    }

    /// Whether nothing tells a workload's packets from others'.
    pub(super) fn keeps_network(&self, subject: &SubjectId) -> bool {
        let SubjectId::Workload(_, name) = subject else { return false };
        let mut workloads = self.config.file.workload.iter();
        workloads.any(|workload| workload.name() == name && workload.told() == Told::Nothing)
    }

    /// Whether a subject's packets are those of processes of the host.
    fn lacks_device(&self, subject: &SubjectId) -> bool {
        let SubjectId::Workload(_, name) = subject else { return true };
        let mut workloads = self.config.file.workload.iter();
        workloads.any(|workload| workload.name() == name && matches!(workload.told(), Told::Cgroup(_)))
    }

    /// Workloads with a device that is there and a subject that is known.
    fn attached(&self) -> impl Iterator<Item = (&WorkloadConfig, SubjectNumber, u32)> {
        self.config.file.workload.iter().filter_map(|workload| {
            Some((workload, self.number_of(workload)?, *self.observed.attached.get(workload.name())?))
        })
    }

    fn number_of(&self, workload: &WorkloadConfig) -> Option<SubjectNumber> {
        let subject = SubjectId::Workload(self.config.name.clone(), workload.name().clone());
        self.numbers.get(&subject).copied()
    }
}

/// What the configuration says, and every workload's addresses: a workload without a subject yet must not leak either.
pub(super) fn managed_ranges(file: &AgentFile) -> Vec<(IpAddr, u8)> {
    let workloads = file.workload.iter().flat_map(|workload| {
        let own = workload.address.map(|address| (address.into(), 32));
        let ranges = workload.address6.into_iter().chain(workload.all_sources());
        own.into_iter().chain(ranges.map(|range| (range.address(), range.prefix_length())))
    });
    let configured = file.managed.iter().map(|range| (range.address(), range.prefix_length()));
    let all: BTreeSet<_> = configured.chain(workloads).collect();
    all.into_iter().collect()
}

fn has_ingress_rule(item: &SubjectItem) -> bool {
    let mut rules = item.firewall.iter().flat_map(|firewall| &firewall.rules);
    rules.any(|rule| rule.direction == Direction::Ingress)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn reach(workload: &WorkloadConfig) -> Reach {
    match (&workload.netns, workload.pid, workload.serve) {
        (Some(path), ..) => Reach::Namespace(path.clone()),
        (None, Some(pid), _) => Reach::Process(pid),
        (None, None, true) => Reach::Serve,
        (None, None, false) => Reach::Peer,
    }
}

/// A subject's configured leases, the oldest first.
fn configured_leases(subject: &SubjectId, parts: &Parts<'_>, observed: &Observed) -> Vec<ConfiguredLease> {
    let network = parts.network_of(subject).filter(|network| network.assign == Assign::Configure);
    let current = |id| network.is_some_and(|network| network.lease == Some(id) || network.lease6 == Some(id));
    let mut leases: Vec<_> = parts.leases().filter(|lease| lease.configured && lease.subject == *subject).collect();
    leases.sort_by_key(|lease| lease.id);
    let lease = |lease: &&persona_core::wire::desired::LeaseItem| {
        let (address, prefix_length) = match &lease.space {
            LeaseSpace::Ports { address, .. } => (IpAddr::V4(*address), 32),
            LeaseSpace::Prefix { prefix } => (Ipv6Addr::from_bits(prefix.to_bits() | 1).into(), PREFIX_LENGTH),
        };
        let mtu = parts.lowered(lease.mtu, &lease.group, lease.encrypted, is_prefix(lease), observed);
        ConfiguredLease { address, prefix_length, is_current: current(lease.id), mtu }
    };
    leases.iter().map(lease).collect()
}
