//! The edge's configuration: what the file may say, and the checked form that the edge runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use persona_core::content::Bounds;
use persona_core::ids::{Capability, EdgeName, GroupName};
use persona_core::units::Cidr;
use persona_core::wire::agent::EdgeCapacity;
use serde::{Deserialize, Serialize};

use crate::agent::{ConfigurationError, REDACTED, read_join_token, split_urls};
use crate::dataplane::{Coexistence, Hook, Offloads};
use crate::wire::Wireguard;

/// What the file may say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeFile {
    /// The edge's name.
    pub name: Option<EdgeName>,
    /// URLs of managers, with commas between them; by default those that the join token names.
    pub manager: Option<String>,
    /// A join token; once registered it is not needed any more.
    pub join_token: Option<String>,
    /// A file that holds the join token.
    pub join_token_file: Option<PathBuf>,
    /// Where key, certificate and the last desired state are kept.
    pub state_dir: Option<PathBuf>,
    /// Where maps and links are pinned: a directory on a bpffs.
    pub bpffs: Option<PathBuf>,
    /// The group it belongs to.
    pub group: Option<GroupName>,
    /// The device towards the nodes.
    pub inside: Option<String>,
    /// The device towards the outside.
    pub outside: Option<String>,
    /// Its address on the underlay, of either family. Default: the inside device's first IPv4 address, else its first
    /// IPv6 address that is not link-local.
    pub address: Option<IpAddr>,
    /// Where IPv4 packets to the outside go.
    pub outside_next_hop: Option<Ipv4Addr>,
    /// Where IPv6 packets to the outside go; may be link-local.
    pub outside_next_hop6: Option<Ipv6Addr>,
    /// Routes to what it carries, for a routing daemon to tell others. Default: none.
    pub announce: Option<AnnounceFile>,
    /// Where the programs hang.
    #[serde(default)]
    pub hook: HookChoice,
    /// What is done about programs of others at the same hooks.
    #[serde(default)]
    pub coexist: Coexistence,
    /// What is done about offloads of the inside device that lose packets.
    #[serde(default)]
    pub offloads: Offloads,
    /// Where metrics are served, such as `127.0.0.1:9601`. Default: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Which WireGuard encrypts the tunnels of encrypted personas.
    #[serde(default)]
    pub wireguard: Wireguard,
    /// The UDP port on which it listens. Default: 51820.
    pub wireguard_port: Option<u16>,
    /// How long a key of WireGuard is used before another one takes its place, hours, give or take a tenth. 0: for good.
    /// Default: 24.
    pub wireguard_rotate_hours: Option<u32>,
    /// Whether the programs log what becomes of every packet, for a person to read. Slow.
    #[serde(default)]
    pub verbose_packets: bool,
    /// Capabilities that the edge offers.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// What it can carry.
    pub capacity: Option<CapacityFile>,
    /// Which sources of content it measures its way to.
    #[serde(default)]
    pub contents: ContentsFile,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Which sources of content an edge measures its way to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContentsFile {
    /// Whether it measures at all.
    pub measure: bool,
    /// Ranges of private networks in which content may be.
    pub allow: Vec<Cidr>,
    /// Ranges towards which nothing is measured.
    pub deny: Vec<Cidr>,
}

impl Default for ContentsFile {
    fn default() -> Self {
        Self { measure: true, allow: Vec::new(), deny: Vec::new() }
    }
}

/// Where routes stand, and who else tells of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnounceFile {
    /// The number of the routing table that the routes stand in. 254 is the kernel's main one.
    pub table: u32,
    /// Whether ARP and neighbour discovery are answered as well. Edges of a group do alike.
    #[serde(default)]
    pub neighbours: Neighbours,
}

/// What is done about ARP and neighbour discovery for egress addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Neighbours {
    /// The edge answers for its share of them, and announces what it takes over.
    #[default]
    Answer,
    /// Nobody is answered.
    Leave,
}

/// Where an edge keeps its state if nothing else is said.
pub const STATE_DIR: &str = "/var/lib/persona/edge";

/// Tables that no route of ours may stand in: none, and the kernel's own for local addresses.
const RESERVED_TABLES: [u32; 2] = [0, 255];

/// What an edge can carry, as the file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityFile {
    /// Bits per second, both directions together.
    pub bits_per_sec: u64,
    /// Leases.
    pub lease_count: u32,
    /// Packets per second, both directions together. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_sec: Option<u64>,
    /// Flows at a time. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_count: Option<u64>,
    /// How much of the host's processor time may be in use, percent. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u8>,
}

impl CapacityFile {
    /// The keys that say that the edge can carry nothing at all.
    fn zeros(self) -> impl Iterator<Item = &'static str> {
        let figures = [
            ("bits_per_sec", Some(self.bits_per_sec)),
            ("lease_count", Some(self.lease_count.into())),
            ("packets_per_sec", self.packets_per_sec),
            ("flow_count", self.flow_count),
            ("cpu_percent", self.cpu_percent.map(u64::from)),
        ];
        figures.into_iter().filter(|(_, figure)| *figure == Some(0)).map(|(key, _)| key)
    }
}

/// Where the programs hang.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum HookChoice {
    /// XDP where the driver has it natively, TC on veth and tap.
    #[default]
    Auto,
    /// Traffic control.
    Tc,
    /// XDP.
    Xdp,
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The edge's name.
    pub name: EdgeName,
    /// URLs of managers. Empty: the join token says where they are, or the one that the edge joined with did.
    pub managers: Vec<String>,
    /// A join token, or an empty text where the edge has joined already.
    pub join_token: String,
    /// Where key, certificate and the last desired state are kept.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// The group it belongs to.
    pub group: GroupName,
    /// The device towards the nodes.
    pub inside: String,
    /// The device towards the outside.
    pub outside: String,
    /// Its address on the underlay, where it is given.
    pub address: Option<IpAddr>,
    /// Where IPv4 packets to the outside go; one of the two next hops is there.
    pub outside_next_hop: Option<Ipv4Addr>,
    /// Where IPv6 packets to the outside go.
    pub outside_next_hop6: Option<Ipv6Addr>,
    /// Everything that needs no check.
    pub file: EdgeFile,
}

impl EdgeFile {
    fn state_dir_or_default(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| STATE_DIR.into())
    }

    fn read_join_token(&self) -> Result<String, ConfigurationError> {
        read_join_token(self.join_token.as_deref(), self.join_token_file.as_ref(), &self.state_dir_or_default())
    }

    /// Everything that a checked configuration must not have.
    pub fn mistakes(&self) -> Vec<ConfigurationError> {
        let missing = |key, flag| ConfigurationError::Missing { key, flag };
        let has_next_hop = self.outside_next_hop.is_some() || self.outside_next_hop6.is_some();
        let next_hops = ("outside_next_hop or outside_next_hop6", "--outside-next-hop or --outside-next-hop6");
        let keys = [
            self.name.is_none().then(|| missing("name", "--name")),
            self.group.is_none().then(|| missing("group", "--group")),
            self.inside.is_none().then(|| missing("inside", "--inside")),
            self.outside.is_none().then(|| missing("outside", "--outside")),
            (!has_next_hop).then(|| missing(next_hops.0, next_hops.1)),
        ];
        let token = self.read_join_token().err();
        let zeros = self.capacity.into_iter().flat_map(CapacityFile::zeros);
        let zeros = zeros.map(|key| ConfigurationError::NoCapacity { key });
        let percent = self.capacity.and_then(|capacity| capacity.cpu_percent).filter(|percent| *percent > 100);
        let percent = percent.map(|percent| ConfigurationError::Percent { percent });
        let reserved = self.announce.map(|announce| announce.table).filter(|table| RESERVED_TABLES.contains(table));
        let reserved = reserved.map(|table| ConfigurationError::ReservedTable { table });
        keys.into_iter().flatten().chain(token).chain(zeros).chain(percent).chain(reserved).collect()
    }

    /// The whole file as it is in force, with defaults, and without secrets.
    pub fn in_force(config: EdgeConfig) -> Self {
        let EdgeConfig { state_dir, bpffs, file, .. } = config;
        let join_token = file.join_token.as_ref().map(|_| REDACTED.to_owned());
        Self { state_dir: Some(state_dir), bpffs: Some(bpffs), join_token, ..file }
    }

    /// Checks what was read.
    pub fn check(self) -> Result<EdgeConfig, ConfigurationError> {
        let missing = |key, flag| ConfigurationError::Missing { key, flag };
        if let Some(first) = self.mistakes().into_iter().next() {
            return Err(first);
        }
        Ok(EdgeConfig {
            name: self.name.clone().ok_or_else(|| missing("name", "--name"))?,
            managers: split_urls(self.manager.as_deref()),
            join_token: self.read_join_token()?,
            state_dir: self.state_dir_or_default(),
            bpffs: self.bpffs.clone().unwrap_or_else(|| "/sys/fs/bpf/persona".into()),
            group: self.group.clone().ok_or_else(|| missing("group", "--group"))?,
            inside: self.inside.clone().ok_or_else(|| missing("inside", "--inside"))?,
            outside: self.outside.clone().ok_or_else(|| missing("outside", "--outside"))?,
            address: self.address,
            outside_next_hop: self.outside_next_hop,
            outside_next_hop6: self.outside_next_hop6,
            file: self,
        })
    }
}

impl EdgeConfig {
    /// The routing table that routes to it stand in, where some shall.
    pub(super) fn announced_table(&self) -> Option<u32> {
        self.file.announce.map(|announce| announce.table)
    }

    /// What is done about ARP and neighbour discovery.
    pub(super) fn neighbours(&self) -> Neighbours {
        self.file.announce.map(|announce| announce.neighbours).unwrap_or_default()
    }

    /// Towards which contents it measures. None: it measures nothing.
    pub(super) fn content_bounds(&self) -> Option<Bounds> {
        let ContentsFile { measure, allow, deny } = self.file.contents.clone();
        measure.then_some(Bounds { allow, deny })
    }

    /// The next hops on the outside; any of them that answers makes the outside alive.
    pub(super) fn outside_targets(&self) -> BTreeSet<IpAddr> {
        let ipv4 = self.outside_next_hop.map(IpAddr::V4);
        ipv4.into_iter().chain(self.outside_next_hop6.map(IpAddr::V6)).collect()
    }
}

impl From<HookChoice> for Hook {
    fn from(choice: HookChoice) -> Self {
        match choice {
            HookChoice::Auto => Self::Auto,
            HookChoice::Tc => Self::Tc,
            HookChoice::Xdp => Self::Xdp,
        }
    }
}

impl From<CapacityFile> for EdgeCapacity {
    fn from(capacity: CapacityFile) -> Self {
        let CapacityFile { bits_per_sec, lease_count, packets_per_sec, flow_count, cpu_percent } = capacity;
        Self { bits_per_sec, lease_count, packets_per_sec, flow_count, cpu_percent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_named_in_turn() {
        let mut text = String::new();
        for (key, line) in [
            ("name", "name = 'e1'"),
            ("group", "group = 'g'"),
            ("inside", "inside = 'in0'"),
            ("outside", "outside = 'out0'"),
            ("outside_next_hop", "outside_next_hop = '198.51.100.1'"),
        ] {
            let error = toml::from_str::<EdgeFile>(&text).unwrap().check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
            text = format!("{text}{line}\n");
        }
        text.push_str("hook = 'xdp'\ncapacity = { bits_per_sec = 1000, lease_count = 5 }\n");
        let config = toml::from_str::<EdgeFile>(&text).unwrap().check().unwrap();
        assert_eq!(config.file.hook, HookChoice::Xdp);
        let empty = text.replace("lease_count = 5", "lease_count = 5, packets_per_sec = 0");
        let error = toml::from_str::<EdgeFile>(&empty).unwrap().check().unwrap_err().to_string();
        assert!(error.starts_with("capacity.packets_per_sec is 0"), "{error}");
        let beyond = text.replace("lease_count = 5", "lease_count = 5, cpu_percent = 101");
        let error = toml::from_str::<EdgeFile>(&beyond).unwrap().check().unwrap_err().to_string();
        assert!(error.starts_with("capacity.cpu_percent is 101"), "{error}");
        let reserved = format!("{text}announce = {{ table = 255 }}");
        let error = toml::from_str::<EdgeFile>(&reserved).unwrap().check().unwrap_err().to_string();
        assert!(error.starts_with("announce.table 255"), "{error}");
        let text =
            text.replace("outside_next_hop = '198.51.100.1'", "outside_next_hop6 = 'fe80::1'\naddress = 'fd00::1'");
        let config = toml::from_str::<EdgeFile>(&text).unwrap().check().unwrap();
        assert_eq!(config.outside_targets(), ["fe80::1".parse().unwrap()].into(), "IPv6 alone will do");
    }
}
