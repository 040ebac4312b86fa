//! Packets and bytes, as the programs count them per CPU.

/// Packets and inner IP bytes of one subject or persona. A GSO packet counts as the packets it will become.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficCell {
    /// From the subject.
    pub egress_packets: u64,
    /// From the subject, inner IP bytes.
    pub egress_bytes: u64,
    /// To the subject.
    pub ingress_packets: u64,
    /// To the subject, inner IP bytes.
    pub ingress_bytes: u64,
}

const _: () = assert!(size_of::<TrafficCell>() == 32 && align_of::<TrafficCell>() == 8);
