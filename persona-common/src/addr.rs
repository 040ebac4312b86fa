//! Addresses as the maps hold them.

/// An IPv4 address as it stands in a packet: its four bytes, read as a number of the machine's own order.
pub type AddressBe = u32;

/// An IPv6 address as its bytes stand in a packet; an IPv4 address is mapped (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
pub type Address6 = [u32; 4];

/// The address with these bytes.
pub const fn address_be(octets: [u8; 4]) -> AddressBe {
    u32::from_ne_bytes(octets)
}

/// The bytes of an address.
pub const fn octets(address: AddressBe) -> [u8; 4] {
    address.to_ne_bytes()
}
