//! IPFIX messages (RFC 7011 §3): templates, and data records that follow them.
//!
//! Two templates, one per family, with the information elements that RFC 8158 §5.5 and §5.6 ask of session events. The
//! elements are IANA's; IPv6 prefix translation has no event number of its own there, so its sessions are told with the
//! general create and delete events.

use std::net::IpAddr;

use crate::monitor::FlowView;

/// Bytes of a message at most: fits an underlay of 1,500 with room for tunnels.
pub(super) const MESSAGE_LENGTH_MAX: usize = 1_300;

const VERSION: u16 = 10;
const HEADER_LENGTH: usize = 16;
const TEMPLATE_SET: u16 = 2;
const TEMPLATE_IPV4: u16 = 256;
const TEMPLATE_IPV6: u16 = 257;

/// Information element number and bytes; 65,535 stands for "tells its length itself" (RFC 7011 §7).
type Field = (u16, u16);

const VARIABLE: u16 = 65_535;
const OBSERVATION_TIME_MILLISECONDS: Field = (323, 8);
const NAT_EVENT: Field = (230, 1);
const PROTOCOL_IDENTIFIER: Field = (4, 1);
const SOURCE_TRANSPORT_PORT: Field = (7, 2);
const DESTINATION_TRANSPORT_PORT: Field = (11, 2);
const POST_NAPT_SOURCE_TRANSPORT_PORT: Field = (227, 2);
const SOURCE_IPV4_ADDRESS: Field = (8, 4);
const DESTINATION_IPV4_ADDRESS: Field = (12, 4);
const POST_NAT_SOURCE_IPV4_ADDRESS: Field = (225, 4);
const SOURCE_IPV6_ADDRESS: Field = (27, 16);
const DESTINATION_IPV6_ADDRESS: Field = (28, 16);
const POST_NAT_SOURCE_IPV6_ADDRESS: Field = (281, 16);
const FLOW_ID: Field = (148, 8);
const USER_NAME: Field = (371, VARIABLE);

const FIELDS_IPV4: [Field; 10] = [
    OBSERVATION_TIME_MILLISECONDS,
    NAT_EVENT,
    PROTOCOL_IDENTIFIER,
    SOURCE_IPV4_ADDRESS,
    DESTINATION_IPV4_ADDRESS,
    POST_NAT_SOURCE_IPV4_ADDRESS,
    SOURCE_TRANSPORT_PORT,
    DESTINATION_TRANSPORT_PORT,
    POST_NAPT_SOURCE_TRANSPORT_PORT,
    FLOW_ID,
];

const FIELDS_IPV6: [Field; 10] = [
    OBSERVATION_TIME_MILLISECONDS,
    NAT_EVENT,
    PROTOCOL_IDENTIFIER,
    SOURCE_IPV6_ADDRESS,
    DESTINATION_IPV6_ADDRESS,
    POST_NAT_SOURCE_IPV6_ADDRESS,
    SOURCE_TRANSPORT_PORT,
    DESTINATION_TRANSPORT_PORT,
    POST_NAPT_SOURCE_TRANSPORT_PORT,
    FLOW_ID,
];

/// What happened to a flow; the numbers are IANA's NAT event types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It opened.
    Opened,
    /// It closed, or was silent for too long.
    Closed,
}

impl Happening {
    fn number(self, is_ipv4: bool) -> u8 {
        match (self, is_ipv4) {
            (Self::Opened, true) => 4,
            (Self::Closed, true) => 5,
            (Self::Opened, false) => 1,
            (Self::Closed, false) => 2,
        }
    }
}

/// A flow and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowEvent {
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// What happened.
    pub happening: Happening,
    /// To which flow. Its lease is told as the flow id.
    pub flow: FlowView,
    /// Whose flow, such as `workload/n1/web`; exported as the user's name.
    pub subject: String,
}

/// The message that teaches a collector both templates. The subject's name ends every record.
pub(super) fn templates(export_secs: u32, sequence: u32, domain: u32) -> Vec<u8> {
    let mut set = Vec::new();
    for (id, fields) in [(TEMPLATE_IPV4, FIELDS_IPV4), (TEMPLATE_IPV6, FIELDS_IPV6)] {
        let fields = fields.iter().chain([&USER_NAME]);
        set.extend(id.to_be_bytes());
        set.extend((fields.clone().count() as u16).to_be_bytes());
        fields.for_each(|(element, length)| set.extend([element.to_be_bytes(), length.to_be_bytes()].concat()));
    }
    message(export_secs, sequence, domain, &[(TEMPLATE_SET, set)])
}

/// As many events as fit into one message; returns it with how many those are.
pub(super) fn data(export_secs: u32, sequence: u32, domain: u32, events: &[FlowEvent]) -> (Vec<u8>, usize) {
    let mut sets: Vec<(u16, Vec<u8>)> = Vec::new();
    let mut length = HEADER_LENGTH;
    let mut count = 0;
    for event in events {
        let template = if event.flow.inner.is_ipv4() { TEMPLATE_IPV4 } else { TEMPLATE_IPV6 };
        let bytes = record(event);
        let needs_set = sets.last().is_none_or(|(id, _)| *id != template);
        length += bytes.len() + if needs_set { 4 } else { 0 };
        if length > MESSAGE_LENGTH_MAX && count > 0 {
            break;
        }
        if needs_set {
            sets.push((template, Vec::new()));
        }
        sets.last_mut().expect("pushed if there was none").1.extend(bytes);
        count += 1;
    }
    (message(export_secs, sequence, domain, &sets), count)
}

fn record(event: &FlowEvent) -> Vec<u8> {
    let flow = &event.flow;
    let mut bytes = event.time_ms.to_be_bytes().to_vec();
    bytes.extend([event.happening.number(flow.inner.is_ipv4()), flow.protocol]);
    for address in [flow.inner, flow.remote, flow.outer] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend([flow.inner_port, flow.remote_port, flow.outer_port].map(u16::to_be_bytes).concat());
    bytes.extend(flow.lease.to_be_bytes());
    // A name longer than the short form of the length can say is cut; names of subjects are shorter by far.
    let mut name_length = event.subject.len().min(254);
    while !event.subject.is_char_boundary(name_length) {
        name_length -= 1;
    }
    bytes.push(name_length as u8);
    bytes.extend(&event.subject.as_bytes()[..name_length]);
    bytes
}

fn message(export_secs: u32, sequence: u32, domain: u32, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let length = HEADER_LENGTH + sets.iter().map(|(_, bytes)| 4 + bytes.len()).sum::<usize>();
    let mut bytes = [VERSION.to_be_bytes(), (length as u16).to_be_bytes()].concat();
    bytes.extend([export_secs, sequence, domain].map(u32::to_be_bytes).concat());
    for (id, set) in sets {
        bytes.extend([id.to_be_bytes(), ((4 + set.len()) as u16).to_be_bytes()].concat());
        bytes.extend(set);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netflow_parser::NetflowParser;

    use super::*;

    fn event(inner: &str, happening: Happening) -> FlowEvent {
        let is_ipv4 = inner.contains('.');
        let address = |ipv4: &str, ipv6: &str| if is_ipv4 { ipv4 } else { ipv6 }.parse::<IpAddr>().unwrap();
        let flow = FlowView {
            time: Duration::ZERO,
            lease: 9,
            subject: 7,
            vni: 42,
            inner: inner.parse().unwrap(),
            remote: address("203.0.113.5", "2001:db8::5"),
            outer: address("192.0.2.100", "2001:db8:1::2"),
            inner_port: 40_000,
            remote_port: 443,
            outer_port: 5_184,
            protocol: 6,
        };
        FlowEvent { time_ms: 1_700_000_000_123, happening, flow, subject: "workload/n1/web".to_owned() }
    }

    #[test]
    fn a_collector_that_knows_only_the_standard_reads_them() {
        let events = [
            event("10.1.0.2", Happening::Opened),
            event("fd00::2", Happening::Opened),
            event("10.1.0.3", Happening::Closed),
        ];
        let mut collector = NetflowParser::default();
        let taught = collector.parse_bytes(&templates(1, 0, 5));
        assert!(taught.error.is_none(), "{:?}", taught.error);
        let (bytes, count) = data(2, 0, 5, &events);
        assert_eq!(count, 3);
        let read = collector.parse_bytes(&bytes);
        assert!(read.error.is_none(), "{:?}", read.error);
        let text = format!("{:?}", read.packets);
        for said in ["10.1.0.2", "203.0.113.5", "192.0.2.100", "fd00::2", "2001:db8:1::2", "5184", "workload/n1/web"] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
    }

    #[test]
    fn messages_stay_within_their_length_and_lose_nothing() {
        let events: Vec<_> = (0..100).map(|_| event("10.1.0.2", Happening::Opened)).collect();
        let mut rest = &events[..];
        let mut messages = 0;
        while !rest.is_empty() {
            let (bytes, count) = data(0, 0, 0, rest);
            assert!(bytes.len() <= MESSAGE_LENGTH_MAX && count > 0);
            assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]) as usize, bytes.len());
            rest = &rest[count..];
            messages += 1;
        }
        assert!((4..8).contains(&messages), "{messages}");
    }
}
