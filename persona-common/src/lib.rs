//! The ABI between the kernel programs and user space: map keys and values, drop reasons, the probe's format, and the
//! arithmetic that both sides share.
//!
//! No allocation, no I/O. Every type here is `repr(C)` with its size and alignment asserted beside it. Addresses are
//! kept as they stand in a packet ([`addr::AddressBe`]); ports and all other numbers are in host order.
#![cfg_attr(not(test), no_std)]

pub mod addr;
pub mod bench;
pub mod checksum;
pub mod departure;
pub mod drop;
pub mod edge;
pub mod encapsulation;
pub mod event;
pub mod firewall;
pub mod flow;
pub mod fragment;
pub mod gateway;
pub mod hint;
pub mod icmp_limit;
pub mod maps;
pub mod node;
pub mod normalise;
#[cfg(feature = "user")]
mod pod;
pub mod police;
pub mod probe;
pub mod record;
pub mod share;
pub mod traffic;
pub mod translation;

/// Version of every layout in this crate. Pinned maps of another version are not reused.
pub const ABI_VERSION: u32 = 2;

/// `skb->mark` of packets that a program of ours has put into a tunnel.
pub const PERSONA_MARK: u32 = 0x5053_0001;

/// `skb->mark` of packets that a program of ours lets pass by the persona.
pub const BYPASS_MARK: u32 = 0x5053_0002;

/// Bytes that the encapsulation adds to an inner packet over IPv4: outer IPv4, UDP and Geneve headers.
pub const ENCAPSULATION_LENGTH_V4: usize = 20 + 8 + 8;

/// Bytes that the encapsulation adds to an inner packet over IPv6: outer IPv6, UDP and Geneve headers.
pub const ENCAPSULATION_LENGTH_V6: usize = 40 + 8 + 8;
