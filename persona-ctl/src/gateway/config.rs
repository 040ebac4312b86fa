//! The gateway's configuration: what the file may say, and the checked form that the gateway runs on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::service_config::ServiceFile;
use crate::config::Place;
use crate::dataplane::Coexistence;
use crate::edge::HookChoice;

/// Where the running gateway is spoken to.
pub const SOCKET_DEFAULT: &str = "/run/persona/gateway.sock";

/// A configuration that a gateway cannot run on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GatewayConfigError {
    /// There is nothing to do.
    #[error("neither [[service]] nor [delivery] is set: a gateway has services, a node with instances has a delivery")]
    Nothing,
    /// A gateway without devices.
    #[error("devices is not set: name every device that clients' packets or instances' replies come in on")]
    NoDevices,
    /// Something contradicts itself.
    #[error("{0}")]
    Contradiction(String),
}

/// What the file may say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayFile {
    /// Where maps and links are pinned: a directory on a bpffs.
    pub bpffs: Option<PathBuf>,
    /// Where drains and weights that were set by hand are kept.
    pub state_dir: Option<PathBuf>,
    /// The Unix socket on which `persona-ctl gateway list` and the like find the gateway.
    pub socket: Option<PathBuf>,
    /// Every device that clients' packets or instances' replies come in on.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Where the programs hang.
    #[serde(default)]
    pub hook: HookChoice,
    /// What is done about programs of others at the same hooks.
    #[serde(default)]
    pub coexist: Coexistence,
    /// Where metrics are served, such as `127.0.0.1:9602`. Default: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether the programs log what becomes of every packet. Slow.
    #[serde(default)]
    pub verbose_packets: bool,
    /// Where IPv4 tunnels to nodes start. Default: the source that the kernel would choose.
    pub address: Option<Ipv4Addr>,
    /// Where IPv6 tunnels to nodes start. Default likewise.
    pub address6: Option<Ipv6Addr>,
    /// The services.
    #[serde(default)]
    pub service: Vec<ServiceFile>,
    /// The instances that this host delivers to, where it is a node.
    pub delivery: Option<DeliveryFile>,
}

/// What a delivering node is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryFile {
    /// The device that gateways' tunnels come in on.
    pub device: String,
    /// The address at which they end.
    pub address: IpAddr,
    /// Gateways whose packets are taken.
    pub gateways: Vec<IpAddr>,
    /// The instances here.
    #[serde(default)]
    pub instance: Vec<DeliveredFile>,
}

/// An instance on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveredFile {
    /// What gateways call it.
    pub tunnel_id: u32,
    /// The device towards it.
    pub device: String,
    /// Its own address.
    pub address: IpAddr,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// Where drains and weights that were set by hand are kept.
    pub state_dir: PathBuf,
    /// Where the running gateway is spoken to.
    pub socket: PathBuf,
    /// Everything that needs no check, or has passed it.
    pub file: GatewayFile,
}

impl GatewayFile {
    /// Everything that a checked configuration must not have, with the place in the file.
    pub fn mistakes(&self) -> Vec<(Place, GatewayConfigError)> {
        if self.service.is_empty() && self.devices.is_empty() && self.delivery.is_none() {
            return vec![(Place::File, GatewayConfigError::Nothing)];
        }
        let mut mistakes = Vec::new();
        if !self.service.is_empty() && self.devices.is_empty() {
            mistakes.push((Place::Key("devices"), GatewayConfigError::NoDevices));
        }
        let (mut names, mut keys, mut devices) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for service in &self.service {
            let name = &service.name;
            let same_name = (!names.insert(name)).then(|| format!("service {name} is there twice"));
            let same_key = (!keys.insert(service.key()))
                .then(|| format!("service {name}: another one is at {} port {}, too", service.address, service.port));
            let found = service.validate().err().or(same_name).or(same_key).map(GatewayConfigError::Contradiction);
            mistakes.extend(found.map(|error| (Place::Entry("service", name.clone()), error)));
        }
        let twice = self.devices.iter().filter(|device| !devices.insert(*device));
        let twice = twice.map(|device| GatewayConfigError::Contradiction(format!("device {device} is there twice")));
        mistakes.extend(twice.map(|error| (Place::Key("devices"), error)));
        mistakes
    }

    /// The whole file as it is in force, with defaults.
    pub fn in_force(config: GatewayConfig) -> Self {
        let GatewayConfig { bpffs, state_dir, socket, file } = config;
        Self { bpffs: Some(bpffs), state_dir: Some(state_dir), socket: Some(socket), ..file }
    }

    /// Checks what was read.
    pub fn check(self) -> Result<GatewayConfig, GatewayConfigError> {
        if let Some((_, first)) = self.mistakes().into_iter().next() {
            return Err(first);
        }
        Ok(GatewayConfig {
            bpffs: self.bpffs.clone().unwrap_or_else(|| "/sys/fs/bpf/persona".into()),
            state_dir: self.state_dir.clone().unwrap_or_else(|| "/var/lib/persona/gateway".into()),
            socket: self.socket.clone().unwrap_or_else(|| SOCKET_DEFAULT.into()),
            file: self,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::service_config::DeliveryChoice;
    use super::*;
    use crate::dataplane::gateway_tables::DeliveryEntry;

    fn check(text: &str) -> Result<GatewayConfig, String> {
        let file = toml::from_str::<GatewayFile>(text).map_err(|error| error.to_string())?;
        file.check().map_err(|error| error.to_string())
    }

    const SERVICE: &str = "devices = ['eth0']\n[[service]]\nname = 'web'\naddress = '192.0.2.80'\nport = 80\n";
    const INSTANCE: &str = "[[service.instance]]\nname = 'a'\naddress = '10.0.0.1'\n";

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("", "neither [[service]] nor [delivery]"),
            ("[[service]]\nname = 'web'\naddress = '192.0.2.80'\nport = 80\n", "devices is not set"),
            (&format!("{SERVICE}color = 'red'\n"), "unknown field `color`"),
            (&format!("{SERVICE}delivery = 'magic'\n"), "unknown variant `magic`"),
            (&format!("{SERVICE}client_affinity_secs = 0\n"), "keeps nobody"),
            (&format!("{SERVICE}health = {{ fall = 0 }}\n"), "at least 1"),
            (&format!("{SERVICE}health = {{ interval_ms = 5 }}\n"), "at least 10"),
            (&format!("{SERVICE}health = {{ path = 'ok' }}\n"), "does not begin with `/`"),
            (&format!("{SERVICE}health = {{ statuses = [20] }}\n"), "no HTTP status"),
            (&format!("{SERVICE}{INSTANCE}weight = 1001\n"), "not within 0 to 1000"),
            (&format!("{SERVICE}{INSTANCE}node = '10.0.0.9'\n"), "for delivery = \"tunnel\" only"),
            (&format!("{SERVICE}delivery = 'tunnel'\n{INSTANCE}"), "needs node and tunnel_id"),
            (&format!("{SERVICE}{INSTANCE}{INSTANCE}"), "instance a is there twice"),
            (&format!("{SERVICE}{}", SERVICE.split_once('\n').unwrap().1), "service web is there twice"),
            (&SERVICE.replace("'eth0'", "'eth0', 'eth0'"), "device eth0 is there twice"),
            (&SERVICE.replace("'web'", "'we/b'"), "letters, digits"),
        ];
        for (text, expected) in cases {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = check(&format!("{SERVICE}{INSTANCE}")).unwrap();
        let service = &config.file.service[0];
        let instance = &service.instance[0];
        assert_eq!((service.delivery, instance.weight), (DeliveryChoice::Nat, 100));
        assert_eq!(service.delivery_of(instance), DeliveryEntry::Nat);
        let check = service.check_of(instance).unwrap();
        assert_eq!((check.target.to_string(), check.interval.as_secs()), ("10.0.0.1:80".into(), 1));
        let udp = ServiceFile { protocol: crate::dataplane::gateway_tables::Transport::Udp, ..service.clone() };
        assert_eq!(udp.check_of(instance), None, "nothing answers a connection there");
    }
}
