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
