//! What neighbours and routers say: ARP, neighbour discovery, "too big". None of it is to be believed for its length.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| persona_fuzz::neighbour::read(data));
