//! Lines of a QEMU monitor.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| persona_fuzz::qmp::read(data));
