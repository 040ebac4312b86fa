//! What the kernel programs share: headers, the frame they stand in, and the changes made to it.
//!
//! Built for `bpfel-unknown-none` only, by persona-ctl's build script. To lint it the same way:
//! `cargo +nightly clippy -p persona-ebpf --target bpfel-unknown-none -Z build-std=core`.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod atomic;
pub mod count;
pub mod embedded;
pub mod encapsulation;
pub mod event;
pub mod extension;
pub mod features;
pub mod frame;
pub mod front;
pub mod header;
pub mod icmp;
pub mod icmp6;
pub mod icmp_limit;
pub mod log;
pub mod message;
pub mod message6;
pub mod neighbour;
pub mod options;
pub mod outcome;
pub mod packet;
pub mod packet6;
pub mod quotation;
pub mod tc;
pub mod verdict;
pub mod wire;
pub mod xdp;
