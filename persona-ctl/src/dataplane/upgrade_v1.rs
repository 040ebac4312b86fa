//! What the maps of ABI version 1 become in version 2: addresses grew to 16 bytes, tries got scopes.
//!
//! Version 1 knew IPv4 only. A node's flows, mappings, slots and blocks have kept their shape. An edge keeps no flows:
//! its tables start anew and are applied at once.

use persona_common::ABI_VERSION;
use persona_common::addr::mapped;
use persona_common::node::SCOPE_BITS;

use super::map_bytes::MapShape;
use super::upgrade::{Convert, Fate};

/// Bits in front of an IPv4 address in its mapped form.
const MAPPED_BITS: u32 = 96;

/// What becomes of a map; None: nothing special.
pub(super) fn fate(role: &str, name: &str, old: &MapShape) -> Option<Fate> {
    if is_left(role, name) || role == "EDGE_CONFIG" && LEFT_WITH_EDGE.contains(&name) {
        return Some(Fate::Leave("an edge keeps no flows, and its tables are applied again at once"));
    }
    let convert: Convert = match (name, old.key_size, old.value_size) {
        ("NODE_CONFIG", 4, 16) => |key, value| Some((key.to_vec(), config(&words(value)))),
        ("DEVICES", 4, 8) => |key, value| Some((key.to_vec(), device(&words(value)))),
        ("SUBJECTS", 4, 24) => |key, value| Some((key.to_vec(), subject(&words(value)))),
        ("LEASES", 4, LEASE_SIZE) => |key, value| Some((key.to_vec(), lease(value))),
        ("EDGES", 4, 12) => |key, value| Some((key.to_vec(), edge(&words(value)))),
        ("EDGE_ADDRESSES", 4, 4) => |key, value| Some((bytes(&mapped(words(key)[0])), value.to_vec())),
        ("BYPASS" | "MANAGED", 8, 4) => |key, value| Some((prefix(&words(key)), value.to_vec())),
        _ => return None,
    };
    Some(Fate::Convert(convert))
}

/// Whether a map is left although its shape is the same: it points into others that are.
pub(super) fn is_left(role: &str, name: &str) -> bool {
    role == "EDGE_CONFIG" && ["ADDRESSES", "BLOCKS"].contains(&name)
}

const LEFT_WITH_EDGE: [&str; 3] = ["EDGE_CONFIG", "OWNED", "NODES"];

/// Bytes of a lease: 48, and 64 blocks.
const LEASE_SIZE: u32 = 48 + 64 * 8;
/// Where the blocks began, and how many bytes now come before them.
const BLOCKS_AT: usize = 48;
const BEFORE_BLOCKS: usize = 24;

/// abi_version, underlay_address, adopt_until_secs, guard_all_forwarded → …, slow_ifindex, clock_offset_secs, underlay.
fn config(old: &[u32]) -> Vec<u8> {
    let underlay = if old[1] == 0 { [0; 4] } else { mapped(old[1]) };
    [bytes(&[ABI_VERSION, old[2], old[3], 0, 0]), bytes(&underlay)].concat()
}

/// subject_index, address → …, flags, vlan, prefix, prefix_mask, has_prefix.
fn device(old: &[u32]) -> Vec<u8> {
    bytes(&[old[0], old[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// number, flags, lease, class, ifindex, dscp → number, flags, lease, IPv6 lease, class, ifindex, dscp, vlan.
fn subject(old: &[u32]) -> Vec<u8> {
    bytes(&[old[0], old[1], old[2], 0, old[3], old[4], old[5], 0])
}

/// Flags, adjustment and two prefixes came in before the blocks.
fn lease(old: &[u8]) -> Vec<u8> {
    [&old[..BLOCKS_AT], &[0; BEFORE_BLOCKS], &old[BLOCKS_AT..]].concat()
}

/// address, ifindex, next_hop → address, next_hop, ifindex.
fn edge(old: &[u32]) -> Vec<u8> {
    [bytes(&mapped(old[0])), bytes(&mapped(old[2])), bytes(&[old[1]])].concat()
}

/// A trie's key: length and address → length, scope 0, mapped address.
fn prefix(old: &[u32]) -> Vec<u8> {
    [bytes(&[old[0] + SCOPE_BITS + MAPPED_BITS, 0]), bytes(&mapped(old[1]))].concat()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |chunk: &[u8]| u32::from_ne_bytes(chunk.try_into().expect("chunks of four"));
    bytes.chunks_exact(4).map(word).collect()
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_common::node::{Device, EdgeHop, Lease, NodeConfig, ScopedAddress, Subject};

    #[test]
    fn converted_entries_have_the_sizes_of_today() {
        for (what, found, wanted) in [
            ("config", config(&[1; 4]).len(), size_of::<NodeConfig>()),
            ("device", device(&[1; 2]).len(), size_of::<Device>()),
            ("subject", subject(&[1; 6]).len(), size_of::<Subject>()),
            ("lease", lease(&[1; LEASE_SIZE as usize]).len(), size_of::<Lease>()),
            ("edge", edge(&[1; 3]).len(), size_of::<EdgeHop>()),
            ("prefix", prefix(&[1; 2]).len(), 4 + size_of::<ScopedAddress>()),
        ] {
            assert_eq!(found, wanted, "{what}");
        }
    }

    #[test]
    fn addresses_become_mapped_ones() {
        let address = u32::from_ne_bytes([10, 0, 0, 1]);
        let mapped_bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        assert_eq!(edge(&[address, 7, address])[..16], mapped_bytes);
        assert_eq!(prefix(&[8, address])[8..], mapped_bytes);
        assert_eq!(words(&prefix(&[8, address]))[0], 8 + 32 + 96);
        assert_eq!(config(&[1, 0, 0, 0])[20..], [0; 16], "no address stays no address");
    }
}
