//! Tests that need root: real programs in the real kernel, real packets.

mod programs;
