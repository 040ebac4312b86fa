//! What the programs are told of a subject, and which prefix of its own a lease translates.

use std::net::{IpAddr, Ipv6Addr};

use persona_common::node::{
    SUBJECT_ARRANGES_OPTIONS, SUBJECT_FILTERS_BY_REMOTE, SUBJECT_HAS_BYPASS, SUBJECT_HAS_CONFIGURED,
    SUBJECT_HAS_NETWORK, SUBJECT_ICMP, SUBJECT_IS_DELAYED, SUBJECT_IS_HOST, SUBJECT_OTHER, SUBJECT_PRESENT,
    SUBJECT_SETS_DSCP, SUBJECT_SETS_HOPS, SUBJECT_SETS_ID, SUBJECT_STRIPS_TIMESTAMPS, SUBJECT_TCP, SUBJECT_UDP,
    Subject, dscp_and_loss,
};
use persona_core::ids::{LeaseId, SubjectNumber};

use super::node_apply::vlan_cell;
use super::node_maps::NodeIndex;
use super::tables::{DeviceEntry, Filtering, NodeTables, SubjectEgress, SubjectEntry};

/// A subject's cell.
pub(super) fn subject_cell(index: &NodeIndex, subject: &SubjectEntry, tables: &NodeTables) -> Subject {
    let device = device_of(tables, subject.number);
    let mut cell = Subject {
        number: subject.number.0,
        flags: SUBJECT_PRESENT,
        ifindex: device.map_or(0, |device| device.ifindex),
        vlan: vlan_cell(device.and_then(|device| device.vlan)),
        ..Subject::default()
    };
    let has_configured = tables.leases.iter().any(|lease| lease.subject == subject.number && lease.configured);
    let is_host = tables.cgroups.iter().any(|cgroup| cgroup.subject == subject.number);
    set(&mut cell, &[(has_configured, SUBJECT_HAS_CONFIGURED), (is_host, SUBJECT_IS_HOST)]);
    if let Some(network) = &subject.network {
        put_network(index, &mut cell, network);
    }
    cell
}

fn put_network(index: &NodeIndex, cell: &mut Subject, network: &SubjectEgress) {
    let lease = |id: Option<LeaseId>| id.map_or(0, |id| 1 + index.leases.get(&id.0).expect("leases come first"));
    cell.lease_index_plus_one = lease(network.lease);
    cell.lease6_index_plus_one = lease(network.lease6);
    cell.egress_class = network.egress_class;
    cell.dscp_and_loss = dscp_and_loss(network.dscp.unwrap_or(0), network.impair.loss_millionths);
    let bits = [
        (true, SUBJECT_HAS_NETWORK),
        (network.allow.tcp, SUBJECT_TCP),
        (network.allow.udp, SUBJECT_UDP),
        (network.allow.icmp, SUBJECT_ICMP),
        (network.allow.other, SUBJECT_OTHER),
        (network.dscp.is_some(), SUBJECT_SETS_DSCP),
        (network.filtering == Filtering::AddressAndPortDependent, SUBJECT_FILTERS_BY_REMOTE),
        (!network.bypass.is_empty(), SUBJECT_HAS_BYPASS),
        (network.normalise.hops, SUBJECT_SETS_HOPS),
        (network.normalise.id, SUBJECT_SETS_ID),
        (network.normalise.timestamps, SUBJECT_STRIPS_TIMESTAMPS),
        (network.normalise.options, SUBJECT_ARRANGES_OPTIONS),
        (network.impair.is_delayed, SUBJECT_IS_DELAYED),
    ];
    set(cell, &bits);
}

fn set(cell: &mut Subject, bits: &[(bool, u32)]) {
    for (is_set, bit) in bits {
        cell.flags |= if *is_set { *bit } else { 0 };
    }
}

/// The device that leads to a subject: its own, or the shared one that its sources name.
fn device_of(tables: &NodeTables, subject: SubjectNumber) -> Option<&DeviceEntry> {
    let own = tables.devices.iter().find(|device| device.subject == Some(subject));
    own.or_else(|| {
        let source = tables.sources.iter().find(|source| source.subject == subject)?;
        tables.devices.iter().find(|device| device.ifindex == source.ifindex)
    })
}

/// The /64 that a subject's own addresses are in. None: the host itself, whose addresses the tables don't tell.
pub(super) fn inner_prefix(tables: &NodeTables, subject: SubjectNumber) -> Option<Ipv6Addr> {
    let device = tables.devices.iter().filter(|device| device.subject == Some(subject));
    let own = device.filter_map(|device| device.prefix6).map(|(prefix, _)| prefix).next();
    own.or_else(|| {
        let mut sources = tables.sources.iter().filter(|source| source.subject == subject);
        sources.find_map(|source| match source.prefix.0 {
            IpAddr::V6(prefix) => Some(prefix),
            IpAddr::V4(_) => None,
        })
    })
}
