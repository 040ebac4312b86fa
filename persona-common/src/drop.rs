//! Why a packet was dropped: one list for all programs, counted per CPU by number.
//!
//! Counters outlive the binary that made them, so a number is never given to another reason: one that goes leaves a gap.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident $(at $number:literal)? = $text:literal,)+) => {
        /// Why a packet was dropped.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name $(= $number)?,)+
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason with a number. None: a number of a newer release, or one whose reason is gone.
            pub fn of_number(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| *reason as u32 == number)
            }

            /// What it means, in a sentence or two for people.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+),)+
                }
            }

            /// The reason's name, as counters and events show it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// A header that ends early or whose lengths lie.
    Malformed = "malformed",
    /// A device that the table of devices doesn't know (any more).
    UnknownDevice = "unknown-device",
    /// Neither IPv4, IPv6 nor ARP.
    EtherType at 3 = "ether-type",
    /// A source address that isn't the device's.
    SourceAddress = "source-address",
    /// The subject wears no network section.
    NoPersona = "no-persona",
    /// A protocol that the persona doesn't allow.
    ProtocolDenied = "protocol-denied",
    /// A protocol without ports, which no port block can carry.
    ProtocolWithoutPort = "protocol-without-port",
    /// An ICMP message that is neither echo nor an error.
    IcmpType = "icmp-type",
    /// A fragment that is refused: a tiny or overlapping one (RFC 1858), or one of an ICMP error.
    Fragment = "fragment",
    /// IPv4 options that are refused: source routes.
    IpOptions = "ip-options",
    /// TCP in mid-stream without a record.
    MidStream = "mid-stream",
    /// The lease for new flows isn't there.
    NoLease = "no-lease",
    /// No free port in the lease's blocks.
    PortsExhausted = "ports-exhausted",
    /// The table of flows is full.
    FlowTableFull = "flow-table-full",
    /// The table of mappings is full.
    MappingTableFull = "mapping-table-full",
    /// Larger than the persona's MTU and not to be fragmented; the sender was told.
    TooBig = "too-big",
    /// Larger than what the way to a gateway's instance carries; it may be cut, but a gateway cuts nothing.
    TooBigFragmentable = "too-big-fragmentable",
    /// The time to live has run out.
    TtlExpired = "ttl-expired",
    /// No edge is alive and knows the lease.
    NoEdge = "no-edge",
    /// A tunnel packet from an address that is no edge or node of ours, or not the lease's.
    UnknownPeer = "unknown-peer",
    /// A Geneve header that isn't ours.
    Geneve = "geneve",
    /// A destination whose block nobody holds.
    Unleased = "unleased",
    /// A tunnel packet whose VNI isn't the lease's.
    VniMismatch = "vni-mismatch",
    /// A destination port without a live mapping.
    NoMapping = "no-mapping",
    /// From a remote that the subject hasn't spoken to: refused by filtering by remote address and port.
    Unsolicited = "unsolicited",
    /// A forwarded packet that no program of ours has let through.
    Guarded = "guarded",
    /// A probe while the edge's outside next hop doesn't answer.
    ProbeSilenced = "probe-silenced",
    /// The next hop's hardware address isn't known yet.
    NextHopUnresolved = "next-hop-unresolved",
    /// The kernel refused to change the packet.
    Kernel = "kernel",
    /// A VLAN tag that the device's row doesn't name.
    Vlan = "vlan",
    /// A family that the persona has no lease of.
    FamilyDenied = "family-denied",
    /// IPv6 extension headers that are too many, too long or refused.
    ExtensionHeaders = "extension-headers",
    /// A congestion mark on the outside of a packet that can't carry it (RFC 6040 §4.2).
    Ecn = "ecn",
    /// Meant for the slow path where there is none.
    NoSlowPath = "no-slow-path",
    /// A later fragment whose first did not come in time.
    FragmentTimeout = "fragment-timeout",
    /// A later fragment that the queue had no room for.
    FragmentQueueFull = "fragment-queue-full",
    /// Too big or too old, and the sender wasn't told: ICMP errors are limited to 1,000 per second and CPU.
    IcmpRate = "icmp-rate",
    /// A service none of whose instances takes new flows, or a tunnel packet for an instance that isn't on the node.
    NoInstance = "no-instance",
    /// A reply of an instance that the flow has been moved away from.
    FlowMoved = "flow-moved",
    /// Lost on purpose: the persona asks for a worse network.
    Impaired = "impaired",
    /// Beyond 1.25 times the rate of its persona: the node's queue didn't hold the subject to it.
    Policed = "policed",
    /// Beyond what waits for a subject's rate: the departure time that it would have is too late.
    QueueFull = "queue-full",
    /// A packet of an encrypted persona that came beside the encrypted tunnel.
    Unencrypted = "unencrypted",
    /// The persona's firewall denies that the flow is opened, or goes on.
    Firewall = "firewall",
}

/// Cells in the map of drop counters; room for reasons to come.
pub const DROP_REASON_COUNT_MAX: u32 = 64;

const _: () = assert!((DropReason::ALL[DropReason::ALL.len() - 1] as u32) < DROP_REASON_COUNT_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_numbers_rise() {
        assert!(DropReason::ALL.windows(2).all(|pair| (pair[0] as u32) < pair[1] as u32));
        for reason in DropReason::ALL {
            assert_eq!(DropReason::of_number(*reason as u32), Some(*reason));
            assert!(
                reason.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
        }
    }

    #[test]
    fn numbers_stay_what_they_were() {
        use DropReason::*;
        for (reason, number) in [(Malformed, 0), (EtherType, 3), (TooBig, 16), (TtlExpired, 18), (IcmpRate, 37)] {
            assert_eq!(reason as u32, number, "{}", reason.name());
        }
        assert_eq!(DropReason::of_number(2), None, "a reason that is gone");
    }
}
