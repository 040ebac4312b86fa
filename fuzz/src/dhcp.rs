//! What guests ask by DHCP, and what they are answered.

/// The one value that the answerer takes from the announcer of prefixes.
mod announce {
    pub(super) const LIFETIME_SECS: u32 = 300;
}
#[path = "../../persona-ctl/src/agent/configure/dhcp.rs"]
mod answers;
/// The one value that it takes from the plan of a device.
mod plan {
    use std::net::Ipv4Addr;

    pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
}

use std::net::Ipv4Addr;

use answers::Offer;
use dhcproto::v4::Message;
use dhcproto::{Decodable as _, Encodable as _};

/// Reads bytes as a message; an answer can be written, and is one to this question with this address or none.
pub fn read(bytes: &[u8]) {
    let Ok(request) = Message::from_bytes(bytes) else { return };
    let offer = Offer { address: Ipv4Addr::new(203, 0, 113, 9), mtu: 1_400 };
    let Some(answer) = answers::answer(&request, &offer) else { return };
    let written = answer.message.to_vec().expect("what is answered can be written");
    let read = Message::from_bytes(&written).expect("what was written can be read");
    assert_eq!((read.xid(), read.chaddr()), (request.xid(), request.chaddr()));
    assert!(read.yiaddr() == offer.address || read.yiaddr().is_unspecified());
}
