//! The kernel programs, embedded in the binary.

/// An object, aligned as its parser wants it.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static NODE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/persona-node")));
static EDGE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/persona-edge")));
static GATEWAY: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/persona-gateway")));
static DELIVERY: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/persona-delivery")));

/// The node's programs; empty if the build skipped them.
pub fn node() -> &'static [u8] {
    &NODE.0
}

/// The edge's programs; empty if the build skipped them.
pub fn edge() -> &'static [u8] {
    &EDGE.0
}

/// The gateway's programs; empty if the build skipped them.
pub fn gateway() -> &'static [u8] {
    &GATEWAY.0
}

/// The delivering node's program; empty if the build skipped it.
pub fn delivery() -> &'static [u8] {
    &DELIVERY.0
}
