//! Bytes of packets: numbers at offsets, and the Internet checksum done the long way (RFC 1071).

/// A big-endian number; 0 past the end.
pub fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

/// Writes a big-endian number; nothing past the end.
pub fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(two) = bytes.get_mut(at..at + 2) {
        two.copy_from_slice(&value.to_be_bytes());
    }
}

/// The one's complement sum of some bytes, on top of `sum`.
pub fn sum(bytes: &[u8], sum: u32) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    words.fold(sum, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    })
}

/// The checksum that belongs to a sum.
pub fn complement(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// A checksum as it must be after the bytes it covers have gained `added` and lost `removed`, both sums. Exact up to the
/// two forms of zero.
pub fn updated(checksum: u16, removed: u32, added: u32) -> u16 {
    let minus = |value: u32| u32::from(!((value & 0xffff) as u16));
    let folded = |value: u32| (value & 0xffff) + (value >> 16);
    complement(folded(folded(u32::from(!checksum) + minus(folded(removed)) + folded(added))))
}

/// Whether two checksums say the same: zero has two forms.
pub fn same_checksum(left: u16, right: u16) -> bool {
    left == right || (left == 0 && right == 0xffff) || (left == 0xffff && right == 0)
}

/// The congestion bits of a packet that leaves a tunnel (RFC 6040 §4.2): its own ones, `inner`, unless the outer ones say
/// more. A mark outside on a packet that can't carry it is for the caller to drop.
pub fn ecn_at_exit(inner: u8, outer: u8) -> u8 {
    match (inner & 3, outer & 3) {
        (0, _) => 0,
        (_, 3) => 3,
        (2, 1) => 1,
        (inner, _) => inner,
    }
}

/// Sets the congestion bits of an IP packet; an IPv4 header's checksum is updated.
pub fn set_ecn(packet: &mut [u8], ecn: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & 0xcf | ecn << 4;
        return;
    }
    let before = packet[1];
    packet[1] = before & 0xfc | ecn;
    let checksum = updated(short(packet, 10), before.into(), packet[1].into());
    put(packet, 10, checksum);
}

/// The congestion bits of an IP packet.
pub fn ecn(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 6 { packet[1] >> 4 & 3 } else { packet[1] & 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_says_what_a_new_sum_says() {
        let mut bytes = vec![0x45, 0, 0x12, 0x34, 0xff, 0xff, 9];
        let before = complement(sum(&bytes, 0));
        let removed = sum(&bytes[2..4], 0);
        put(&mut bytes, 2, 0xfedc);
        let after = updated(before, removed, sum(&bytes[2..4], 0));
        assert!(same_checksum(after, complement(sum(&bytes, 0))));
    }
}
