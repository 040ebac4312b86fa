//! A frame in a few words: addresses, protocol, what stands out; a tunnel with what is in it.

use std::fmt::Write;
use std::net::IpAddr;

use etherparse::{Icmpv4Type, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use serde::Serialize;

use super::filter::inner_frame;

/// What a frame is, for people and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Where from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Both ports, where the protocol has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// The protocol and what stands out.
    pub protocol: String,
    /// What is in the tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<Box<Summary>>,
    /// The tunnel's persona.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
}

/// Describes a frame, as far as its bytes go.
pub fn summary_of(frame: &[u8]) -> Summary {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return Summary { protocol: "cut short".to_owned(), ..Summary::default() };
    };
    let (source, destination) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            (Some(ip.header().source_addr().into()), Some(ip.header().destination_addr().into()))
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            (Some(ip.header().source_addr().into()), Some(ip.header().destination_addr().into()))
        }
        _ => (None, None),
    };
    let (protocol, ports) = transport(&packet, frame);
    let inner = inner_frame(frame).map(|inner| Box::new(summary_of(&inner)));
    let vni = inner.is_some().then(|| vni_of(frame)).flatten();
    Summary { source, destination, ports, protocol, inner, vni }
}

fn transport(packet: &LaxSlicedPacket<'_>, frame: &[u8]) -> (String, Option<(u16, u16)>) {
    let is_later_fragment = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => ip.header().fragments_offset().value() != 0,
        _ => false,
    };
    if is_later_fragment {
        return ("fragment".to_owned(), None);
    }
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let mut text = "tcp".to_owned();
            for (is_set, name) in [(tcp.syn(), "SYN"), (tcp.ack(), "ACK"), (tcp.fin(), "FIN"), (tcp.rst(), "RST")] {
                if is_set {
                    // A String takes whatever is written.
                    let _ = write!(text, " {name}");
                }
            }
            (text, Some((tcp.source_port(), tcp.destination_port())))
        }
        Some(TransportSlice::Udp(udp)) => ("udp".to_owned(), Some((udp.source_port(), udp.destination_port()))),
        Some(TransportSlice::Icmpv4(icmp)) => (icmpv4(&icmp.icmp_type()), None),
        Some(TransportSlice::Icmpv6(icmp)) => (format!("icmp6 {} code {}", icmp.type_u8(), icmp.code_u8()), None),
        Some(TransportSlice::Igmp(_)) => ("igmp".to_owned(), None),
        None => (network(packet, frame), None),
    }
}

fn icmpv4(kind: &Icmpv4Type) -> String {
    match kind {
        Icmpv4Type::EchoRequest(echo) => format!("icmp echo request id {}", echo.id),
        Icmpv4Type::EchoReply(echo) => format!("icmp echo reply id {}", echo.id),
        Icmpv4Type::DestinationUnreachable(_) => "icmp unreachable".to_owned(),
        Icmpv4Type::TimeExceeded(_) => "icmp time exceeded".to_owned(),
        Icmpv4Type::ParameterProblem(_) => "icmp parameter problem".to_owned(),
        _ => "icmp".to_owned(),
    }
}

fn network(packet: &LaxSlicedPacket<'_>, frame: &[u8]) -> String {
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => format!("ip protocol {}", ip.header().protocol().0),
        Some(LaxNetSlice::Ipv6(ip)) => format!("ip protocol {}", ip.header().next_header().0),
        Some(LaxNetSlice::Arp(_)) => "arp".to_owned(),
        None => match frame.get(12..14) {
            Some(kind) => format!("ethertype 0x{:02x}{:02x}", kind[0], kind[1]),
            None => "cut short".to_owned(),
        },
    }
}

fn vni_of(frame: &[u8]) -> Option<u32> {
    let udp_at = if frame.get(12)? == &8 { 14 + usize::from(frame.get(14)? & 15) * 4 } else { 54 };
    let vni = frame.get(udp_at + 12..udp_at + 15)?;
    Some(u32::from_be_bytes([0, vni[0], vni[1], vni[2]]))
}

impl std::fmt::Display for Summary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let (Some(source), Some(destination)) = (self.source, self.destination) {
            let (from, to) = self.ports.map_or((None, None), |(from, to)| (Some(from), Some(to)));
            write!(formatter, "{} > {} ", endpoint(source, from), endpoint(destination, to))?;
        }
        match (&self.inner, self.vni) {
            (Some(inner), Some(vni)) => write!(formatter, "geneve vni {vni} [{inner}]"),
            _ => formatter.write_str(&self.protocol),
        }
    }
}

fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn frame(make: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>) -> Vec<u8> {
        make(PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 1, 0, 2], [203, 0, 113, 5], 64))
    }

    fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        frame(|builder| {
            let mut bytes = Vec::new();
            builder.udp(source, destination).write(&mut bytes, payload).unwrap();
            bytes
        })
    }

    #[test]
    fn packets_are_told_in_a_few_words() {
        let syn = frame(|builder| {
            let mut bytes = Vec::new();
            builder.tcp(40_000, 443, 1, 1_000).syn().write(&mut bytes, &[]).unwrap();
            bytes
        });
        let inner = &syn[14..];
        let tunnel = udp(50_000, 6081, &[&[0, 0, 8, 0, 0, 0, 42, 0][..], inner].concat());
        for (bytes, text) in [
            (&syn[..], "10.1.0.2:40000 > 203.0.113.5:443 tcp SYN"),
            (&udp(5, 53, b"x"), "10.1.0.2:5 > 203.0.113.5:53 udp"),
            (&tunnel, "10.1.0.2:50000 > 203.0.113.5:6081 geneve vni 42 [10.1.0.2:40000 > 203.0.113.5:443 tcp SYN]"),
            (&syn[..9], "cut short"),
            (&[0; 20], "ethertype 0x0000"),
        ] {
            assert_eq!(summary_of(bytes).to_string(), text);
        }
    }
}
