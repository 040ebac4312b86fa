//! The benchmark's packets: 64-byte UDP (60 bytes and the frame check sequence that only a wire has), bare, in Geneve and
//! in VXLAN; and what is right when one comes out at the other end.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use persona_common::bench::{Flow, Headers};

use crate::model::wire::{complement, put, short, sum};

/// Bytes of a frame without a tunnel.
const BARE_LENGTH: usize = 60;
const ETHERNET_LENGTH: usize = 14;
const IP_LENGTH: usize = 20;
const UDP: u8 = 17;
/// UDP ports of Geneve and VXLAN.
const GENEVE_PORT: u16 = 6081;
const VXLAN_PORT: u16 = 4789;
/// Entropy that a sender of tunnel packets puts into the source port.
const TUNNEL_SOURCE_PORT: u16 = 0xc123;

/// A UDP packet between two sockets.
#[derive(Debug, Clone, Copy)]
pub struct Datagram {
    /// Source address and port.
    pub source: (Ipv4Addr, u16),
    /// Destination address and port.
    pub destination: (Ipv4Addr, u16),
}

/// The tunnel that packets are in.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel {
    /// Whose packets they are.
    pub source: Ipv4Addr,
    /// Who shall take them out.
    pub destination: Ipv4Addr,
    /// Under which number.
    pub vni: u32,
}

/// Hardware addresses of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct Macs {
    /// To whom.
    pub destination: [u8; 6],
    /// From whom.
    pub source: [u8; 6],
}

impl Datagram {
    /// The IP packet, 46 bytes, with right checksums.
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0; BARE_LENGTH - ETHERNET_LENGTH];
        let length = packet.len() as u16;
        packet[0] = 0x45;
        put(&mut packet, 2, length);
        put(&mut packet, 6, 0x4000);
        packet[8] = 64;
        packet[9] = UDP;
        packet[12..16].copy_from_slice(&self.source.0.octets());
        packet[16..20].copy_from_slice(&self.destination.0.octets());
        put(&mut packet, 20, self.source.1);
        put(&mut packet, 22, self.destination.1);
        put(&mut packet, 24, length - IP_LENGTH as u16);
        packet[28..].fill(0x5a);
        seal(&mut packet);
        packet
    }

    /// The packet one hop on.
    pub fn next_hop(&self) -> Vec<u8> {
        let mut packet = self.packet();
        packet[8] -= 1;
        seal(&mut packet);
        packet
    }

    /// The frame without a tunnel.
    pub fn bare(&self, macs: Macs) -> Vec<u8> {
        frame(macs, &self.packet())
    }

    /// The frame in Geneve.
    pub fn in_geneve(&self, macs: Macs, tunnel: &Tunnel) -> Vec<u8> {
        let vni = tunnel.vni.to_be_bytes();
        let header = [0, 0, 8, 0, vni[1], vni[2], vni[3], 0];
        frame(macs, &outer(tunnel, GENEVE_PORT, &[&header[..], &self.packet()].concat()))
    }

    /// The frame in VXLAN, which holds a frame between `inner` addresses.
    pub fn in_vxlan(&self, macs: Macs, inner: Macs, tunnel: &Tunnel) -> Vec<u8> {
        let vni = tunnel.vni.to_be_bytes();
        let header = [8, 0, 0, 0, vni[1], vni[2], vni[3], 0];
        frame(macs, &outer(tunnel, VXLAN_PORT, &[&header[..], &self.bare(inner)].concat()))
    }

    /// What is its own in any of its frames; `tunnel` is absent in a bare one.
    pub fn flow(&self, tunnel: Option<&Tunnel>) -> Flow {
        let packet = self.packet();
        let word = |at: usize| u32::from_ne_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let half = |bytes: &[u8], at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let mut flow = Flow {
            source: word(12),
            destination: word(16),
            ports: word(20),
            ip_checksum: half(&packet, 10),
            udp_checksum: half(&packet, 26),
            ..Flow::default()
        };
        if let Some(tunnel) = tunnel {
            flow.outer_source = u32::from_ne_bytes(tunnel.source.octets());
            flow.vni_word = (tunnel.vni << 8).to_be();
            // VXLAN's outer packet is 14 bytes longer; only one node sends there, and its template has the checksum.
            flow.outer_checksum = half(&outer(tunnel, GENEVE_PORT, &[&[0; 8], &packet[..]].concat()), 10);
        }
        flow
    }
}

/// A frame's first bytes, for the programs that make packets.
pub fn headers(frame: &[u8]) -> Headers {
    let mut headers = Headers::default();
    for (word, bytes) in headers.words.iter_mut().zip(frame.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
    headers
}

/// The IP packet in a bare frame.
pub fn packet_of(frame: &[u8]) -> &[u8] {
    frame.get(ETHERNET_LENGTH..).unwrap_or_default()
}

/// Fails unless a bare frame holds what the datagram is one hop on, addressed to `destination` in hardware.
pub fn check_bare(frame: &[u8], expected: &Datagram, destination: [u8; 6]) -> Result<()> {
    ensure!(frame.get(..6) == Some(&destination[..]), "the frame goes to other hardware: {frame:02x?}");
    ensure!(packet_of(frame) == expected.next_hop(), "not the packet: {frame:02x?}, but {:02x?}", expected.next_hop());
    Ok(())
}

/// Fails unless a frame is Geneve between the tunnel's ends around what the datagram is one hop on.
pub fn check_geneve(frame: &[u8], expected: &Datagram, tunnel: &Tunnel) -> Result<()> {
    let packet = packet_of(frame);
    let wanted = Datagram::in_geneve(expected, Macs::default(), tunnel);
    let wanted = packet_of(&wanted);
    ensure!(packet.len() == wanted.len(), "{} bytes are not {}: {frame:02x?}", packet.len(), wanted.len());
    ensure!(complement(sum(&packet[..IP_LENGTH], 0)) == 0, "the outer checksum is wrong: {frame:02x?}");
    ensure!(packet[12..20] == wanted[12..20], "between other tunnel ends: {frame:02x?}");
    ensure!(short(packet, 22) == GENEVE_PORT && packet[28..36] == wanted[28..36], "no such Geneve: {frame:02x?}");
    ensure!(packet[36..] == expected.next_hop()[..], "not the packet: {frame:02x?}, but {:02x?}", expected.next_hop());
    Ok(())
}

fn frame(macs: Macs, packet: &[u8]) -> Vec<u8> {
    [&macs.destination[..], &macs.source, &[8, 0], packet].concat()
}

fn outer(tunnel: &Tunnel, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = IP_LENGTH + 8 + payload.len();
    let mut packet = vec![0; IP_LENGTH + 8];
    packet[0] = 0x45;
    put(&mut packet, 2, length as u16);
    put(&mut packet, 6, 0x4000);
    packet[8] = 64;
    packet[9] = UDP;
    packet[12..16].copy_from_slice(&tunnel.source.octets());
    packet[16..20].copy_from_slice(&tunnel.destination.octets());
    put(&mut packet, 20, TUNNEL_SOURCE_PORT);
    put(&mut packet, 22, port);
    put(&mut packet, 24, 8 + payload.len() as u16);
    let checksum = complement(sum(&packet[..IP_LENGTH], 0));
    put(&mut packet, 10, checksum);
    packet.extend(payload);
    packet
}

/// Makes the checksums right.
fn seal(packet: &mut [u8]) {
    put(packet, 10, 0);
    let checksum = complement(sum(&packet[..IP_LENGTH], 0));
    put(packet, 10, checksum);
    put(packet, 26, 0);
    let pseudo = u32::from(UDP) + (packet.len() - IP_LENGTH) as u32;
    let checksum = complement(sum(&packet[IP_LENGTH..], sum(&packet[12..20], pseudo)));
    put(packet, 26, if checksum == 0 { 0xffff } else { checksum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_changes_time_to_live_and_checksum_only() {
        let datagram =
            Datagram { source: (Ipv4Addr::new(10, 1, 0, 2), 4000), destination: (Ipv4Addr::new(192, 0, 2, 9), 53) };
        let (before, after) = (datagram.packet(), datagram.next_hop());
        let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        assert!(changed.iter().all(|at| [8, 10, 11].contains(at)), "{changed:?}");
        assert_eq!(complement(sum(&after[..IP_LENGTH], 0)), 0);
        let frame = frame(Macs::default(), &after);
        check_bare(&frame, &datagram, [0; 6]).unwrap();
        assert!(check_bare(&datagram.bare(Macs::default()), &datagram, [0; 6]).is_err());
    }
}
