//! What a guest is answered that asks for its IPv4 address by DHCP (RFC 2131). Pure: a message in, a message out.
//!
//! DHCP knows one address per interface and no "deprecated": the guest that renews an old address is refused it (NAK), asks
//! anew at once, and gets the one in force. So renewal comes early ([`RENEWAL_SECS`]), while the address holds for as long as
//! a prefix that is announced ([`LEASE_SECS`]): long enough for an agent to be restarted.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use ipnet::Ipv4Net;

use super::announce;
use super::plan::GATEWAY;

/// How long a guest keeps an address that nobody confirms, seconds.
const LEASE_SECS: u32 = announce::LIFETIME_SECS;
/// After this long a guest asks whether its address still stands, seconds (T1): a switch reaches it this late.
const RENEWAL_SECS: u32 = 30;
/// After this long it asks everybody, seconds (T2).
const REBINDING_SECS: u32 = 150;
/// The longest hardware address that a message has room for, bytes; what it says may be more.
const HARDWARE_BYTES_MAX: u8 = 16;

/// The leased address in force, for whoever asks on the device: there is one guest behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// The address, which is given as /32.
    pub address: Ipv4Addr,
    /// Largest packet, bytes.
    pub mtu: u16,
}

/// A message for the guest, and where to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// What it is told.
    pub message: Message,
    /// Its address where it has one, else everybody.
    pub to: Ipv4Addr,
}

/// What a message is answered. None: it is for another server, or asks for nothing.
pub(super) fn answer(request: &Message, offer: &Offer) -> Option<Answer> {
    if request.opcode() != Opcode::BootRequest || !request.giaddr().is_unspecified() || !is_for_us(request) {
        return None;
    }
    if request.hlen() > HARDWARE_BYTES_MAX {
        return None;
    }
    match request.opts().msg_type()? {
        MessageType::Discover => Some(reply(request, MessageType::Offer, Some(offer))),
        MessageType::Request if wanted(request)? == offer.address => {
            Some(reply(request, MessageType::Ack, Some(offer)))
        }
        MessageType::Request => Some(reply(request, MessageType::Nak, None)),
        MessageType::Inform => {
            let mut answer = reply(request, MessageType::Ack, Some(offer));
            // It has an address of its own and asks for the rest (RFC 2131 §4.3.5).
            answer.message.set_yiaddr(Ipv4Addr::UNSPECIFIED);
            answer.message.opts_mut().retain(|code, _| !is_lifetime(code));
            Some(answer)
        }
        _ => None,
    }
}

fn is_for_us(request: &Message) -> bool {
    match request.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server == GATEWAY,
        _ => true,
    }
}

/// The address that a REQUEST is about: named where it is new, its own where it is renewed (RFC 2131 §4.3.2).
fn wanted(request: &Message) -> Option<Ipv4Addr> {
    match request.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => Some(request.ciaddr()).filter(|address| !address.is_unspecified()),
    }
}

fn reply(request: &Message, kind: MessageType, offer: Option<&Offer>) -> Answer {
    let (nobody, refuses) = (Ipv4Addr::UNSPECIFIED, kind == MessageType::Nak);
    let address = offer.map_or(nobody, |offer| offer.address);
    let own = if refuses { nobody } else { request.ciaddr() };
    let mut message = Message::new_with_id(request.xid(), own, address, nobody, nobody, request.chaddr());
    message.set_opcode(Opcode::BootReply).set_htype(request.htype()).set_flags(request.flags());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(GATEWAY));
    for option in offer.into_iter().flat_map(told) {
        options.insert(option);
    }
    // Who has no address yet hears only what is for everybody (RFC 2131 §4.1).
    let to = if own.is_unspecified() { Ipv4Addr::BROADCAST } else { own };
    Answer { message, to }
}

/// The address is alone on its link, so the gateway comes first: on-link, then the way everywhere (RFC 3442).
fn told(offer: &Offer) -> [DhcpOption; 7] {
    let net = |address: Ipv4Addr, length| Ipv4Net::new(address, length).expect("0 and 32 are lengths of a prefix");
    let routes = vec![(net(GATEWAY, 32), Ipv4Addr::UNSPECIFIED), (net(Ipv4Addr::UNSPECIFIED, 0), GATEWAY)];
    [
        DhcpOption::SubnetMask(Ipv4Addr::BROADCAST),
        DhcpOption::Router(vec![GATEWAY]),
        DhcpOption::ClasslessStaticRoute(routes),
        DhcpOption::InterfaceMtu(offer.mtu),
        DhcpOption::AddressLeaseTime(LEASE_SECS),
        DhcpOption::Renewal(RENEWAL_SECS),
        DhcpOption::Rebinding(REBINDING_SECS),
    ]
}

fn is_lifetime(code: &OptionCode) -> bool {
    matches!(code, OptionCode::AddressLeaseTime | OptionCode::Renewal | OptionCode::Rebinding)
}

#[cfg(test)]
mod tests {
    use dhcproto::{Decodable as _, Encodable as _};

    use super::*;

    const NEW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
    const OLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 4);
    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    fn request(kind: MessageType, own: Ipv4Addr, options: Vec<DhcpOption>) -> Message {
        let mut message = Message::new_with_id(7, own, NOBODY, NOBODY, NOBODY, &[2, 0, 0, 0, 0, 5]);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    }

    #[test]
    fn a_guest_is_given_the_address_in_force_and_refused_an_old_one() {
        use MessageType::{Ack, Decline, Discover, Inform, Nak, Offer as Offered, Release, Request};
        let (named, server) = (DhcpOption::RequestedIpAddress, DhcpOption::ServerIdentifier);
        let all = Ipv4Addr::BROADCAST;
        let cases = [
            ("asks", request(Discover, NOBODY, vec![]), Some((Offered, NEW, all))),
            ("asks for the old one", request(Discover, NOBODY, vec![named(OLD)]), Some((Offered, NEW, all))),
            ("takes it", request(Request, NOBODY, vec![named(NEW), server(GATEWAY)]), Some((Ack, NEW, all))),
            ("takes another's", request(Request, NOBODY, vec![named(NEW), server(OLD)]), None),
            ("was there before", request(Request, NOBODY, vec![named(OLD)]), Some((Nak, NOBODY, all))),
            ("renews", request(Request, NEW, vec![]), Some((Ack, NEW, NEW))),
            ("renews an old one", request(Request, OLD, vec![]), Some((Nak, NOBODY, all))),
            ("names none", request(Request, NOBODY, vec![]), None),
            ("has its own", request(Inform, OLD, vec![]), Some((Ack, NOBODY, OLD))),
            ("gives it back", request(Release, NEW, vec![]), None),
            ("finds it in use", request(Decline, NOBODY, vec![named(NEW)]), None),
        ];
        for (what, request, expected) in cases {
            let answer = answer(&request, &Offer { address: NEW, mtu: 1_400 });
            let told = |answer: &Answer| {
                let message = &answer.message;
                (message.opts().msg_type().unwrap(), message.yiaddr(), answer.to)
            };
            assert_eq!(answer.as_ref().map(told), expected, "{what}");
            assert!(answer.is_none_or(|it| it.message.xid() == 7 && it.message.chaddr() == request.chaddr()));
        }
    }

    #[test]
    fn a_hardware_address_longer_than_its_place_is_answered_by_nobody() {
        let mut bytes = request(MessageType::Discover, NOBODY, vec![]).to_vec().unwrap();
        for (length, is_answered) in [(16, true), (17, false), (255, false)] {
            bytes[2] = length;
            let request = Message::from_bytes(&bytes).unwrap();
            assert_eq!(answer(&request, &Offer { address: NEW, mtu: 1_400 }).is_some(), is_answered, "{length} bytes");
        }
    }

    #[test]
    fn what_is_given_comes_with_gateway_mtu_and_times() {
        let offer = Offer { address: NEW, mtu: 1_380 };
        let answer = answer(&request(MessageType::Discover, NOBODY, vec![]), &offer).unwrap();
        let options = answer.message.opts();
        assert_eq!(options.get(OptionCode::InterfaceMtu), Some(&DhcpOption::InterfaceMtu(1_380)));
        assert_eq!(options.get(OptionCode::SubnetMask), Some(&DhcpOption::SubnetMask([255; 4].into())));
        assert_eq!(options.get(OptionCode::Renewal), Some(&DhcpOption::Renewal(30)));
        let DhcpOption::ClasslessStaticRoute(routes) = options.get(OptionCode::ClasslessStaticRoute).unwrap() else {
            panic!("{options:?}")
        };
        let routes: Vec<_> = routes.iter().map(|(to, by)| (to.to_string(), by.to_string())).collect();
        assert_eq!(
            routes,
            [("169.254.1.1/32".to_owned(), "0.0.0.0".to_owned()), ("0.0.0.0/0".to_owned(), "169.254.1.1".to_owned())]
        );
        let mut relayed = request(MessageType::Discover, NOBODY, vec![]);
        relayed.set_giaddr(OLD);
        assert_eq!(super::answer(&relayed, &offer), None, "nobody relays on a device of one guest");
    }
}
