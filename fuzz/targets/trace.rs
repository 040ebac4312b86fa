//! Traces: long ones of either kind, and wide ones.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| persona_fuzz::trace::read(data));
