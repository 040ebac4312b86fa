//! Packets, bytes and flows, as the programs count them per CPU.

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

/// What becomes of a subject's packets and flows, beside what is carried. Map `SUBJECT_COUNTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubjectCounts {
    /// Flows that opened: the subject's own, and connections opened towards it, past the persona too.
    pub opened_flows: u64,
    /// Packets from it or for it that were dropped.
    pub dropped_packets: u64,
}

const _: () = assert!(size_of::<SubjectCounts>() == 16 && align_of::<SubjectCounts>() == 8);
