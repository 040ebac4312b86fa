//! From an older binary's pinned maps to this one's, with flows kept.
//!
//! A map of the same shape is used on. Another one is made anew under `maps-next`, and what the old one holds is
//! converted into it, while the old programs go on with the old one. Once the new programs stand in their place
//! ([`Upgrade::finish`]) the new pins take the place of the old ones, the config map with its version last. Whatever
//! fails before leaves the old pins as they were, and the next start tries again.
//!
//! What the old programs write between the copy and their end goes to the old maps: where flows are in a map whose shape
//! changes, those opened in these milliseconds are lost; counters lose as much.

use std::io;
use std::path::{Path, PathBuf};

use aya_obj::maps::PinningType;
use persona_common::ABI_VERSION;
use persona_common::edge::{EdgeBlock, Leased};
use persona_common::encapsulation::ENCRYPTED_VNI;
use persona_common::maps::PERSONA_COUNT_MAX;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::map_bytes::{MapBytes, MapShape};
use super::upgrade_v1;

/// Makes a new key and value of old ones; None leaves the entry out.
pub(super) type Convert = fn(&[u8], &[u8]) -> Option<(Vec<u8>, Vec<u8>)>;

/// What becomes of what an old map holds.
pub(super) enum Fate {
    /// Each entry is rewritten.
    Convert(Convert),
    /// It is left behind, for this reason.
    Leave(&'static str),
}

/// Where a role keeps its ABI version.
#[derive(Debug, Clone, Copy)]
pub(super) struct VersionCell {
    /// The map; its first cell.
    pub(super) map: &'static str,
    /// The word's first byte in it.
    pub(super) offset: usize,
}

/// An upgrade that has begun.
pub(super) struct Upgrade {
    version_map: &'static str,
    pins: PinDirectory,
    /// Maps that are made anew, with what they have now.
    renewed: Vec<(String, MapShape)>,
    /// Pins that nothing uses any more.
    obsolete: Vec<PathBuf>,
    version: u32,
}

impl Upgrade {
    /// Looks at what is pinned. None: nothing, or what fits.
    pub(super) fn plan(object: &[u8], pins: &PinDirectory, cell: VersionCell) -> Result<Option<Self>, DataplaneError> {
        let failed = |source| DataplaneError::Bpffs { path: pins.maps.clone(), action: "reading", source };
        clear(&pins.next).map_err(failed)?;
        let version_pin = pins.maps.join(cell.map);
        if !version_pin.exists() {
            return Ok(None);
        }
        let mismatch = |found| DataplaneError::AbiMismatch { path: pins.maps.clone(), found, needed: ABI_VERSION };
        let version = read_version(&version_pin, cell.offset).map_err(|error| mismatch(error.to_string()))?;
        if version > ABI_VERSION {
            return Err(mismatch(version.to_string()));
        }
        let wanted = wanted_shapes(object)?;
        let (mut renewed, mut obsolete) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&pins.maps).map_err(failed)? {
            let pin = entry.map_err(failed)?.path();
            let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found = MapBytes::open(&pin).map_err(failed)?.shape;
            match wanted.iter().find(|(wanted, _)| *wanted == name) {
                None => obsolete.push(pin),
                // Zero: whoever made the maps ended before it wrote anything.
                Some((_, shape)) if shape.fits(&found) && (version == 0 || !is_left(cell.map, version, &name)) => {}
                Some(_) => renewed.push((name, found)),
            }
        }
        if renewed.is_empty() && obsolete.is_empty() && (version == 0 || version == ABI_VERSION) {
            return Ok(None);
        }
        std::fs::create_dir_all(&pins.next).map_err(failed)?;
        tracing::info!(
            abi.found = version,
            abi.needed = ABI_VERSION,
            maps.renewed = renewed.len(),
            maps.obsolete = obsolete.len(),
            "pinned maps of another version are upgraded"
        );
        Ok(Some(Self { version_map: cell.map, pins: pins.clone(), renewed, obsolete, version }))
    }

    /// Maps that are to be pinned elsewhere for now, and where.
    pub(super) fn renewed_pins(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.renewed.iter().map(|(name, _)| (name.as_str(), self.pins.next.join(name)))
    }

    /// Fills the new maps from the old ones.
    pub(super) fn convert(&self) -> Result<(), DataplaneError> {
        for (name, _) in &self.renewed {
            let pin = self.pins.maps.join(name);
            let failed = |source| DataplaneError::Bpffs { path: pin.clone(), action: "converting", source };
            let (old, new) = (MapBytes::open(&pin).map_err(failed)?, self.pins.next.join(name));
            let new = MapBytes::open(&new).map_err(failed)?;
            match fate(self.version_map, self.version, name, &old.shape, &new.shape) {
                Fate::Convert(convert) => {
                    let count = copy(&old, &new, convert).map_err(failed)?;
                    tracing::info!(map = name, entries.count = count, "a map's contents were taken over");
                }
                Fate::Leave(reason) => tracing::warn!(map = name, reason, "a map starts anew"),
            }
        }
        Ok(())
    }

    /// Makes the new pins the pins. To be called when the new programs are in place.
    pub(super) fn finish(self) -> Result<(), DataplaneError> {
        let failed = |source| DataplaneError::Bpffs { path: self.pins.maps.clone(), action: "replacing pins", source };
        let mut names: Vec<&str> = self.renewed.iter().map(|(name, _)| name.as_str()).collect();
        // Its version says that the upgrade is whole.
        names.sort_by_key(|name| *name == self.version_map);
        for name in names {
            std::fs::rename(self.pins.next.join(name), self.pins.maps.join(name)).map_err(failed)?;
        }
        for pin in &self.obsolete {
            std::fs::remove_file(pin).map_err(failed)?;
        }
        clear(&self.pins.next).map_err(failed)
    }
}

/// What becomes of a map whose shape changed, or that is left by name.
fn fate(role: &str, version: u32, name: &str, old: &MapShape, new: &MapShape) -> Fate {
    if version == 1
        && let Some(fate) = upgrade_v1::fate(role, name, old)
    {
        return fate;
    }
    if (role, name, old.value_size) == ("EDGE_CONFIG", "BLOCKS", WIDE_BLOCK_SIZE) {
        return Fate::Convert(|key, value| Some((key.to_vec(), narrow_block(value)?)));
    }
    if (role, name) == ("EDGE_CONFIG", "POLICERS") && !old.has_same_entries(new) {
        return Fate::Leave("what has passed is forgotten, and an edge's tables are applied again at once");
    }
    if old.has_same_entries(new) {
        return Fate::Convert(|key, value| Some((key.to_vec(), value.to_vec())));
    }
    Fate::Leave("its entries changed and nothing converts them")
}

/// Bytes of an edge's block before it fitted into a word: the node's index plus one, the VNI, the indices of persona and policer
/// in one word, the MTU.
const WIDE_BLOCK_SIZE: u32 = 16;

fn narrow_block(wide: &[u8]) -> Option<Vec<u8>> {
    let word = |index: usize| Some(u32::from_ne_bytes(wide.get(index * 4..index * 4 + 4)?.try_into().ok()?));
    let (indices, persona_bits) = (word(2)?, PERSONA_COUNT_MAX.trailing_zeros());
    let block = EdgeBlock::leased(Leased {
        node_index: word(0)?.checked_sub(1)?,
        persona_index: indices & (PERSONA_COUNT_MAX - 1),
        policer_index: indices >> persona_bits,
        is_encrypted: word(1)? & ENCRYPTED_VNI != 0,
        mtu: word(3)?.try_into().ok()?,
    });
    Some(block.word().to_ne_bytes().to_vec())
}

/// Whether a map is left although its shape is the same.
fn is_left(role: &str, version: u32, name: &str) -> bool {
    version == 1 && upgrade_v1::is_left(role, name)
}

/// Copies what is there; entries that vanish meanwhile are left out. Zeros in arrays are there already.
fn copy(old: &MapBytes, new: &MapBytes, convert: Convert) -> io::Result<usize> {
    let mut count = 0;
    let used = old.entries()?.into_iter().filter(|(_, value)| value.iter().any(|byte| *byte != 0));
    for (key, value) in used {
        if let Some((key, value)) = convert(&key, &value) {
            match new.put(&key, &value) {
                // A smaller array, or a full table.
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {}
                result => {
                    result?;
                    count += 1;
                }
            }
        }
    }
    Ok(count)
}

fn read_version(pin: &Path, offset: usize) -> io::Result<u32> {
    let map = MapBytes::open(pin)?;
    let cell = map.get(&[0; 4])?.unwrap_or_default();
    let word = cell.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
    word.map(u32::from_ne_bytes).ok_or_else(|| io::Error::other("unreadable: the cell of the version is too short"))
}

/// The maps that the object pins.
fn wanted_shapes(object: &[u8]) -> Result<Vec<(String, MapShape)>, DataplaneError> {
    let parsed = aya_obj::Object::parse(object).map_err(|error| DataplaneError::Load(error.into()))?;
    let pinned = parsed.maps.iter().filter(|(_, map)| map.pinning() == PinningType::ByName);
    let shape = |map: &aya_obj::Map| MapShape {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        entry_count_max: map.max_entries(),
    };
    Ok(pinned.map(|(name, map)| (name.clone(), shape(map))).collect())
}

/// Removes a folder of pins with all in it.
fn clear(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_sixteen_bytes_become_words() {
        let leased = Leased { node_index: 6, persona_index: 3, policer_index: 9, is_encrypted: true, mtu: 1400 };
        let indices = leased.persona_index | leased.policer_index << PERSONA_COUNT_MAX.trailing_zeros();
        let wide: Vec<u8> = [7, 42 | ENCRYPTED_VNI, indices, 1400].into_iter().flat_map(u32::to_ne_bytes).collect();
        assert_eq!(narrow_block(&wide).unwrap(), EdgeBlock::leased(leased).word().to_ne_bytes());
        assert_eq!(narrow_block(&[0; 16]), None, "an empty cell stays one");
    }
}
