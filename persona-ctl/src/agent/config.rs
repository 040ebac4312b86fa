//! The agent's configuration: what the file may say, and the checked form that the agent runs on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use persona_core::ids::{Capability, NodeName, WorkloadName};
use serde::Deserialize;

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
    /// Two workloads share something that must be unique.
    #[error("workloads {first} and {second} have the same {what} {value}: each needs its own")]
    Shared {
        /// One workload.
        first: WorkloadName,
        /// The other.
        second: WorkloadName,
        /// Name, device or address.
        what: &'static str,
        /// The value.
        value: String,
    },
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
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The node's name.
    pub name: Option<NodeName>,
    /// The manager's URL.
    pub manager: Option<String>,
    /// A join token; once registered it is not needed any more.
    pub join_token: Option<String>,
    /// A file that holds the join token.
    pub join_token_file: Option<PathBuf>,
    /// Where key, bearer and the last desired state are kept.
    pub state_dir: Option<PathBuf>,
    /// Where maps and links are pinned: a directory on a bpffs.
    pub bpffs: Option<PathBuf>,
    /// The device towards the underlay.
    pub uplink: Option<String>,
    /// The node's address on the underlay. Default: the uplink's first IPv4 address.
    pub address: Option<Ipv4Addr>,
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
    /// For this long after programs are first attached, connections that were open before may pass as they are, seconds.
    #[serde(default)]
    pub adopt_secs: u32,
    /// The workloads.
    #[serde(default)]
    pub workload: Vec<WorkloadConfig>,
}

/// A workload on this node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadConfig {
    /// Its name, unique on the node.
    pub name: WorkloadName,
    /// Its device on the host's side.
    pub device: String,
    /// The only source address that its packets may have.
    pub address: Ipv4Addr,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Which packets never leave the uplink untouched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// Those of workload devices and managed ranges.
    #[default]
    Managed,
    /// Every forwarded packet.
    AllForwarded,
}

/// An IPv4 range such as `10.0.0.0/8`; an address alone is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    /// Its first address.
    pub address: Ipv4Addr,
    /// Bits that all its addresses share.
    pub prefix_length: u8,
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The node's name.
    pub name: NodeName,
    /// The manager's URL.
    pub manager: String,
    /// A join token, or an empty text where the node is registered already.
    pub join_token: String,
    /// Where key, bearer and the last desired state are kept.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// The device towards the underlay.
    pub uplink: String,
    /// The node's address on the underlay, where it is given.
    pub address: Option<Ipv4Addr>,
    /// Everything that needs no check.
    pub file: AgentFile,
}

impl AgentFile {
    /// Checks what was read.
    pub fn check(self) -> Result<AgentConfig, ConfigurationError> {
        let missing = |key, flag| ConfigurationError::Missing { key, flag };
        self.check_workloads()?;
        Ok(AgentConfig {
            name: self.name.clone().ok_or_else(|| missing("name", "--name"))?,
            manager: self.manager.clone().ok_or_else(|| missing("manager", "--manager"))?,
            join_token: read_join_token(self.join_token.as_deref(), self.join_token_file.as_ref())?,
            state_dir: self.state_dir.clone().unwrap_or_else(|| "/var/lib/persona/agent".into()),
            bpffs: self.bpffs.clone().unwrap_or_else(|| "/sys/fs/bpf/persona".into()),
            uplink: self.uplink.clone().ok_or_else(|| missing("uplink", "--uplink"))?,
            address: self.address,
            file: self,
        })
    }

    fn check_workloads(&self) -> Result<(), ConfigurationError> {
        for (index, second) in self.workload.iter().enumerate() {
            for first in &self.workload[..index] {
                let shared = [
                    ("name", first.name == second.name, second.name.to_string()),
                    ("device", first.device == second.device, second.device.clone()),
                    ("address", first.address == second.address, second.address.to_string()),
                ];
                if let Some((what, _, value)) = shared.into_iter().find(|(_, is_shared, _)| *is_shared) {
                    let (first, second) = (first.name.clone(), second.name.clone());
                    return Err(ConfigurationError::Shared { first, second, what, value });
                }
            }
        }
        Ok(())
    }
}

/// The join token as given, or from its file; empty if neither is set.
pub fn read_join_token(given: Option<&str>, file: Option<&PathBuf>) -> Result<String, ConfigurationError> {
    match (given, file) {
        (Some(token), _) => Ok(token.to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| ConfigurationError::JoinToken { path: path.clone(), source })?;
            Ok(text.trim().to_owned())
        }
        (None, None) => Ok(String::new()),
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not an IPv4 range: write one such as 10.0.0.0/8");
        let (address, prefix_length) = match text.split_once('/') {
            Some((address, length)) => (address, length.parse().map_err(|_| invalid())?),
            None => (text, 32),
        };
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let host_bits = u32::MAX.checked_shr(u32::from(prefix_length)).unwrap_or(0);
        if prefix_length > 32 {
            Err(invalid())
        } else if address.to_bits() & host_bits != 0 {
            let first = Ipv4Addr::from_bits(address.to_bits() & !host_bits);
            Err(format!("{text:?} has bits set behind its prefix: did you mean {first}/{prefix_length}?"))
        } else {
            Ok(Self { address, prefix_length })
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        for (text, expected) in [("10.0.0.0/8", Some(8)), ("10.1.2.3", Some(32)), ("0.0.0.0/0", Some(0))] {
            assert_eq!(text.parse::<Cidr>().ok().map(|cidr| cidr.prefix_length), expected, "{text}");
        }
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0/8", "", "fe80::/10"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!("10.0.0.1/8".parse::<Cidr>().unwrap_err().contains("10.0.0.0/8"));
    }

    fn file(text: &str) -> AgentFile {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_missing_key_is_named_with_its_flag() {
        let error = file("name = 'n1'\nmanager = 'http://m:1'").check().unwrap_err().to_string();
        assert!(error.contains("uplink") && error.contains("--uplink"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_valid_ones() {
        let error = toml::from_str::<AgentFile>("uplnk = 'eth0'").unwrap_err().to_string();
        assert!(error.contains("uplnk") && error.contains("uplink"), "{error}");
    }

    #[test]
    fn two_workloads_never_share_an_address() {
        let text = "
            name = 'n1'
            manager = 'http://m:1'
            uplink = 'eth0'
            workload = [
              { name = 'a', device = 'v0', address = '10.0.0.2' },
              { name = 'b', device = 'v1', address = '10.0.0.2' },
            ]";
        let error = file(text).check().unwrap_err().to_string();
        assert!(error.contains("same address 10.0.0.2"), "{error}");
    }
}
