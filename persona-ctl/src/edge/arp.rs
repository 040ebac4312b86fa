//! ARP frames (RFC 826): requests that ask a next hop for a sign of life, and announcements (RFC 5227 §3).

use std::net::Ipv4Addr;

const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// Ethernet, IPv4, and the lengths of their addresses.
const KINDS: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;

/// Bytes of a frame without padding.
pub(super) const FRAME_LENGTH: usize = 42;

/// Asks who has `target`. A `sender` of 0.0.0.0 asks without telling an address.
pub(super) fn request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    frame(mac, sender, target)
}

/// Tells everyone that `address` is at `mac` now.
pub(super) fn announcement(mac: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    frame(mac, address, address)
}

/// The address that a frame's sender claims. Any ARP frame is a sign of life of its sender. None: no ARP for IPv4.
pub(super) fn sender_of(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_arp = frame.get(12..14)? == ETHERTYPE_ARP && frame.get(14..20)? == KINDS;
    let sender: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    is_arp.then(|| Ipv4Addr::from(sender))
}

fn frame(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
    frame[14..20].copy_from_slice(&KINDS);
    frame[20..22].copy_from_slice(&REQUEST.to_be_bytes());
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_read() {
        let target = Ipv4Addr::new(198, 51, 100, 1);
        let sender = Ipv4Addr::new(198, 51, 100, 2);
        let frame = request([2; 6], sender, target);
        assert_eq!(sender_of(&frame), Some(sender));
        assert_eq!(sender_of(&announcement([2; 6], target)), Some(target));
        for length in 0..32 {
            assert_eq!(sender_of(&frame[..length]), None, "{length}");
        }
        let mut other = frame;
        other[13] = 0;
        assert_eq!(sender_of(&other), None);
    }
}
