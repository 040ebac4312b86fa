//! The ABI between the kernel programs and user space: map keys and values, drop reasons, the probe's format.
//!
//! No allocation, no I/O. Every type here is `repr(C)` with its size and alignment asserted beside it.
#![no_std]

pub mod probe;
