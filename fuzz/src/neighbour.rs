//! Readers of what neighbours and routers say: ARP, neighbour discovery, "too big".

#[path = "../../persona-ctl/src/edge/arp.rs"]
mod arp;
#[path = "../../persona-ctl/src/edge/neighbour_discovery.rs"]
mod neighbour_discovery;
#[path = "../../persona-ctl/src/path_mtu/quote.rs"]
mod quote;

use quote::TooBig;

/// Reads bytes as a frame and as a message; of each family only its own can come out.
pub fn read(bytes: &[u8]) {
    let (heard, heard6) = (arp::sender_of(bytes), neighbour_discovery::sender_of(bytes));
    assert!(heard.is_none() || heard6.is_none(), "a frame is of one kind");
    let (told, told6) = (quote::read_ipv4(bytes), quote::read_ipv6(bytes));
    assert!(told.is_none() || told6.is_none(), "a message is of one family");
    let is_of = |told: Option<TooBig>, is_ipv4: bool| {
        told.is_none_or(|it| it.source.is_ipv4() == is_ipv4 && it.destination.is_ipv4() == is_ipv4)
    };
    assert!(is_of(told, true) && is_of(told6, false));
}
