//! The agent's configuration: what the file may say, and the checked form that the agent runs on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use persona_core::ids::{Capability, NodeName};
use persona_core::units::{BitRate, Cidr};
use serde::{Deserialize, Serialize};

use super::trial::ROLLBACK_AFTER_SECS;
use super::workload_config::{self, WorkloadConfig, WorkloadConfigError};
use crate::config::Place;
use crate::dataplane::{Coexistence, Offloads};
use crate::limits::LimitsConfig;
use crate::manager_link::joined_managers;
use crate::privilege;
use crate::wire::Wireguard;

/// Where an agent keeps its state if nothing else is said.
pub const STATE_DIR: &str = "/var/lib/persona/agent";

/// What is shown in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// A configuration that lacks something or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A key that must be set is not.
    #[error("{key} is not set: set it in the configuration file, or give {flag}")]
    Missing {
        /// The key in the file.
        key: &'static str,
        /// The flag that goes over it.
        flag: &'static str,
    },
    /// An edge that can carry nothing.
    #[error(
        "capacity.{key} is 0: write what the edge can carry, or leave the key out; an edge that shall carry nothing is drained"
    )]
    NoCapacity {
        /// The key in the capacity.
        key: &'static str,
    },
    /// More of the processor than there is.
    #[error("capacity.cpu_percent is {percent}; use 1 to 100, or leave it out")]
    Percent {
        /// What the file says.
        percent: u8,
    },
    /// A routing table that is the kernel's own.
    #[error("announce.table {table} is the kernel's own; use another number, such as 126, or 254 for the main table")]
    ReservedTable {
        /// Its number.
        table: u32,
    },
    /// The connection is not even given up in that time.
    #[error("rollback_after_secs is {0}; use 10 or more, or 0 for never")]
    Rollback(u32),
    /// A workload that contradicts itself or another one.
    #[error(transparent)]
    Workload(#[from] WorkloadConfigError),
    /// The join token's file cannot be read.
    #[error("join token file {path} cannot be read")]
    JoinToken {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What the file may say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The node's name.
    pub name: Option<NodeName>,
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
    /// The device towards the underlay.
    pub uplink: Option<String>,
    /// The node's address on the underlay, of either family. Default: the uplink's first IPv4 address, else its first
    /// IPv6 address that is not link-local.
    pub address: Option<IpAddr>,
    /// Capabilities that the node wants of a persona.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Free labels, used by bindings' selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Destinations that pass by the persona.
    #[serde(default)]
    pub bypass: Vec<Cidr>,
    /// Source ranges that never leave untouched.
    #[serde(default)]
    pub managed: Vec<Cidr>,
    /// What the guard holds back.
    #[serde(default)]
    pub guard: Guard,
    /// What is done about programs of others at the same hooks.
    #[serde(default)]
    pub coexist: Coexistence,
    /// What holds subjects to their rates.
    #[serde(default)]
    pub queues: Queues,
    /// What the uplink carries, inner IP bytes. Guarantees that are more than that are told. Default: not known.
    pub uplink_rate: Option<BitRate>,
    /// What is done about offloads of the uplink that lose packets.
    #[serde(default)]
    pub offloads: Offloads,
    /// For this long after programs are first attached, connections that were open before may pass as they are, seconds.
    #[serde(default)]
    pub adopt_secs: u32,
    /// A generation that touches this host's own way to the managers is taken back if none answers for this long, seconds;
    /// 10 or more, 0: never. Default: 30.
    pub rollback_after_secs: Option<u32>,
    /// Where metrics are served, such as `127.0.0.1:9600`. Default: nowhere.
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
    /// Where flows are exported to. Default: nowhere.
    pub flow_export: Option<FlowExportConfig>,
    /// How limits of workloads are kept.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// What applications may ask for themselves.
    #[serde(default)]
    pub requests: RequestsConfig,
    /// The host's own processes.
    #[serde(default)]
    pub host: HostConfig,
    /// The workloads.
    #[serde(default)]
    pub workload: Vec<WorkloadConfig>,
}

/// An IPFIX collector (RFC 7011) that is told of every flow that opens or closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowExportConfig {
    /// Its address and UDP port; IANA's is 4739.
    pub collector: SocketAddr,
    /// The observation domain by which the collector tells nodes apart.
    #[serde(default)]
    pub domain: u32,
}

/// How applications of this node ask for capabilities, each for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsConfig {
    /// The Unix socket on which they ask. Default: there is none.
    pub socket: Option<PathBuf>,
}

/// The host's own processes as a subject, `node/NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The cgroup v2 whose sockets, and those below it, wear the node's persona; a path from the tree's root. Default: the host has none.
    pub cgroup: Option<String>,
    /// The policy file of getaddrinfo (RFC 6724, gai.conf(5)) in which Persona keeps a block of its own. Default: none is touched.
    pub gai_conf: Option<PathBuf>,
}

/// What holds subjects to their rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queues {
    /// Whatever serves best: classes of HTB.
    #[default]
    Auto,
    /// Classes of HTB.
    Htb,
    /// Departure times with `fq` on every device where nothing is asked that they cannot do: totals and delays.
    Edt,
}

/// Which packets never leave the uplink untouched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// Those of workload devices and managed ranges.
    #[default]
    Managed,
    /// Every forwarded packet.
    AllForwarded,
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The node's name.
    pub name: NodeName,
    /// URLs of managers. Empty: the join token says where they are, or the one that the node joined with did.
    pub managers: Vec<String>,
    /// A join token, or an empty text where the node has joined already.
    pub join_token: String,
    /// Where key, certificate and the last desired state are kept.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// The device towards the underlay.
    pub uplink: String,
    /// The node's address on the underlay, where it is given.
    pub address: Option<IpAddr>,
    /// Everything that needs no check.
    pub file: AgentFile,
}

impl AgentConfig {
    /// The control groups that packets are told by.
    pub(super) fn groups(&self) -> impl Iterator<Item = &String> {
        let workloads = self.file.workload.iter().filter_map(|workload| workload.cgroup.as_ref());
        workloads.chain(&self.file.host.cgroup)
    }
}

impl AgentFile {
    /// Where maps and links are pinned.
    pub fn bpffs_or_default(&self) -> PathBuf {
        self.bpffs.clone().unwrap_or_else(|| "/sys/fs/bpf/persona".into())
    }

    fn state_dir_or_default(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| STATE_DIR.into())
    }

    fn read_join_token(&self) -> Result<String, ConfigurationError> {
        read_join_token(self.join_token.as_deref(), self.join_token_file.as_ref(), &self.state_dir_or_default())
    }

    /// Everything that a checked configuration must not have.
    pub fn mistakes(&self) -> Vec<ConfigurationError> {
        let missing = |key, flag| ConfigurationError::Missing { key, flag };
        let workloads = workload_config::mistakes(&self.workload, &self.host).into_iter();
        let token = self.read_join_token().err();
        let keys = [
            self.name.is_none().then(|| missing("name", "--name")),
            self.uplink.is_none().then(|| missing("uplink", "--uplink")),
        ];
        let rollback = self.rollback_after_secs.filter(|secs| (1..10).contains(secs)).map(ConfigurationError::Rollback);
        let others = keys.into_iter().flatten().chain(rollback).chain(token);
        workloads.map(ConfigurationError::Workload).chain(others).collect()
    }

    /// The whole file as it is in force, with defaults, and without secrets.
    pub fn in_force(config: AgentConfig) -> Self {
        let AgentConfig { state_dir, bpffs, file, .. } = config;
        let join_token = file.join_token.as_ref().map(|_| REDACTED.to_owned());
        let rollback_after_secs = Some(file.rollback_after_secs.unwrap_or(ROLLBACK_AFTER_SECS));
        Self { state_dir: Some(state_dir), bpffs: Some(bpffs), join_token, rollback_after_secs, ..file }
    }

    /// Checks what was read.
    pub fn check(self) -> Result<AgentConfig, ConfigurationError> {
        let missing = |key, flag| ConfigurationError::Missing { key, flag };
        if let Some(first) = self.mistakes().into_iter().next() {
            return Err(first);
        }
        Ok(AgentConfig {
            name: self.name.clone().ok_or_else(|| missing("name", "--name"))?,
            managers: split_urls(self.manager.as_deref()),
            join_token: self.read_join_token()?,
            state_dir: self.state_dir_or_default(),
            bpffs: self.bpffs_or_default(),
            uplink: self.uplink.clone().ok_or_else(|| missing("uplink", "--uplink"))?,
            address: self.address,
            file: self,
        })
    }
}

impl ConfigurationError {
    /// Where in the file it is.
    pub fn place(&self) -> Place {
        match self {
            Self::Missing { key, .. } => Place::Key(key),
            Self::NoCapacity { .. } | Self::Percent { .. } => Place::Key("capacity"),
            Self::ReservedTable { .. } => Place::Key("announce"),
            Self::Rollback(_) => Place::Key("rollback_after_secs"),
            Self::JoinToken { .. } => Place::Key("join_token_file"),
            Self::Workload(WorkloadConfigError::Nameless(_) | WorkloadConfigError::Metrics(_)) => {
                Place::Key("workload")
            }
            Self::Workload(WorkloadConfigError::Contradiction { name, .. }) => {
                Place::Entry("workload", name.to_string())
            }
            Self::Workload(WorkloadConfigError::Shared { second, .. }) => Place::Entry("workload", second.to_string()),
            Self::Workload(WorkloadConfigError::Host(_)) => Place::Key("host"),
        }
    }
}

/// URLs that are written with commas between them.
pub fn split_urls(urls: Option<&str>) -> Vec<String> {
    let urls = urls.unwrap_or_default().split(',').map(str::trim).filter(|url| !url.is_empty());
    urls.map(str::to_owned).collect()
}

/// The join token as given, or from its file; empty if neither is set, or if the file is gone and whoever has this state
/// directory needs it no more.
pub fn read_join_token(
    given: Option<&str>,
    file: Option<&PathBuf>,
    state_dir: &Path,
) -> Result<String, ConfigurationError> {
    match (given, file) {
        (Some(token), _) => Ok(token.to_owned()),
        (None, Some(path)) => match privilege::read_join_token(path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound && !joined_managers(state_dir).is_empty() => {
                Ok(String::new())
            }
            Err(source) => Err(ConfigurationError::JoinToken { path: path.clone(), source }),
        },
        (None, None) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> AgentFile {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_missing_key_is_named_with_its_flag() {
        let error = file("name = 'n1'\nmanager = 'http://m:1'").check().unwrap_err().to_string();
        assert!(error.contains("uplink") && error.contains("--uplink"), "{error}");
    }

    #[test]
    fn a_join_token_that_is_gone_is_missed_only_until_the_node_has_joined() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display();
        let text = format!("name = 'n1'\nuplink = 'u'\nstate_dir = '{place}'\njoin_token_file = '{place}/token'");
        assert!(matches!(file(&text).check().unwrap_err(), ConfigurationError::JoinToken { .. }));
        let membership = r#"{"certificate":"","givenMs":0,"expiresMs":0,"roots":[],"managers":["https://m:1"]}"#;
        std::fs::write(directory.path().join("membership.json"), membership).unwrap();
        assert_eq!(file(&text).check().unwrap().join_token, "");
        std::fs::create_dir(directory.path().join("token")).unwrap();
        assert!(file(&text).check().is_err(), "what is there must be readable");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_valid_ones() {
        let error = toml::from_str::<AgentFile>("uplnk = 'eth0'").unwrap_err().to_string();
        assert!(error.contains("uplnk") && error.contains("uplink"), "{error}");
    }

    #[test]
    fn ranges_and_addresses_are_of_either_family() {
        let text = "
            name = 'n1'
            manager = 'http://m:1'
            uplink = 'eth0'
            address = '2001:db8::11'
            bypass = ['10.0.0.0/8', '2001:db8::/32', '192.0.2.1']
            managed = ['fd00:10::/48']";
        let config = file(text).check().unwrap();
        assert!(config.address.unwrap().is_ipv6());
        assert_eq!(config.file.bypass[2].prefix_length(), 32);
        let error = toml::from_str::<AgentFile>("bypass = ['10.0.0.1/8']").unwrap_err().to_string();
        assert!(error.contains("host bits are zero"), "{error}");
    }
}
