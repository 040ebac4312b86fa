//! Loads an object over the maps that are pinned already, or makes and pins them.

use std::path::Path;

use aya::{Ebpf, EbpfLoader};
use persona_common::ABI_VERSION;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::features::KernelFeatures;

/// Loads an object; pinned maps of the same name are used again. `read_version` reads the ABI version out of a pin.
pub(super) fn load(
    object: &[u8],
    pins: &PinDirectory,
    config_map: &str,
    read_version: impl FnOnce(&Path) -> Result<u32, String>,
) -> Result<Ebpf, DataplaneError> {
    if object.is_empty() {
        return Err(DataplaneError::NoObject);
    }
    let config_pin = pins.maps.join(config_map);
    if config_pin.exists() {
        let mismatch = |found| DataplaneError::AbiMismatch { path: pins.maps.clone(), found, needed: ABI_VERSION };
        match read_version(&config_pin) {
            // Zero: whoever made the maps ended before it wrote anything.
            Ok(0 | ABI_VERSION) => {}
            Ok(found) => return Err(mismatch(found.to_string())),
            Err(found) => return Err(mismatch(found)),
        }
    }
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(&pins.maps);
    KernelFeatures::probe().tell(&mut loader);
    loader.load(object).map_err(DataplaneError::Load)
}
