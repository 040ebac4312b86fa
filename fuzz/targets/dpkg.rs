//! dpkg's database below the root of a workload, which may have written it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| persona_fuzz::dpkg::read(data));
