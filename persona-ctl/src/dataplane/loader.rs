//! Loads an object over the maps that are pinned already, or makes and pins them.

use std::hash::{BuildHasher, Hasher, RandomState};

use aya::{Ebpf, EbpfLoader};

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::features::KernelFeatures;
use super::packet_log::PacketLogging;
use super::sys;
use super::upgrade::{Upgrade, VersionCell};

/// Loads an object; pinned maps of the same name and shape are used again. Where an older binary's maps have another
/// shape, an upgrade has begun, which is to be finished when the programs are attached.
pub(super) fn load(
    object: &[u8],
    pins: &PinDirectory,
    version: VersionCell,
    logging: PacketLogging,
) -> Result<(Ebpf, Option<Upgrade>), DataplaneError> {
    if object.is_empty() {
        return Err(DataplaneError::NoObject);
    }
    let upgrade = Upgrade::plan(object, pins, version)?;
    // The standard library's keys, which are as random as the system can make them.
    let secret = RandomState::new().build_hasher().finish();
    let tick_ns = sys::tick_ns();
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(&pins.maps);
    for (name, pin) in upgrade.iter().flat_map(Upgrade::renewed_pins) {
        loader.map_pin_path(name, pin);
    }
    KernelFeatures::probe().tell(&mut loader);
    logging.tell(&mut loader);
    loader.override_global("HINT_SECRET", &secret, false);
    loader.override_global("TICK_NS", &tick_ns, false);
    let ebpf = loader.load(object).map_err(DataplaneError::Load)?;
    upgrade.iter().try_for_each(Upgrade::convert)?;
    Ok((ebpf, upgrade))
}
