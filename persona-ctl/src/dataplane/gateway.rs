//! A gateway's data plane: its programs on every device, maps and links, all pinned.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::TcAttachType;
use persona_common::ABI_VERSION;
use persona_common::gateway::GatewayConfig;
use persona_core::wire::agent::Traffic;

use super::attach;
use super::bpffs::PinDirectory;
use super::coexist::Coexistence;
use super::edge::{Hook, gains_by_xdp};
use super::error::DataplaneError;
use super::gateway_maps::{GatewayIndex, GatewayMaps, instance_key, state_bits, state_of};
use super::gateway_tables::{GatewayTables, InstanceState, ServiceKey};
use super::loader;
use super::object;
use super::packet_log::{PacketLine, PacketLog, PacketLogging};
use super::upgrade::{Upgrade, VersionCell};

/// The role's folder below the bpffs.
const ROLE: &str = "gateway";

/// Where the ABI version is: the offset of `abi_version`, in every version.
const VERSION: VersionCell = VersionCell { map: "GATEWAY_CONFIG", offset: 0 };

/// How a gateway's data plane is opened.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Where the bpffs is, or shall be mounted.
    pub bpffs: PathBuf,
    /// Every device that clients' packets or instances' replies come in on, by interface index.
    pub devices: Vec<u32>,
    /// Which hook.
    pub hook: Hook,
    /// What is done about programs of others.
    pub coexist: Coexistence,
    /// Whether the programs log every packet.
    pub logging: PacketLogging,
}

/// What was counted of one instance since it got its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceCounters {
    /// Ingress is towards the instance; egress, replies that pass the gateway.
    pub traffic: Traffic,
    /// Flows that it was chosen for.
    pub opened_count: u64,
}

/// A gateway's programs, maps and links. Dropping it leaves everything attached.
pub struct GatewayDataplane {
    ebpf: Ebpf,
    pins: PinDirectory,
    pub(super) maps: GatewayMaps,
    pub(super) index: GatewayIndex,
    hook: Hook,
}

impl GatewayDataplane {
    /// Loads the programs over whatever is pinned already, and attaches or replaces them.
    pub fn open(options: &GatewayOptions) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::prepare(&options.bpffs, ROLE)?;
        let (mut ebpf, upgrade) = loader::load(object::gateway(), &pins, VERSION, options.logging)?;
        let mut maps = GatewayMaps::take(&mut ebpf)?;
        let index = GatewayIndex::recover(&maps)?;
        let config = GatewayConfig { abi_version: ABI_VERSION, ..maps.config.get(0)? };
        maps.config.put(0, config)?;
        attach::load_tc(&mut ebpf, "gateway")?;
        attach::load_xdp(&mut ebpf, "xdp_gateway")?;
        let hook = attach_hook(&mut ebpf, &pins, options)?;
        attach::reap_links(&pins.links, &["tc-gateway", "xdp-gateway"], &options.devices)?;
        upgrade.map_or(Ok(()), Upgrade::finish)?;
        attach::reap_vanished(&pins.links)?;
        Ok(Self { ebpf, pins, maps, index, hook })
    }

    /// The programs' log of packets, to be read by `tell`. Can be taken once, and has lines only under
    /// [`PacketLogging::On`].
    pub fn packet_log(
        &mut self,
        tell: impl Fn(PacketLine) + Send + Sync + 'static,
    ) -> Result<PacketLog, DataplaneError> {
        PacketLog::take(&mut self.ebpf, tell)
    }

    /// Takes our programs off devices that vanished or left for another namespace; says which, by hook and index.
    pub fn reap_vanished(&mut self) -> Result<Vec<String>, DataplaneError> {
        attach::reap_vanished(&self.pins.links)
    }

    /// The hook in use; never [`Hook::Auto`].
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Makes the maps what the tables say. Tables that contradict themselves are refused before anything is written; the
    /// same tables again change nothing.
    pub fn apply(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        super::gateway_validate::validate(tables).map_err(DataplaneError::Invalid)?;
        self.apply_validated(tables)
    }

    /// Says whether an instance gets flows: at once, before its service's rows follow by [`Self::apply`]. False: there is
    /// no such instance.
    pub fn set_state(&mut self, service: ServiceKey, name: &str, state: InstanceState) -> Result<bool, DataplaneError> {
        let Some(index) = self.index.instances.get(&instance_key(service, name)) else { return Ok(false) };
        self.maps.states.put(index, state_bits(state)).map(|()| true)
    }

    /// What was last said of an instance, perhaps by a process before this one.
    pub fn state(&self, service: ServiceKey, name: &str) -> Result<Option<InstanceState>, DataplaneError> {
        let index = self.index.instances.get(&instance_key(service, name));
        index.map(|index| self.maps.states.get(index).map(state_of)).transpose()
    }

    /// What was counted of an instance; None: there is none.
    pub fn counters(&self, service: ServiceKey, name: &str) -> Result<Option<InstanceCounters>, DataplaneError> {
        let Some(index) = self.index.instances.get(&instance_key(service, name)) else { return Ok(None) };
        let traffic = self.maps.instance_traffic.get(index)?;
        Ok(Some(InstanceCounters { traffic, opened_count: self.maps.opened.get(index)? }))
    }

    /// What was counted of a service since it got its place; None: there is none.
    pub fn service_traffic(&self, service: ServiceKey) -> Result<Option<Traffic>, DataplaneError> {
        let index = self.index.services.get(&service);
        index.map(|index| self.maps.service_traffic.get(index)).transpose()
    }

    /// Drop reason → packets, zeros left out.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>, DataplaneError> {
        self.maps.drops.totals()
    }

    /// The loaded programs, for tests that run them on built packets.
    pub fn programs(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Moves the programs' clock on, for tests.
    pub fn advance_clock(&mut self, seconds: u32) -> Result<(), DataplaneError> {
        let config = self.maps.config.get(0)?;
        self.maps.config.set(0, GatewayConfig { clock_offset_secs: config.clock_offset_secs + seconds, ..config })
    }
}

/// Attaches at the wanted hook and takes the other one's links away.
fn attach_hook(ebpf: &mut Ebpf, pins: &PinDirectory, options: &GatewayOptions) -> Result<Hook, DataplaneError> {
    let pin = |hook: &str, ifindex: u32| pins.links.join(format!("{hook}-gateway-{ifindex}"));
    let wants_xdp = match options.hook {
        Hook::Tc => false,
        Hook::Xdp => true,
        Hook::Auto => options.devices.iter().all(|ifindex| gains_by_xdp(*ifindex)),
    };
    if wants_xdp {
        let attached = options.devices.iter().try_for_each(|ifindex| {
            attach::attach_xdp(ebpf, "xdp_gateway", *ifindex, &pin("xdp", *ifindex), options.coexist)
        });
        match attached {
            Ok(()) => {
                options.devices.iter().try_for_each(|ifindex| attach::remove_pin(ROLE, &pin("tc", *ifindex)))?;
                return Ok(Hook::Xdp);
            }
            Err(error) if options.hook == Hook::Xdp => return Err(error),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no native XDP here, TC is used"),
        }
    }
    for ifindex in &options.devices {
        let pin = pin("tc", *ifindex);
        attach::attach_tc(ebpf, "gateway", *ifindex, TcAttachType::Ingress, &pin, options.coexist)?;
    }
    options.devices.iter().try_for_each(|ifindex| attach::remove_pin(ROLE, &pin("xdp", *ifindex)))?;
    Ok(Hook::Tc)
}
