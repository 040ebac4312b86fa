//! What the tunnel's headers say beyond RFC 8926, and how congestion marks cross them.

/// Last byte of the Geneve base header: a packet that one edge relays to a peer; it is never relayed again.
pub const RELAY: u8 = 1;

/// Last byte of the Geneve base header, on the slow path only: a fragment from a workload that waits for its first.
pub const WAIT: u8 = 2;

/// Last byte of the Geneve base header, on the slow path only: a fragment from outside that waits for its first.
pub const WAIT_INWARD: u8 = 3;

/// Last byte of the Geneve base header: a packet from a gateway to an instance; the VNI says to which.
pub const GATEWAY: u8 = 4;

/// A bit above the VNI, in the tables of leases only, never in a packet: the lease's packets go through the encrypted tunnel
/// (WireGuard) and through nothing else.
pub const ENCRYPTED_VNI: u32 = 1 << 24;

/// The bits of a VNI.
pub const VNI_MASK: u32 = ENCRYPTED_VNI - 1;

/// The ECN field of a type of service or traffic class (RFC 3168 §5).
pub const ECN_MASK: u8 = 3;

/// Congestion experienced.
pub const ECN_CE: u8 = 3;

/// The inner ECN field after decapsulation (RFC 6040 §4.2, figure 4). None: the packet must be dropped.
#[inline(always)]
pub const fn ecn_after(inner: u8, outer: u8) -> Option<u8> {
    let (inner, outer) = (inner & ECN_MASK, outer & ECN_MASK);
    match (inner, outer) {
        (0, ECN_CE) => None,
        (0, _) => Some(0),
        (_, ECN_CE) => Some(ECN_CE),
        // ECT(1) outside takes effect on ECT(0) inside only.
        (2, 1) => Some(1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_marks_cross_as_rfc_6040_says() {
        // Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns: outer Not-ECT, ECT(1), ECT(0), CE.
        let rows = [
            (0, [Some(0), Some(0), Some(0), None]),
            (1, [Some(1), Some(1), Some(1), Some(3)]),
            (2, [Some(2), Some(1), Some(2), Some(3)]),
            (3, [Some(3), Some(3), Some(3), Some(3)]),
        ];
        for (inner, row) in rows {
            for (outer, expected) in (0..4).zip(row) {
                assert_eq!(ecn_after(0xb8 | inner, 0x50 | outer), expected, "inner {inner} outer {outer}");
            }
        }
    }
}
