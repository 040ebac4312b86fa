//! An edge's data plane: its programs, maps and links, all pinned. It keeps no flows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use aya::Ebpf;
use aya::programs::TcAttachType;
use persona_common::ABI_VERSION;
use persona_common::addr::Address6;
use persona_common::edge::EdgeConfig;
use persona_core::ids::Vni;

use super::attach;
use super::bpffs::PinDirectory;
use super::coexist::Coexistence;
use super::counters::RawCounters;
use super::edge_fates::EdgeFates;
use super::edge_maps::{EdgeIndex, EdgeMaps};
use super::edge_room;
use super::error::DataplaneError;
use super::heard::HeardReader;
use super::loader;
use super::maps::{Cells, Table, address6, ip_from};
use super::object;
use super::packet_log::{PacketLine, PacketLog, PacketLogging};
use super::tables::EdgeTables;
use super::upgrade::{Upgrade, VersionCell};
use super::writers::OwnershipWriter;
use super::{ethtool, sys};

/// Where an edge's programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP where both drivers have it natively and gain by it, TC elsewhere.
    Auto,
    /// TC.
    Tc,
    /// XDP in native mode.
    Xdp,
}

/// Drivers on which XDP is no gain: it turns their offloads off, or they have no native mode.
const TC_DRIVERS: [&str; 6] = ["veth", "tun", "bridge", "macvlan", "bonding", "dummy"];

/// Where the ABI version is: the offset of `abi_version`, in every version.
const VERSION: VersionCell = VersionCell { map: "EDGE_CONFIG", offset: 8 };

/// How an edge's data plane is opened.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Where the bpffs is, or shall be mounted.
    pub bpffs: PathBuf,
    /// The device towards nodes, by interface index.
    pub inside: u32,
    /// The device towards the internet, by interface index.
    pub outside: u32,
    /// Which hook.
    pub hook: Hook,
    /// What is done about programs of others.
    pub coexist: Coexistence,
    /// Whether the programs log every packet.
    pub logging: PacketLogging,
}

/// An edge's programs, maps and links. Dropping it leaves everything attached.
pub struct EdgeDataplane {
    pub(super) ebpf: Ebpf,
    pub(super) pins: PinDirectory,
    pub(super) maps: EdgeMaps,
    pub(super) index: EdgeIndex,
    pub(super) owned: Mutex<Table<Address6, u32>>,
    outside_alive: Mutex<Cells<u32>>,
    pub(super) hook: Hook,
    pub(super) coexist: Coexistence,
    /// The devices inside and outside.
    pub(super) sides: (u32, u32),
    /// The encrypted tunnel's device that this process has attached to.
    pub(super) wire_ifindex: Option<u32>,
    /// Whether the programs at TC hang on both sides although XDP does the work.
    pub(super) has_tc_too: bool,
}

impl EdgeDataplane {
    /// Loads the programs over whatever is pinned already, and attaches or replaces them.
    pub fn open(options: &EdgeOptions) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::prepare(&options.bpffs, "edge")?;
        let (mut ebpf, upgrade) = loader::load(object::edge(), &pins, VERSION, options.logging)?;
        let mut maps = EdgeMaps::take(&mut ebpf)?;
        let owned = Mutex::new(Table::take(&mut ebpf, "OWNED")?);
        let outside_alive = Mutex::new(Cells::take(&mut ebpf, "OUTSIDE_ALIVE")?);
        let index = EdgeIndex::recover(&maps)?;
        let config = EdgeConfig { abi_version: ABI_VERSION, ..maps.config.get(0)? };
        maps.config.put(0, config)?;
        for program in ["edge_inside", "edge_outside"] {
            attach::load_tc(&mut ebpf, program)?;
        }
        for program in ["xdp_inside", "xdp_outside"] {
            attach::load_xdp(&mut ebpf, program)?;
        }
        let hook = attach_hook(&mut ebpf, &pins, options)?;
        attach::reap_links(&pins.links, &["tc-inside", "xdp-inside"], &[options.inside])?;
        attach::reap_links(&pins.links, &["tc-outside", "xdp-outside"], &[options.outside])?;
        upgrade.map_or(Ok(()), Upgrade::finish)?;
        attach::reap_vanished(&pins.links)?;
        let (sides, coexist) = ((options.inside, options.outside), options.coexist);
        let (wire_ifindex, has_tc_too) = Default::default();
        Ok(Self { ebpf, pins, maps, index, owned, outside_alive, hook, coexist, sides, wire_ifindex, has_tc_too })
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

    /// Makes the maps what the tables say, the generation last. Tables that contradict themselves are refused before
    /// anything is written; the same tables again change nothing.
    pub fn apply(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        edge_room::validate(tables).map_err(DataplaneError::Invalid)?;
        edge_room::check(&self.index, tables).map_err(DataplaneError::Invalid)?;
        self.apply_validated(tables)
    }

    /// Says whether this edge answers for an address: an egress address, or the next hop of IPv6 pools.
    pub fn set_owned(&self, address: IpAddr, owned: bool) -> Result<(), DataplaneError> {
        let mut table = self.owned.lock().expect("nobody panics while holding it");
        if owned { table.put(address6(address), 1) } else { table.remove(&address6(address)) }
    }

    /// Says whether the outside next hop answers; while it doesn't, probes stay unanswered.
    pub fn set_outside_alive(&self, alive: bool) -> Result<(), DataplaneError> {
        self.outside_alive.lock().expect("nobody panics while holding it").set(0, alive.into())
    }

    /// A handle for a thread that must not wait for [`Self::apply`].
    pub fn ownership_writer(&self) -> Result<OwnershipWriter, DataplaneError> {
        OwnershipWriter::open(&self.pins)
    }

    /// A reader of when nodes were heard, likewise.
    pub fn heard_reader(&self) -> Result<HeardReader, DataplaneError> {
        HeardReader::open(&self.pins)
    }

    /// A reader of the table of fragments, for the slow path's thread.
    pub fn fragment_fates(&self) -> Result<EdgeFates, DataplaneError> {
        EdgeFates::open(&self.pins)
    }

    /// Addresses that this edge answers for.
    pub fn owned(&self) -> Result<BTreeSet<IpAddr>, DataplaneError> {
        let table = self.owned.lock().expect("nobody panics while holding it");
        Ok(table.entries()?.into_iter().map(|(address, _)| ip_from(address)).collect())
    }

    /// Counters since the programs were first attached.
    pub fn counters(&self) -> Result<RawCounters, DataplaneError> {
        let mut counters = RawCounters { drops: self.maps.drops.totals()?, ..RawCounters::default() };
        let personas = self.maps.persona_traffic.of_keys(&self.index.personas)?;
        counters.personas.extend(personas.into_iter().map(|(vni, traffic)| (Vni(vni), traffic)));
        Ok(counters)
    }

    /// The loaded programs, for tests that run them on built packets.
    pub fn programs(&self) -> &Ebpf {
        &self.ebpf
    }
}

/// Attaches at the wanted hook and takes the other one's links away.
fn attach_hook(ebpf: &mut Ebpf, pins: &PinDirectory, options: &EdgeOptions) -> Result<Hook, DataplaneError> {
    let pin = |hook: &str, side: &str, ifindex: u32| pins.links.join(format!("{hook}-{side}-{ifindex}"));
    let sides = [("inside", options.inside), ("outside", options.outside)];
    let wants_xdp = match options.hook {
        Hook::Tc => false,
        Hook::Xdp => true,
        Hook::Auto => sides.iter().all(|(_, ifindex)| gains_by_xdp(*ifindex)),
    };
    if wants_xdp {
        let attached = sides.iter().try_for_each(|(side, ifindex)| {
            attach::attach_xdp(ebpf, &format!("xdp_{side}"), *ifindex, &pin("xdp", side, *ifindex), options.coexist)
        });
        match attached {
            Ok(()) => {
                for (side, ifindex) in sides {
                    attach::remove_pin("edge", &pin("tc", side, ifindex))?;
                }
                return Ok(Hook::Xdp);
            }
            Err(error) if options.hook == Hook::Xdp => return Err(error),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no native XDP here, TC is used"),
        }
    }
    for (side, ifindex) in sides {
        let program = format!("edge_{side}");
        attach::attach_tc(ebpf, &program, ifindex, TcAttachType::Ingress, &pin("tc", side, ifindex), options.coexist)?;
    }
    for (side, ifindex) in sides {
        attach::remove_pin("edge", &pin("xdp", side, ifindex))?;
    }
    Ok(Hook::Tc)
}

/// Whether a device's driver has XDP natively and gains by it.
pub(super) fn gains_by_xdp(ifindex: u32) -> bool {
    sys::interface_name(ifindex)
        .and_then(|name| ethtool::driver(&name).ok())
        .is_some_and(|driver| !TC_DRIVERS.contains(&driver.as_str()))
}
