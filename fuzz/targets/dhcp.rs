//! DHCP as guests speak it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| persona_fuzz::dhcp::read(data));
