//! Firewall rules read back from the maps, for whoever explains what they decide.

use aya::Ebpf;
use persona_common::firewall::{FirewallService, FirewallSet, SubjectFirewall};
use persona_common::node::SCOPE_BITS;
use persona_core::firewall::CompiledRules;
use persona_core::units::Cidr;

use super::error::DataplaneError;
use super::maps::{Cells, Prefixes, Table, ip_from};

/// Bits in front of an IPv4 address in the tries.
const MAPPED_BITS: u32 = 96;

/// The maps that rules are in.
pub(super) struct FirewallRows {
    sets: Cells<FirewallSet>,
    remotes: Prefixes<u64>,
    services: Table<FirewallService, u64>,
    worn: Cells<SubjectFirewall>,
}

impl FirewallRows {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            sets: Cells::take(ebpf, "FIREWALLS")?,
            remotes: Prefixes::take(ebpf, "FIREWALL_REMOTES")?,
            services: Table::take(ebpf, "FIREWALL_SERVICES")?,
            worn: Cells::take(ebpf, "SUBJECT_FIREWALLS")?,
        })
    }

    /// The rules that a subject wears.
    pub(super) fn of_subject(&self, subject_index: u32) -> Result<Option<CompiledRules>, DataplaneError> {
        let Some(set_index) = self.worn.get(subject_index)?.set_index_plus_one.checked_sub(1) else { return Ok(None) };
        let FirewallSet { allow, egress, any_remote, any_protocol, .. } = self.sets.get(set_index)?;
        let remotes = self.remotes.entries()?.into_iter().filter(|((_, place), _)| place.scope == set_index.to_be());
        let remotes = remotes.filter_map(|((length, place), bits)| {
            let address = ip_from(place.address);
            let before = SCOPE_BITS + if address.is_ipv4() { MAPPED_BITS } else { 0 };
            let length = u8::try_from(length.checked_sub(before)?).ok()?;
            Some((Cidr::new(address, length)?, bits))
        });
        let services = self.services.entries()?.into_iter().filter(|(service, _)| service.set_index == set_index);
        let services = services.map(|(service, bits)| ((service.protocol as u8, service.port), bits));
        let (remotes, services) = (remotes.collect(), services.collect());
        Ok(Some(CompiledRules { allow, egress, any_remote, any_protocol, remotes, services }))
    }
}
