//! Firewall rules as a node's programs read them: rows of bits, bit *i* for rule *i*. Who is on the other side gives the rules
//! that may be meant, protocol and port do too; the lowest bit of both is the first rule that matches.

/// A set of rules, shared by all subjects that wear it. Map `FIREWALLS`, by an index that user space gives. Its rows stand in
/// `FIREWALL_REMOTES` (scope: the set's index) and `FIREWALL_SERVICES`, and are there before it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirewallSet {
    /// A hash of the rules, so that a restarted agent finds the set; 0: the cell is free.
    pub key: u64,
    /// Rules that let pass; the others deny.
    pub allow: u64,
    /// Rules about what the subject opens; the others are about what is opened towards it.
    pub egress: u64,
    /// Rules about anybody: for who is in no row.
    pub any_remote: u64,
    /// Rules about every protocol: for what is in no row.
    pub any_protocol: u64,
}

const _: () = assert!(size_of::<FirewallSet>() == 40 && align_of::<FirewallSet>() == 8);

impl FirewallSet {
    /// Whether the first of the rules that match denies. What none matches passes.
    #[inline(always)]
    pub const fn denies(&self, about_remote: u64, about_service: u64, is_egress: bool) -> bool {
        let direction = if is_egress { self.egress } else { !self.egress };
        let matching = about_remote & about_service & direction;
        let first = matching & matching.wrapping_neg();
        first != 0 && self.allow & first == 0
    }
}

/// A protocol and destination port of a set. Key of `FIREWALL_SERVICES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FirewallService {
    /// The set's index.
    pub set_index: u32,
    /// The IP protocol.
    pub protocol: u16,
    /// The port; 0: every one that has no row, and protocols without ports.
    pub port: u16,
}

const _: () = assert!(size_of::<FirewallService>() == 8 && align_of::<FirewallService>() == 4);

/// The rules that a subject wears. Map `SUBJECT_FIREWALLS`, by the subject's index.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubjectFirewall {
    /// The set's index plus one; 0: none.
    pub set_index_plus_one: u32,
    /// Which set of the subject's it is, 1 to [`GENERATION_MAX`], then 1 again; 0: there was never one.
    pub generation: u32,
}

const _: () = assert!(size_of::<SubjectFirewall>() == 8 && align_of::<SubjectFirewall>() == 8);

/// The largest generation: they have eight bits in a flow.
pub const GENERATION_MAX: u32 = 255;

impl SubjectFirewall {
    /// Another set's reference, after this one.
    pub const fn followed_by(self, set_index_plus_one: u32) -> Self {
        let generation = if self.generation >= GENERATION_MAX { 1 } else { self.generation + 1 };
        Self { set_index_plus_one, generation }
    }
}

/// Where the flags of flows and records have the generation that they were judged by.
pub const VERDICT_SHIFT: u32 = 8;
/// Its bits there.
pub const VERDICT_MASK: u32 = GENERATION_MAX << VERDICT_SHIFT;

/// Flags of a flow or record that was judged by the generation of `verdict`, which stands as in [`VERDICT_MASK`].
#[inline(always)]
pub const fn with_verdict(flags: u32, verdict: u32) -> u32 {
    flags & !VERDICT_MASK | verdict
}

/// Whether a flow or record with these flags was judged by it.
#[inline(always)]
pub const fn has_verdict(flags: u32, verdict: u32) -> bool {
    (flags ^ verdict) & VERDICT_MASK == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_of_the_direction_decides() {
        // 0 denies ingress, 1 allows egress, 2 denies egress, 3 allows ingress.
        let set = FirewallSet { allow: 0b1010, egress: 0b0110, ..FirewallSet::default() };
        for (remote, service, is_egress, is_denied) in [
            (0b1111, 0b1111, false, true),
            (0b1111, 0b1111, true, false),
            (0b1111, 0b1101, true, true),
            (0b1101, 0b1111, true, true),
            (0b1110, 0b1111, false, false),
            (0b0110, 0b1001, true, false),
            (0, u64::MAX, true, false),
        ] {
            assert_eq!(set.denies(remote, service, is_egress), is_denied, "{remote:b} {service:b} {is_egress}");
        }
    }

    #[test]
    fn generations_follow_each_other_and_are_never_none() {
        let mut worn = SubjectFirewall::default();
        for round in 0..600_u32 {
            let next = worn.followed_by(7);
            assert!(next.generation != worn.generation && next.generation != 0, "{round}");
            assert!(!has_verdict(
                with_verdict(0xffff_ffff, worn.generation << VERDICT_SHIFT),
                next.generation << VERDICT_SHIFT
            ));
            worn = next;
        }
    }
}
