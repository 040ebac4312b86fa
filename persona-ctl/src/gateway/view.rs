//! What the running gateway tells of its services and instances, and what it can be told.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::gateway_tables::Transport;

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The address that clients connect to.
    pub address: IpAddr,
    /// The port that clients connect to.
    pub port: u16,
    /// Its protocol.
    pub protocol: Transport,
    /// How packets reach instances: `nat`, `l2` or `tunnel`.
    pub delivery: String,
    /// Its instances.
    pub instances: Vec<InstanceView>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Its own port.
    pub port: u16,
    /// Its node, where packets reach it by tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<IpAddr>,
    /// Its share of new flows.
    pub weight: u16,
    /// Whether it gets no new flows by somebody's wish.
    pub draining: bool,
    /// Whether it answers.
    pub alive: bool,
    /// Since when that is so, milliseconds.
    pub for_ms: u64,
    /// What the last check that failed said; empty: the last one passed, or none was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
    /// Flows in force.
    pub flows: u64,
    /// Flows that it was chosen for.
    pub opened: u64,
    /// Packets towards it.
    pub ingress_packets: u64,
    /// IP bytes towards it.
    pub ingress_bytes: u64,
    /// Packets from it, where replies pass the gateway.
    pub egress_packets: u64,
    /// IP bytes from it likewise.
    pub egress_bytes: u64,
}

/// What shall be different about an instance; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceChange {
    /// Whether it gets no new flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// Its share of new flows, 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}
