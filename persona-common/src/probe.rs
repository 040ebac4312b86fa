//! The health probe: a Geneve control packet (RFC 8926 §3.4, O bit set, VNI 0) that an edge's program reflects.
//!
//! Sent from a UDP socket with checksums off (`SO_NO_CHECK`) to port 6081 of an edge's underlay address. The program
//! swaps the addresses and ports, sets the kind to [`KIND_REPLY`], fills in the generation of its lease table, and sends
//! the packet back where it came from; it stays silent while the edge's outside next hop does not answer.

/// Geneve's UDP port (RFC 8926 §3.3).
pub const GENEVE_PORT: u16 = 6081;

/// Protocol type of a probe: IEEE 802 local experimental EtherType 1 (RFC 9542 §3).
pub const PROBE_PROTOCOL: u16 = 0x88b5;

/// First bytes of a probe's payload.
pub const PROBE_MAGIC: [u8; 4] = *b"PSNP";

/// Version of the payload.
pub const PROBE_VERSION: u8 = 1;

/// A probe on its way out.
pub const KIND_REQUEST: u8 = 1;

/// A reflected probe.
pub const KIND_REPLY: u8 = 2;

/// The prober doesn't hear this edge's answers: what the edge sends it directly is lost.
pub const FLAG_DEAF: u8 = 1;

/// The payload after the Geneve header. All numbers are big-endian.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePayload {
    /// [`PROBE_MAGIC`].
    pub magic: [u8; 4],
    /// [`PROBE_VERSION`].
    pub version: u8,
    /// [`KIND_REQUEST`] or [`KIND_REPLY`].
    pub kind: u8,
    /// In a request: [`FLAG_DEAF`] or zero; the reflector leaves it alone.
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// Counts up per prober.
    pub sequence: [u8; 8],
    /// The prober's own monotonic clock at sending, nanoseconds; the reflector leaves it alone.
    pub sent_ns: [u8; 8],
    /// In a reply: the generation of the edge's lease table.
    pub generation: [u8; 8],
}

const _: () = assert!(core::mem::size_of::<ProbePayload>() == 32 && core::mem::align_of::<ProbePayload>() == 1);

/// Bytes of a probe's UDP payload: Geneve header and [`ProbePayload`].
pub const PROBE_LENGTH: usize = 8 + core::mem::size_of::<ProbePayload>();

/// The UDP payload of a request, of a prober that does or doesn't hear the answers.
pub fn encode_request(sequence: u64, sent_ns: u64, is_heard: bool) -> [u8; PROBE_LENGTH] {
    let mut bytes = [0; PROBE_LENGTH];
    bytes[1] = 0x80; // O: this is a control packet
    bytes[2..4].copy_from_slice(&PROBE_PROTOCOL.to_be_bytes());
    bytes[8..12].copy_from_slice(&PROBE_MAGIC);
    bytes[12] = PROBE_VERSION;
    bytes[13] = KIND_REQUEST;
    bytes[14] = if is_heard { 0 } else { FLAG_DEAF };
    bytes[16..24].copy_from_slice(&sequence.to_be_bytes());
    bytes[24..32].copy_from_slice(&sent_ns.to_be_bytes());
    bytes
}

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The request's sequence.
    pub sequence: u64,
    /// The request's sending time, nanoseconds of the prober's clock.
    pub sent_ns: u64,
    /// The generation of the edge's lease table.
    pub generation: u64,
}

/// Reads the UDP payload of a reply. None: not a reply to a probe of this version.
pub fn decode_reply(bytes: &[u8]) -> Option<Reply> {
    let bytes: &[u8; PROBE_LENGTH] = bytes.try_into().ok()?;
    let number = |at: usize| u64::from_be_bytes(core::array::from_fn(|index| bytes[at + index]));
    let is_reply = bytes[0] == 0
        && bytes[1] == 0x80
        && bytes[2..4] == PROBE_PROTOCOL.to_be_bytes()
        && bytes[8..12] == PROBE_MAGIC
        && bytes[12] == PROBE_VERSION
        && bytes[13] == KIND_REPLY;
    is_reply.then(|| Reply { sequence: number(16), sent_ns: number(24), generation: number(32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reflected_request_is_read_back() {
        let mut bytes = encode_request(7, 99, true);
        assert_eq!(decode_reply(&bytes), None, "a request is not a reply");
        bytes[13] = KIND_REPLY;
        bytes[32..40].copy_from_slice(&5u64.to_be_bytes());
        assert_eq!(decode_reply(&bytes), Some(Reply { sequence: 7, sent_ns: 99, generation: 5 }));
        assert_eq!(decode_reply(&bytes[..39]), None);
    }
}
