//! Addresses as the maps hold them.

/// An IPv4 address as it stands in a packet: its four bytes, read as a number of the machine's own order.
pub type AddressBe = u32;

/// The address with these bytes.
pub const fn address_be(octets: [u8; 4]) -> AddressBe {
    u32::from_ne_bytes(octets)
}

/// The bytes of an address.
pub const fn octets(address: AddressBe) -> [u8; 4] {
    address.to_ne_bytes()
}

/// An address of either family as its 16 bytes stand in an IPv6 header, in words of the machine's own order. An IPv4
/// address is held mapped (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2); all zero: none.
pub type Address6 = [u32; 4];

/// The third word of an IPv4-mapped address.
pub const MAPPED_WORD: u32 = 0xffffu32.to_be();

/// An IPv4 address as an [`Address6`].
#[inline(always)]
pub const fn mapped(address: AddressBe) -> Address6 {
    [0, 0, MAPPED_WORD, address]
}

/// The address with these bytes.
pub const fn address6(octets: [u8; 16]) -> Address6 {
    [
        u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]),
        u32::from_ne_bytes([octets[4], octets[5], octets[6], octets[7]]),
        u32::from_ne_bytes([octets[8], octets[9], octets[10], octets[11]]),
        u32::from_ne_bytes([octets[12], octets[13], octets[14], octets[15]]),
    ]
}

/// The bytes of an address.
pub const fn octets6(address: Address6) -> [u8; 16] {
    let [a, b, c, d] =
        [address[0].to_ne_bytes(), address[1].to_ne_bytes(), address[2].to_ne_bytes(), address[3].to_ne_bytes()];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// Whether it is an IPv4 address.
#[inline(always)]
pub const fn is_mapped(address: Address6) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == MAPPED_WORD
}
