//! IPv4 packets with options, in fragments and inside ICMP errors; and a check of every checksum that knows nothing of how
//! the programs compute theirs.

use super::frames::{Ip, checksum};

/// Bytes of the packet's IP header.
pub(super) fn header_length(packet: &[u8]) -> usize {
    usize::from(packet[0] & 15) * 4
}

/// Makes length and checksum of the IP header right.
fn mend(mut packet: Vec<u8>) -> Vec<u8> {
    let header_length = header_length(&packet);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&packet[..header_length], 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The packet with IP options, whose length is a multiple of four.
pub(super) fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut with = [&packet[..20], options, &packet[20..]].concat();
    with[0] = 0x45 + (options.len() / 4) as u8;
    mend(with)
}

/// The packet with an id.
pub(super) fn with_id(mut packet: Vec<u8>, id: u16) -> Vec<u8> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    mend(packet)
}

/// The packet's bytes from `from` to `to` of its payload, as a fragment.
pub(super) fn fragment(packet: &[u8], id: u16, from: usize, to: usize) -> Vec<u8> {
    let header_length = header_length(packet);
    let payload = &packet[header_length..];
    let mut fragment = [&packet[..header_length], &payload[from..to.min(payload.len())]].concat();
    let word = (from / 8) as u16 | if to < payload.len() { 0x2000 } else { 0 };
    fragment[6..8].copy_from_slice(&word.to_be_bytes());
    with_id(fragment, id)
}

/// An ICMP error about the first bytes of a packet.
pub(super) fn icmp_error(ip: Ip, kind: u8, code: u8, parameter: u32, embedded: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(parameter.to_be_bytes());
    message.extend(embedded);
    let sum = checksum(&message, 0);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ip { dont_fragment: false, ..ip }.packet(&message)
}

/// Fails unless every checksum of a whole packet is right, those of an embedded packet included as far as it is there.
pub(super) fn assert_sums(packet: &[u8], what: &str) {
    let header_length = header_length(packet);
    assert_eq!(checksum(&packet[..header_length], 0), 0, "{what}: IP header of {packet:02x?}");
    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len(), "{what}: length");
    let payload = &packet[header_length..];
    let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
    if is_fragment {
        return;
    }
    let pseudo = u32::from(packet[9])
        + payload.len() as u32
        + packet[12..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    match packet[9] {
        6 => assert_eq!(checksum(payload, pseudo), 0, "{what}: TCP of {packet:02x?}"),
        17 if payload[6..8] == [0, 0] => {}
        17 => assert_eq!(checksum(payload, pseudo), 0, "{what}: UDP of {packet:02x?}"),
        1 => {
            assert_eq!(checksum(payload, 0), 0, "{what}: ICMP of {packet:02x?}");
            if [3, 11, 12].contains(&payload[0]) {
                assert_embedded(&payload[8..], what);
            }
        }
        _ => {}
    }
}

fn assert_embedded(packet: &[u8], what: &str) {
    let header_length = header_length(packet);
    assert_eq!(checksum(&packet[..header_length], 0), 0, "{what}: embedded IP header of {packet:02x?}");
    if usize::from(u16::from_be_bytes([packet[2], packet[3]])) == packet.len() {
        assert_sums(packet, what);
    }
}
