//! Frames and packets that anybody may have sent, as the slow path reads them, held against the tests' model of the data plane.
#![no_main]

use libfuzzer_sys::fuzz_target;
use persona_fuzz::{model, slow_path};

fuzz_target!(|data: &[u8]| {
    slow_path::read_frame(data);
    slow_path::read_inner(data);
    if let Some(tunnel) = model::tunnel::read_loosely(data) {
        slow_path::read_inner(tunnel.inner);
    }
    // The rest as an inner packet in a tunnel of either family.
    let Some((ports, inner)) = data.split_first_chunk::<2>() else { return };
    let port = u16::from_be_bytes(*ports);
    slow_path::tunnel_between([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), port, inner);
    let six = |last: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into();
    slow_path::tunnel_between(six(1), six(2), port, inner);
});
