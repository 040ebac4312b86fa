//! What packets look like outside where a persona hides what betrays a host: values that both sides of the maps use.

/// Hops that a packet has left when its edge sends it out (TTL, hop limit): what most hosts begin with.
pub const HOPS_OUTSIDE: u8 = 64;

/// Hops that it has left when its node sends it to the edge, which counts one.
pub const HOPS_TO_EDGE: u8 = HOPS_OUTSIDE + 1;

/// TCP's option for timestamps (RFC 7323 §3.2): its kind, and its bytes.
pub const TIMESTAMPS: (u8, usize) = (8, 10);

/// TCP's option that stands for nothing (RFC 9293 §3.2).
pub const NO_OPERATION: u8 = 1;
