//! The tests' own readers of packets and tunnels.

#[path = "../../tests/src/model/packet.rs"]
pub mod packet;
#[path = "../../tests/src/model/tunnel.rs"]
pub mod tunnel;
#[path = "../../tests/src/model/wire.rs"]
pub mod wire;
