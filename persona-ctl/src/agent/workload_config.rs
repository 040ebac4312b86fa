//! A workload in the configuration: how its packets are told from all others, and what contradicts itself.
//!
//! Three ways: a device of its own; a source prefix on a device that several share; the cgroup of its sockets, for
//! processes of the host itself. One that is told by none of them keeps its ordinary network: it is an instance that is limited.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use persona_core::ids::WorkloadName;
use persona_core::limit::is_unit_name;
use persona_core::units::Cidr;
use serde::{Deserialize, Serialize};

use super::config::HostConfig;
use crate::dataplane::tables::{VlanProtocol, VlanTag};
use crate::limits::{DOCKER_SOCKET, InstanceConfig, Source};
use crate::signals::{MetricsConfig, ScrapePlace, Target};

/// Most different signals that workloads' own pages may make on one node.
const METRIC_NAME_COUNT_MAX: usize = 40;

/// A workload on this node, as the file says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadConfig {
    /// Its name, unique on the node.
    pub name: Option<WorkloadName>,
    /// Its device on the host's side.
    pub device: Option<String>,
    /// The only IPv4 source address that its packets may have, beside leases that are configured on it.
    pub address: Option<Ipv4Addr>,
    /// The only IPv6 source address or prefix that its packets may have, beside leases that are configured on it.
    pub address6: Option<Cidr>,
    /// One source prefix that tells it from others on the same device.
    pub source: Option<Cidr>,
    /// Source prefixes that tell it from others on the same device.
    #[serde(default)]
    pub sources: Vec<Cidr>,
    /// The cgroup v2 that holds its processes; a path from the tree's root.
    pub cgroup: Option<String>,
    /// Limits: the control group of its processes, where that is not `cgroup`; a path from the root of the trees.
    pub limit_cgroup: Option<String>,
    /// Limits: the container that it is, by the Docker Engine's name or id.
    pub container: Option<String>,
    /// Limits: that engine's socket. Default: /var/run/docker.sock.
    pub docker_socket: Option<PathBuf>,
    /// Limits: the file in which runc or crun keeps the state of the container that it is.
    pub oci_state: Option<PathBuf>,
    /// The systemd unit that its limits are for, such as `nginx.service`.
    pub unit: Option<String>,
    /// Limits: the socket of the monitor (QMP) of the QEMU guest that it is.
    pub qmp: Option<PathBuf>,
    /// The host's socket of the virtio-serial port at which the guest's own agent listens (`persona-ctl agent --guest`).
    pub guest_agent: Option<PathBuf>,
    /// Limits: whole disks on which its rates are held, as files or MAJOR:MINOR. Default: every disk of the host.
    #[serde(default)]
    pub io_devices: Vec<String>,
    /// The VLAN tag that its packets carry on the device, 1 to 4,094.
    pub vlan: Option<u16>,
    /// Which kind of tag that is.
    #[serde(default)]
    pub vlan_protocol: VlanProtocol,
    /// Its network namespace, for addresses that are configured. Default: found through the device's peer.
    pub netns: Option<PathBuf>,
    /// A process in its network namespace, instead of `netns`.
    pub pid: Option<u32>,
    /// Whether leased addresses are offered on the device, IPv6 prefixes by router advertisements and IPv4 addresses by
    /// DHCP: for guests, whose inside cannot be reached.
    #[serde(default)]
    pub serve: bool,
    /// The policy file of getaddrinfo inside (gai.conf(5)), by its path on the host, in which Persona keeps a block of its
    /// own. Default: none is touched.
    pub gai_conf: Option<PathBuf>,
    /// Its own page of metrics, and what of it becomes signals.
    pub metrics: Option<MetricsConfig>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// How a workload's packets are told from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// It has a device of its own.
    Device(&'a str),
    /// It shares a device and is told by its source.
    Source(&'a str),
    /// Its sockets are in a cgroup.
    Cgroup(&'a str),
    /// By nothing: it keeps its ordinary network, and no program touches its packets.
    Nothing,
}

/// What is wrong with a workload's configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadConfigError {
    /// It has no name.
    #[error("workload number {0} has no name: set name")]
    Nameless(usize),
    /// It contradicts itself.
    #[error("workload {name}: {what}")]
    Contradiction {
        /// Which workload.
        name: WorkloadName,
        /// What is wrong and what would be valid.
        what: String,
    },
    /// Two workloads share something that must be unique.
    #[error("workloads {first} and {second} have the same {what} {value}: {advice}")]
    Shared {
        /// One workload.
        first: WorkloadName,
        /// The other.
        second: WorkloadName,
        /// Name, device, address, source or cgroup.
        what: &'static str,
        /// The value.
        value: String,
        /// What would be valid.
        advice: &'static str,
    },
    /// Pages of metrics make too many signals.
    #[error("workloads' metrics.signals have {0} different names: at most {METRIC_NAME_COUNT_MAX} on a node")]
    Metrics(usize),
    /// The host's section is wrong.
    #[error("host: {0}")]
    Host(String),
}

impl WorkloadConfig {
    /// Its name. Only for a configuration that was checked.
    pub fn name(&self) -> &WorkloadName {
        self.name.as_ref().expect("a checked workload has a name")
    }

    /// How its packets are told from others'. Only for a configuration that was checked.
    pub fn told(&self) -> Told<'_> {
        match (&self.cgroup, &self.device) {
            (Some(cgroup), _) => Told::Cgroup(cgroup),
            (None, Some(device)) if self.all_sources().next().is_some() => Told::Source(device),
            (None, Some(device)) => Told::Device(device),
            (None, None) => Told::Nothing,
        }
    }

    /// Its source prefixes, however they are written.
    pub fn all_sources(&self) -> impl Iterator<Item = Cidr> {
        self.source.into_iter().chain(self.sources.iter().copied())
    }

    /// The tag that its packets carry.
    pub fn vlan_tag(&self) -> Option<VlanTag> {
        self.vlan.map(|id| VlanTag { id, protocol: self.vlan_protocol })
    }

    /// Which instance its limits are for. None: the configuration does not say.
    pub fn instance(&self) -> Option<InstanceConfig> {
        let container = || {
            let socket = self.docker_socket.clone().unwrap_or_else(|| DOCKER_SOCKET.into());
            Some(Source::Container { socket, name: self.container.clone()? })
        };
        let group = || self.limit_cgroup.clone().or_else(|| self.cgroup.clone()).map(Source::Cgroup);
        let guest = self.qmp.clone().map(Source::Guest);
        let unit = || self.unit.clone().map(Source::Unit);
        let source = guest.or_else(container).or_else(|| self.oci_state.clone().map(Source::Oci));
        let source = source.or_else(unit).or_else(group)?;
        Some(InstanceConfig { source, io_devices: self.io_devices.clone() })
    }

    /// Its own page of metrics, and where that is looked for. None: the configuration names none.
    pub fn metrics_target(&self) -> Option<Target> {
        let metrics = self.metrics.clone()?;
        let process = || self.pid.map(|pid| format!("/proc/{pid}/ns/net").into());
        let place = match self.netns.clone().or_else(process) {
            _ if !metrics.inside => ScrapePlace::Host,
            Some(namespace) => ScrapePlace::Namespace(namespace),
            None => ScrapePlace::Instance(self.instance()?),
        };
        Some(Target { metrics, place })
    }

    /// What is wrong with its page of metrics.
    fn metrics_mistake(&self) -> Option<String> {
        let metrics = self.metrics.as_ref()?;
        let is_nowhere = metrics.inside && self.netns.is_none() && self.pid.is_none() && self.instance().is_none();
        let nowhere =
            is_nowhere.then(|| "metrics.inside needs netns, pid, or a key that says which instance it is".to_owned());
        metrics.mistake().or(nowhere)
    }

    /// Its IPv6 prefix, as tables want it.
    pub fn prefix6(&self) -> Option<(Ipv6Addr, u8)> {
        self.address6.and_then(|range| match range.address() {
            IpAddr::V6(address) => Some((address, range.prefix_length())),
            IpAddr::V4(_) => None,
        })
    }

    fn check_alone(&self, number: usize) -> Result<(), WorkloadConfigError> {
        let Some(name) = &self.name else { return Err(WorkloadConfigError::Nameless(number)) };
        match self.contradiction().map(str::to_owned).or_else(|| self.metrics_mistake()) {
            None => Ok(()),
            Some(what) => Err(WorkloadConfigError::Contradiction { name: name.clone(), what }),
        }
    }

    fn contradiction(&self) -> Option<&'static str> {
        let has_sources = self.all_sources().next().is_some();
        let has_address = self.address.is_some() || self.address6.is_some();
        let has_inside = self.netns.is_some() || self.pid.is_some();
        let is_prefix6 = |range: Cidr| range.address().is_ipv6();
        let is_tag = |tag: u16| (1..=4_094).contains(&tag);
        let is_path = |path: &String| path.starts_with('/') && !path.contains("..");
        let wrong = [
            (self.source.is_some() && !self.sources.is_empty(), "set source for one prefix or sources for several"),
            (has_sources && self.device.is_none(), "sources stand on a device: set device"),
            (
                self.device.is_none() && self.instance().is_none(),
                "set device, or cgroup for processes of the host; or, if it keeps its ordinary network and is only limited, unit, container, oci_state, qmp or limit_cgroup",
            ),
            (self.device.is_some() && self.cgroup.is_some(), "it is told by device or by cgroup, not by both"),
            (has_sources && has_address, "its sources are its addresses: remove address and address6"),
            (self.cgroup.is_some() && has_address, "a cgroup has the host's addresses: remove address and address6"),
            (self.device.is_none() && has_address, "addresses stand on a device: set device"),
            (
                self.gai_conf.is_some() && self.device.is_none() && self.cgroup.is_none(),
                "gai_conf follows a network section: set device or cgroup",
            ),
            (self.address6.is_some_and(|range| !is_prefix6(range)), "address6 is an IPv6 address or prefix"),
            (
                self.address6
                    .into_iter()
                    .chain(self.all_sources())
                    .any(|range| is_prefix6(range) && range.prefix_length() < 64),
                "an IPv6 prefix of a workload has 64 to 128 bits",
            ),
            (self.vlan.is_some() && self.device.is_none(), "a VLAN tag stands on a device: set device"),
            (self.vlan.is_some_and(|tag| !is_tag(tag)), "vlan is 1 to 4094"),
            (
                self.vlan.is_none() && self.vlan_protocol != VlanProtocol::default(),
                "vlan_protocol is that of a tag: set vlan",
            ),
            (
                self.cgroup.as_ref().is_some_and(|path| !is_path(path)),
                "cgroup is a path from the root of the v2 tree, such as /system.slice/web.service",
            ),
            (
                [
                    self.limit_cgroup.is_some(),
                    self.container.is_some(),
                    self.oci_state.is_some(),
                    self.qmp.is_some(),
                    self.unit.is_some(),
                ]
                .iter()
                .filter(|is_set| **is_set)
                .count()
                    > 1,
                "it is one instance: set one of limit_cgroup, container, oci_state, qmp and unit",
            ),
            (
                self.unit.as_ref().is_some_and(|unit| !is_unit_name(unit)),
                "unit is the whole name of a service, scope or slice, such as nginx.service",
            ),
            (
                self.limit_cgroup.as_ref().is_some_and(|path| !is_path(path) || path == "/"),
                "limit_cgroup is a path from the root of the trees, such as /machine.slice/web",
            ),
            (
                self.docker_socket.is_some() && self.container.is_none(),
                "docker_socket is where a container is looked for: set container",
            ),
            (
                self.guest_agent.is_some()
                    && (self.container.is_some()
                        || self.oci_state.is_some()
                        || self.unit.is_some()
                        || self.cgroup.is_some()),
                "guest_agent is of a guest: remove it, or container, oci_state, unit and cgroup",
            ),
            (
                self.guest_agent.as_ref().is_some_and(|path| !path.is_absolute()),
                "guest_agent is the absolute path of a socket",
            ),
            (self.netns.is_some() && self.pid.is_some(), "set netns or pid, not both"),
            (self.serve && has_inside, "an inside that can be entered needs no serve: remove it, or netns and pid"),
            (
                (has_inside || self.serve) && (has_sources || self.device.is_none()),
                "netns, pid and serve need a device of the workload's own",
            ),
            (
                self.device.is_some() && !has_sources && !has_address && !has_inside && !self.serve,
                "set address or address6 (its source), or sources; or netns, pid or serve if it gets configured leases only",
            ),
        ];
        wrong.into_iter().find(|(is_wrong, _)| *is_wrong).map(|(_, what)| what)
    }
}

/// Checks all workloads, each by itself and against the others.
pub(super) fn check(workloads: &[WorkloadConfig], host: &HostConfig) -> Result<(), WorkloadConfigError> {
    mistakes(workloads, host).into_iter().next().map_or(Ok(()), Err)
}

/// Everything that is wrong, one finding for each workload and one for the host.
pub(super) fn mistakes(workloads: &[WorkloadConfig], host: &HostConfig) -> Vec<WorkloadConfigError> {
    let of_workload = |(index, second): (usize, &WorkloadConfig)| {
        let named = workloads[..index].iter().filter(|first| first.name.is_some());
        let clashes = || named.map(|first| check_pair(first, second)).find_map(Result::err);
        second.check_alone(index + 1).err().or_else(clashes)
    };
    let of_workloads = workloads.iter().enumerate().filter_map(of_workload);
    of_workloads.chain(check_metrics(workloads).err()).chain(check_host(workloads, host).err()).collect()
}

/// A node reports a table with a column for each signal.
fn check_metrics(workloads: &[WorkloadConfig]) -> Result<(), WorkloadConfigError> {
    let pages = workloads.iter().filter_map(|workload| workload.metrics.as_ref());
    let names: BTreeSet<&String> = pages.flat_map(|page| page.signals.keys()).collect();
    if names.len() > METRIC_NAME_COUNT_MAX { Err(WorkloadConfigError::Metrics(names.len())) } else { Ok(()) }
}

fn check_host(workloads: &[WorkloadConfig], host: &HostConfig) -> Result<(), WorkloadConfigError> {
    let Some(cgroup) = &host.cgroup else { return Ok(()) };
    if !cgroup.starts_with('/') || cgroup.contains("..") {
        return Err(WorkloadConfigError::Host(format!("cgroup {cgroup} is no path from the root of the v2 tree")));
    }
    let same = workloads.iter().find(|workload| workload.cgroup.as_ref() == Some(cgroup));
    match same.and_then(|workload| workload.name.as_ref()) {
        Some(name) => Err(WorkloadConfigError::Host(format!("cgroup {cgroup} is workload {name}'s already"))),
        None => Ok(()),
    }
}

fn check_pair(first: &WorkloadConfig, second: &WorkloadConfig) -> Result<(), WorkloadConfigError> {
    let shared = |what, value: String, advice| {
        let (first, second) = (first.name().clone(), second.name().clone());
        Err(WorkloadConfigError::Shared { first, second, what, value, advice })
    };
    if first.name == second.name {
        return shared("name", first.name().to_string(), "each needs its own");
    }
    if let Some(cgroup) = first.cgroup.as_ref().filter(|cgroup| second.cgroup.as_ref() == Some(*cgroup)) {
        return shared("cgroup", cgroup.clone(), "each needs its own; one below the other may be another's");
    }
    if let Some(socket) = first.guest_agent.as_ref().filter(|socket| second.guest_agent.as_ref() == Some(*socket)) {
        return shared("guest_agent", socket.display().to_string(), "each needs its own");
    }
    if let Some(address) = first.address.filter(|address| second.address == Some(*address)) {
        return shared("address", address.to_string(), "each needs its own");
    }
    if let Some((one, two)) = first.address6.zip(second.address6).filter(|(one, two)| one.overlaps(two)) {
        return shared("address", format!("{one} and {two}"), "they overlap: each needs its own");
    }
    check_device_pair(first, second)
}

fn check_device_pair(first: &WorkloadConfig, second: &WorkloadConfig) -> Result<(), WorkloadConfigError> {
    let shared = |what, value: String, advice| {
        let (first, second) = (first.name().clone(), second.name().clone());
        Err(WorkloadConfigError::Shared { first, second, what, value, advice })
    };
    let Some(device) = first.device.as_ref().filter(|device| second.device.as_ref() == Some(*device)) else {
        return Ok(());
    };
    let is_by_source = |workload: &WorkloadConfig| workload.all_sources().next().is_some();
    if !is_by_source(first) || !is_by_source(second) {
        return shared("device", device.clone(), "each needs its own, or sources on every one of them");
    }
    if first.vlan_tag() != second.vlan_tag() {
        return shared("device", device.clone(), "a device carries one VLAN tag for all of its workloads");
    }
    let same = first.all_sources().find(|source| second.all_sources().any(|other| other == *source));
    match same {
        Some(source) => {
            shared("source", source.to_string(), "each needs its own; a longer prefix goes before a shorter one")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        workload: Vec<WorkloadConfig>,
        #[serde(default)]
        host: HostConfig,
    }

    fn outcome(text: &str) -> Result<(), String> {
        let file: File = toml::from_str(text).unwrap();
        check(&file.workload, &file.host).map_err(|error| error.to_string())
    }

    #[test]
    fn every_way_to_tell_a_workload_is_understood() {
        let text = "
            host = { cgroup = '/system.slice', gai_conf = '/etc/gai.conf' }
            workload = [
              { name = 'a', device = 'v0', address = '10.0.0.2', address6 = 'fd00:1::/64', vlan = 7 },
              { name = 'b', device = 'br0', sources = ['10.1.0.0/24', 'fd00:2::/64'] },
              { name = 'c', device = 'br0', source = '10.1.0.7' },
              { name = 'd', cgroup = '/system.slice/web.service' },
              { name = 'e', device = 'tap0', serve = true },
              { name = 'f', device = 'v1', netns = '/run/netns/f' },
              { name = 'g', container = 'g' },
              { name = 'h', limit_cgroup = '/machine.slice/h' },
            ]";
        assert_eq!(outcome(text), Ok(()));
        let file: File = toml::from_str(text).unwrap();
        let told: Vec<Told<'_>> = file.workload.iter().map(WorkloadConfig::told).collect();
        assert_eq!(
            told[..4],
            [Told::Device("v0"), Told::Source("br0"), Told::Source("br0"), Told::Cgroup("/system.slice/web.service")]
        );
        assert_eq!(told[6..], [Told::Nothing, Told::Nothing]);
    }

    #[test]
    fn an_instance_is_told_by_what_it_is() {
        let cases = [
            ("device = 'v0'", None),
            ("cgroup = '/x'", Some(Source::Cgroup("/x".into()))),
            ("cgroup = '/x', limit_cgroup = '/y'", Some(Source::Cgroup("/y".into()))),
            ("container = 'c'", Some(Source::Container { socket: DOCKER_SOCKET.into(), name: "c".into() })),
            ("oci_state = '/s'", Some(Source::Oci("/s".into()))),
            ("unit = 'nginx.service'", Some(Source::Unit("nginx.service".into()))),
            ("device = 'v0', qmp = '/q', io_devices = ['8:0']", Some(Source::Guest("/q".into()))),
        ];
        for (text, expected) in cases {
            let file: File = toml::from_str(&format!("workload = [{{ name = 'a', {text} }}]")).unwrap();
            assert_eq!(file.workload[0].instance().map(|instance| instance.source), expected, "{text}");
        }
    }

    #[test]
    fn contradictions_are_named_with_what_would_be_valid() {
        let cases = [
            ("{ device = 'v0', address = '10.0.0.2' }", "number 1 has no name"),
            ("{ name = 'a' }", "set device, or cgroup"),
            ("{ name = 'a', device = 'v0' }", "set address or address6"),
            ("{ name = 'a', device = 'v0', cgroup = '/x' }", "not by both"),
            ("{ name = 'a', device = 'v0', address = '10.0.0.2', source = '10.0.0.2' }", "remove address"),
            ("{ name = 'a', source = '10.0.0.2' }", "set device"),
            ("{ name = 'a', source = '10.0.0.2', container = 'c' }", "sources stand on a device"),
            ("{ name = 'a', address = '10.0.0.2', container = 'c' }", "addresses stand on a device"),
            ("{ name = 'a', netns = '/x', container = 'c' }", "of the workload's own"),
            ("{ name = 'a', gai_conf = '/x', container = 'c' }", "gai_conf follows"),
            ("{ name = 'a', source = '10.0.0.2', cgroup = '/x' }", "set device"),
            ("{ name = 'a', device = 'v0', address6 = '10.0.0.2' }", "IPv6 address or prefix"),
            ("{ name = 'a', device = 'v0', address6 = 'fd00::/48' }", "64 to 128 bits"),
            ("{ name = 'a', device = 'v0', source = 'fd00::/63' }", "64 to 128 bits"),
            ("{ name = 'a', device = 'v0', address = '10.0.0.2', vlan = 4095 }", "1 to 4094"),
            ("{ name = 'a', device = 'v0', address = '10.0.0.2', vlan_protocol = '802.1ad' }", "set vlan"),
            ("{ name = 'a', cgroup = 'x' }", "from the root"),
            ("{ name = 'a', cgroup = '/../x' }", "from the root"),
            ("{ name = 'a', device = 'v0', address = '10.0.0.2', container = 'c', qmp = '/q' }", "one instance"),
            ("{ name = 'a', device = 'v0', address = '10.0.0.2', limit_cgroup = '/' }", "from the root of the trees"),
            ("{ name = 'a', device = 'v0', address = '10.0.0.2', docker_socket = '/s' }", "set container"),
            ("{ name = 'a', container = 'c', guest_agent = '/g' }", "guest_agent is of a guest"),
            ("{ name = 'a', qmp = '/q', guest_agent = 'g' }", "absolute path"),
            ("{ name = 'a', device = 'v0', netns = '/x', pid = 7 }", "not both"),
            ("{ name = 'a', device = 'v0', pid = 7, serve = true }", "needs no serve"),
            ("{ name = 'a', device = 'v0', source = '10.0.0.2', pid = 7 }", "of the workload's own"),
            ("{ name = 'a', device = 'v0', source = '10.0.0.2', sources = ['10.0.0.3'] }", "or sources for several"),
        ];
        for (workload, reason) in cases {
            let error = outcome(&format!("workload = [{workload}]")).unwrap_err();
            assert!(error.contains(reason), "{workload}: {error}");
        }
    }

    #[test]
    fn what_must_be_unique_is() {
        let cases = [
            (
                "{ name = 'a', device = 'v0', address = '10.0.0.2' }",
                "{ name = 'a', device = 'v1', address = '10.0.0.3' }",
                "same name a",
            ),
            (
                "{ name = 'a', device = 'v0', address = '10.0.0.2' }",
                "{ name = 'b', device = 'v1', address = '10.0.0.2' }",
                "same address 10.0.0.2",
            ),
            (
                "{ name = 'a', device = 'v0', address6 = 'fd00::/64' }",
                "{ name = 'b', device = 'v1', address6 = 'fd00::7' }",
                "they overlap",
            ),
            (
                "{ name = 'a', device = 'v0', address = '10.0.0.2' }",
                "{ name = 'b', device = 'v0', address = '10.0.0.3' }",
                "or sources on every one",
            ),
            (
                "{ name = 'a', device = 'v0', source = '10.0.0.2' }",
                "{ name = 'b', device = 'v0', address = '10.0.0.3' }",
                "or sources on every one",
            ),
            (
                "{ name = 'a', device = 'v0', source = '10.0.0.2' }",
                "{ name = 'b', device = 'v0', source = '10.0.0.2' }",
                "same source 10.0.0.2",
            ),
            (
                "{ name = 'a', device = 'v0', source = '10.0.0.2', vlan = 1 }",
                "{ name = 'b', device = 'v0', source = '10.0.0.3' }",
                "one VLAN tag",
            ),
            ("{ name = 'a', cgroup = '/x' }", "{ name = 'b', cgroup = '/x' }", "same cgroup /x"),
        ];
        for (first, second, reason) in cases {
            let error = outcome(&format!("workload = [{first}, {second}]")).unwrap_err();
            assert!(error.contains(reason), "{first} {second}: {error}");
        }
        for (host, reason) in [("/x", "workload a's already"), ("x", "no path"), ("/a/../b", "no path")] {
            let text = format!("host = {{ cgroup = '{host}' }}\nworkload = [{{ name = 'a', cgroup = '/x' }}]");
            assert!(outcome(&text).unwrap_err().contains(reason), "{host}");
        }
    }
}
