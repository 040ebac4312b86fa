//! What becomes of fragments at a node, read from the programs' maps as the programs read them: with the first's entry in
//! `FRAGMENTS`, a later one needs nothing of the layer above.

use std::net::{IpAddr, Ipv6Addr};

use persona_common::addr::{Address6, octets6};
use persona_common::drop::DropReason;
use persona_common::encapsulation::VNI_MASK;
use persona_common::flow::{ROW_WALK_MAX, ROW_WALK_STEP, entropy_port, row_of_hash};
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::maps::MAGLEV_ROW_COUNT;
use persona_common::node::{
    EdgeHop, Group, Lease, Liveness, NodeConfig, SUBJECT_IS_HOST, SUBJECT_SETS_DSCP, SUBJECT_SETS_HOPS,
    SUBJECT_SETS_ID, Subject,
};
use persona_common::normalise::HOPS_TO_EDGE;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::{Cells, Table, address6};
use super::sys;
use crate::slow_path::{Fate, Fates, Hops, Key, Outer, Rewrite, Way};

/// Reads a node's table of fragments.
pub struct NodeFates {
    fragments: Table<FragmentKey, FragmentValue>,
    config: Cells<NodeConfig>,
    leases: Cells<Lease>,
    subjects: Cells<Subject>,
    groups: Cells<Group>,
    maglev: Cells<u32>,
    liveness: Cells<Liveness>,
    edges: Cells<EdgeHop>,
}

impl NodeFates {
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, DataplaneError> {
        Ok(Self {
            fragments: Table::from_pin(pins, "FRAGMENTS")?,
            config: Cells::from_pin(pins, "NODE_CONFIG")?,
            leases: Cells::from_pin(pins, "LEASES")?,
            subjects: Cells::from_pin(pins, "SUBJECTS")?,
            groups: Cells::from_pin(pins, "GROUPS")?,
            maglev: Cells::from_pin(pins, "MAGLEV")?,
            liveness: Cells::from_pin(pins, "LIVENESS")?,
            edges: Cells::from_pin(pins, "EDGES")?,
        })
    }

    fn look_up(&self, key: &Key) -> Result<Option<Fate>, DataplaneError> {
        let config = self.config.get(0)?;
        let now_secs = sys::coarse_secs().wrapping_add(config.clock_offset_secs);
        let Some(value) = self.fragments.get(&fragment_key(key))?.filter(|value| value.is_fresh(now_secs)) else {
            return Ok(None);
        };
        let lease = self.leases.get(value.lease_index)?;
        if lease.id == 0 || lease.id as u32 != value.lease_id_low {
            return Ok(None);
        }
        let subject = self.subjects.get(lease.subject_index)?;
        match key.way {
            Way::Outward(_) => self.outward(&config, key, &value, &lease, &subject).map(Some),
            Way::Inward => Ok(Some(inward(&value, &subject))),
        }
    }

    fn outward(
        &self,
        config: &NodeConfig,
        key: &Key,
        value: &FragmentValue,
        lease: &Lease,
        subject: &Subject,
    ) -> Result<Fate, DataplaneError> {
        let Some(edge) = self.choose(lease, value.hash)? else { return Ok(Fate::Drop(DropReason::NoEdge)) };
        let entropy_port = entropy_port(value.hash);
        let rewrite = Rewrite {
            source: address6_from(value.address),
            id: key.source.is_ipv4().then_some(value.id as u16),
            dscp: (subject.flags & SUBJECT_SETS_DSCP != 0).then_some(subject.dscp()),
            hops: if subject.flags & SUBJECT_SETS_HOPS != 0 { Hops::Become(HOPS_TO_EDGE) } else { Hops::Count },
            clears_flow_label: subject.flags & SUBJECT_SETS_ID != 0,
            ..Rewrite::default()
        };
        let ends = address6_from(config.underlay_address).zip(address6_from(edge.address));
        let Some((source, destination)) = ends else { return Ok(Fate::Drop(DropReason::NoEdge)) };
        let outer = Outer { vni: lease.vni & VNI_MASK, ..Outer::new(source, destination, entropy_port) };
        let outer = Outer { wire_ifindex: if lease.vni > VNI_MASK { edge.ifindex } else { 0 }, ..outer };
        Ok(Fate::Tunnel { rewrite, outer, mtu: lease.mtu as u16, class: subject.egress_class })
    }

    /// The edge of a Maglev row, as the program chooses it.
    fn choose(&self, lease: &Lease, hash: u32) -> Result<Option<EdgeHop>, DataplaneError> {
        let group = self.groups.get(lease.group_index)?;
        let mut row = row_of_hash(hash, MAGLEV_ROW_COUNT);
        for _step in 0..ROW_WALK_MAX {
            let pair = self.maglev.get(group.row_base + row)?;
            for number in [pair >> 16, pair & 0xffff] {
                let (liveness, edge) = (self.liveness.get(number)?, self.edges.get(number)?);
                if liveness.alive != 0 && liveness.generation >= lease.generation && edge.ifindex != 0 {
                    return Ok(Some(edge));
                }
            }
            row = (row + ROW_WALK_STEP) % MAGLEV_ROW_COUNT;
        }
        Ok(None)
    }
}

fn inward(value: &FragmentValue, subject: &Subject) -> Fate {
    let Some(destination) = address6_from(value.address) else { return Fate::Drop(DropReason::NoMapping) };
    let is_host = subject.flags & SUBJECT_IS_HOST != 0;
    if subject.ifindex == 0 && !is_host {
        return Fate::Drop(DropReason::UnknownDevice);
    }
    let rewrite = Rewrite { destination: Some(destination), ..Rewrite::default() };
    Fate::Deliver { rewrite, destination, ifindex: if is_host { 0 } else { subject.ifindex } }
}

/// The key under which the first fragment left its entry.
pub(super) fn fragment_key(key: &Key) -> FragmentKey {
    let scope = match key.way {
        Way::Outward(subject_index) => subject_index.wrapping_add(1),
        Way::Inward => 0,
    };
    let (source, destination) = (address6(key.source), address6(key.destination));
    FragmentKey { scope, source, destination, id: key.id, protocol: key.protocol.into() }
}

/// The address that a map holds; None: all zero.
pub(super) fn address6_from(address: Address6) -> Option<IpAddr> {
    let address = Ipv6Addr::from(octets6(address));
    (!address.is_unspecified()).then(|| address.to_canonical())
}

impl Fates for NodeFates {
    fn find(&mut self, key: &Key) -> Option<Fate> {
        self.look_up(key).unwrap_or_else(|error| {
            tracing::debug!(error = crate::host::error_chain(&error), "fragments cannot be looked up");
            None
        })
    }
}
