//! The kernel programs, embedded in the binary.

/// An object, aligned as its parser wants it.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static NODE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/persona-node")));
static EDGE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/persona-edge")));

/// The node's programs; empty if the build skipped them.
pub fn node() -> &'static [u8] {
    &NODE.0
}

/// The edge's programs; empty if the build skipped them.
pub fn edge() -> &'static [u8] {
    &EDGE.0
}
