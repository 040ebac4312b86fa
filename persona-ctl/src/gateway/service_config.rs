//! What the file says of one service, and the checks that it must pass.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use persona_core::gateway::health::HealthPolicy;
use serde::{Deserialize, Serialize};

use super::check::{CheckKind, CheckSpec};
use crate::dataplane::gateway_tables::{DeliveryEntry, ServiceKey, Transport};

/// Weights go from 0 (no new flows) to this; 100 where nothing is said.
pub(super) const WEIGHT_MAX: u16 = 1_000;

/// The shortest time between two checks, milliseconds.
const INTERVAL_MS_MIN: u64 = 10;

/// A service, as the file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    /// Its name, unique.
    pub name: String,
    /// The address that clients connect to.
    pub address: IpAddr,
    /// The port that clients connect to.
    pub port: u16,
    /// Its protocol.
    #[serde(default = "tcp")]
    pub protocol: Transport,
    /// Whether the gateway answers ARP and neighbour solicitations for the address.
    #[serde(default)]
    pub on_link: bool,
    /// How packets reach instances, and replies the client.
    #[serde(default)]
    pub delivery: DeliveryChoice,
    /// Keeps a client's flows with one instance; forgotten after so many seconds without a new one.
    pub client_affinity_secs: Option<u32>,
    /// The largest IP packet that reaches an instance, bytes. Default: what the way there carries.
    pub mtu: Option<u32>,
    /// How instances are checked.
    #[serde(default)]
    pub health: HealthFile,
    /// Its instances.
    #[serde(default)]
    pub instance: Vec<InstanceFile>,
}

fn tcp() -> Transport {
    Transport::Tcp
}

/// How packets reach an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryChoice {
    /// With the destination rewritten; replies pass the gateway.
    #[default]
    Nat,
    /// As they are, to a neighbour; replies leave directly.
    L2,
    /// As they are, in a tunnel to the instance's node; replies leave directly.
    Tunnel,
}

/// An instance, as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceFile {
    /// Its name, unique in the service.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Its own port. Default: the service's.
    pub port: Option<u16>,
    /// Its share of new flows, 0 to 1000. Default: 100.
    #[serde(default = "weight_default")]
    pub weight: u16,
    /// Whether it gets no new flows.
    #[serde(default)]
    pub draining: bool,
    /// Delivery by tunnel: its node's address on the underlay.
    pub node: Option<IpAddr>,
    /// Delivery by tunnel: what its node knows it by.
    pub tunnel_id: Option<u32>,
}

fn weight_default() -> u16 {
    100
}

/// How instances are checked, as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthFile {
    /// What is tried. Default: `tcp`, and `none` where the service is UDP.
    pub check: Option<CheckChoice>,
    /// From the start of one check to the start of the next, milliseconds.
    pub interval_ms: u64,
    /// How long a check may take, milliseconds.
    pub timeout_ms: u64,
    /// Checks in a row that make a dead instance well.
    pub rise: u32,
    /// Checks in a row that make it dead.
    pub fall: u32,
    /// The port that is tried. Default: the instance's.
    pub port: Option<u16>,
    /// HTTP: what is asked for.
    pub path: String,
    /// HTTP: the Host header. Default: the instance's address.
    pub host: Option<String>,
    /// HTTP: the statuses that are well. Default: 200 to 399.
    pub statuses: Vec<u16>,
}

impl Default for HealthFile {
    fn default() -> Self {
        Self {
            check: None,
            interval_ms: 1_000,
            timeout_ms: 1_000,
            rise: 2,
            fall: 3,
            port: None,
            path: "/".into(),
            host: None,
            statuses: Vec::new(),
        }
    }
}

/// What a check tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckChoice {
    /// A TCP connection.
    Tcp,
    /// An HTTP/1.1 GET.
    Http,
    /// Nothing: instances are taken for well.
    None,
}

impl ServiceFile {
    /// Where it is.
    pub fn key(&self) -> ServiceKey {
        ServiceKey { address: self.address, port: self.port, protocol: self.protocol }
    }

    /// How it judges checks.
    pub fn policy(&self) -> HealthPolicy {
        HealthPolicy { rise: self.health.rise, fall: self.health.fall }
    }

    /// An instance's port.
    pub fn port_of(&self, instance: &InstanceFile) -> u16 {
        instance.port.unwrap_or(self.port)
    }

    /// How an instance is delivered to. Only of what passed [`Self::validate`].
    pub fn delivery_of(&self, instance: &InstanceFile) -> DeliveryEntry {
        match (self.delivery, instance.node, instance.tunnel_id) {
            (DeliveryChoice::Tunnel, Some(node), Some(tunnel_id)) => DeliveryEntry::Tunnel { node, tunnel_id },
            (DeliveryChoice::L2, ..) => DeliveryEntry::L2,
            _ => DeliveryEntry::Nat,
        }
    }

    /// How an instance is checked; None: it is taken for well.
    pub(super) fn check_of(&self, instance: &InstanceFile) -> Option<CheckSpec> {
        let health = &self.health;
        let target = SocketAddr::new(instance.address, health.port.unwrap_or(self.port_of(instance)));
        let kind = match health.check {
            Some(CheckChoice::None) => return None,
            None if self.protocol == Transport::Udp => return None,
            Some(CheckChoice::Http) => CheckKind::Http {
                path: health.path.clone(),
                host: health.host.clone(),
                statuses: health.statuses.clone(),
            },
            Some(CheckChoice::Tcp) | None => CheckKind::Tcp,
        };
        let (interval, timeout) = (Duration::from_millis(health.interval_ms), Duration::from_millis(health.timeout_ms));
        Some(CheckSpec { kind, target, interval, timeout })
    }

    /// Says what is wrong with it, and what would be valid.
    pub fn validate(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!("service name {:?}: letters, digits, `-`, `_` and `.` only", self.name));
        }
        let told = |error: String| format!("service {}: {error}", self.name);
        self.validate_health().map_err(told)?;
        if self.client_affinity_secs == Some(0) {
            return Err(told("client_affinity_secs = 0 keeps nobody: leave it out, or give a time".into()));
        }
        let mut names = BTreeSet::new();
        for instance in &self.instance {
            if !names.insert(&instance.name) {
                return Err(told(format!("instance {} is there twice", instance.name)));
            }
            self.validate_instance(instance).map_err(|error| told(format!("instance {}: {error}", instance.name)))?;
        }
        Ok(())
    }

    fn validate_health(&self) -> Result<(), String> {
        let health = &self.health;
        if health.interval_ms < INTERVAL_MS_MIN || health.timeout_ms == 0 {
            return Err(format!("health: interval_ms is at least {INTERVAL_MS_MIN}, timeout_ms at least 1"));
        }
        if health.rise == 0 || health.fall == 0 {
            return Err("health: rise and fall are at least 1".into());
        }
        if !health.path.starts_with('/') {
            return Err(format!("health: path {:?} does not begin with `/`", health.path));
        }
        match health.statuses.iter().find(|status| !(100..=599).contains(*status)) {
            Some(status) => Err(format!("health: {status} is no HTTP status: 100 to 599")),
            None => Ok(()),
        }
    }

    fn validate_instance(&self, instance: &InstanceFile) -> Result<(), String> {
        if !is_name(&instance.name) {
            return Err("its name may have letters, digits, `-`, `_` and `.` only".into());
        }
        if instance.weight > WEIGHT_MAX {
            return Err(format!("weight {} is not within 0 to {WEIGHT_MAX}", instance.weight));
        }
        let is_tunnelled = self.delivery == DeliveryChoice::Tunnel;
        match (is_tunnelled, instance.node, instance.tunnel_id) {
            (true, Some(_), Some(_)) | (false, None, None) => Ok(()),
            (true, ..) => Err("delivery by tunnel needs node and tunnel_id".into()),
            (false, ..) => Err("node and tunnel_id are for delivery = \"tunnel\" only".into()),
        }
    }
}

/// Names stand in paths of the control socket.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
}
