//! Capacities and constant row counts of the maps, used by both sides.

/// Rows of one Maglev table; a prime, as in `persona_core::maglev`.
pub const MAGLEV_ROW_COUNT: u32 = 65_537;

/// Edge groups that a node can use at once.
pub const GROUP_COUNT_MAX: u32 = 16;

/// Cells of the Maglev array: two tables per group, one in force and one spare.
pub const MAGLEV_CELL_COUNT: u32 = GROUP_COUNT_MAX * 2 * MAGLEV_ROW_COUNT;

/// Subjects of one node.
pub const SUBJECT_COUNT_MAX: u32 = 16_384;

/// Leases of one node: one of each family for many subjects, and those that a switch leaves behind.
pub const LEASE_COUNT_MAX: u32 = 24_576;

/// Personas whose traffic is counted.
pub const PERSONA_COUNT_MAX: u32 = 16_384;

/// Cells for subjects that an edge polices; the first stays empty.
pub const POLICER_COUNT_MAX: u32 = 131_072;

/// Cells for different rates that an edge polices, as many as it has personas; the first stays empty.
pub const POLICED_RATE_COUNT_MAX: u32 = 16_384;

/// Blocks of one lease.
pub const BLOCKS_PER_LEASE_MAX: usize = 64;

/// Edges, by number.
pub const EDGE_COUNT_MAX: u32 = 65_536;

/// Egress addresses.
pub const ADDRESS_COUNT_MAX: u32 = 4096;

/// Cells for blocks of all egress addresses of a node: an address takes `65,536 >> block_bits`.
pub const BLOCK_COUNT_MAX: u32 = 262_144;

/// Cells for blocks of all egress addresses and for all /64 of the IPv6 pools of an edge: a /48 takes 65,536.
pub const EDGE_BLOCK_COUNT_MAX: u32 = 262_144 + 32 * 65_536;

/// IPv6 networks of 48 bits that an edge has pools in.
pub const NETWORK_COUNT_MAX: u32 = 1024;

/// Peers of an edge: the other edges of its group.
pub const PEER_COUNT_MAX: u32 = 128;

/// Hints where egress addresses have their cells; a power of two.
pub const ADDRESS_HINT_COUNT: u32 = 8192;

/// Cells of `DEVICE_HINTS`, a power of two.
pub const DEVICE_HINT_COUNT: u32 = 16_384;

/// Cells of `FLOW_HINTS`, a power of two.
pub const FLOW_HINT_COUNT: u32 = 262_144;

/// Cells of the filter in front of an edge's own addresses; 64 bits each.
pub const OWN_FILTER_COUNT: u32 = 1024;

/// Port slots of all leases of a node, by default: 512 blocks of 1,024 ports for each of three protocols.
pub const SLOT_COUNT_DEFAULT: u32 = 512 * 1024 * 3;

/// Flows of a node.
pub const FLOW_COUNT_MAX: u32 = 262_144;

/// Mappings of a node.
pub const MAPPING_COUNT_MAX: u32 = 262_144;

/// Nodes that an edge serves.
pub const NODE_COUNT_MAX: u32 = 16_384;

/// Prefixes in a table of managed ranges, of sources, or in one list of bypassed destinations.
pub const PREFIX_COUNT_MAX: u32 = 1024;

/// Fragmented packets that a node or an edge remembers.
pub const FRAGMENT_COUNT_MAX: u32 = 65_536;

/// Flows of a node that leave under shared ports.
pub const SHARED_COUNT_MAX: u32 = 65_536;

/// Connections opened from outside that a node remembers until their subject answers.
pub const OPENING_COUNT_MAX: u32 = 4096;

/// Prefixes in the lists of bypassed destinations of a node and of all its personas together.
pub const BYPASS_COUNT_MAX: u32 = 65_536;

/// Source prefixes of subjects behind shared devices.
pub const SOURCE_COUNT_MAX: u32 = 16_384;

/// Control groups of the host's own subjects.
pub const CGROUP_COUNT_MAX: u32 = 4096;

/// Levels of the control group tree that are searched for a subject's group.
pub const CGROUP_LEVEL_MAX: u32 = 16;

/// Records of flows without slots.
pub const RECORD_COUNT_MAX: u32 = 262_144;

/// Connections opened towards workloads.
pub const TOWARDS_COUNT_MAX: u32 = 65_536;

/// Different sets of firewall rules of a node.
pub const FIREWALL_SET_COUNT_MAX: u32 = 256;

/// Ranges of the other side that all sets together name.
pub const FIREWALL_REMOTE_COUNT_MAX: u32 = 16_384;

/// Protocols and ports that all sets together name.
pub const FIREWALL_SERVICE_COUNT_MAX: u32 = 65_536;

/// Own IPv6 addresses of the host that are in use under leases.
pub const HOST_ADDRESS_COUNT_MAX: u32 = 4096;
