//! The queues of subjects whose rates edges hold: upwards on the outside device, downwards on the inside device, or on the
//! tunnel's for what is encrypted. Pure.
//!
//! They are those of nodes, with the programs of the edge naming the class ([`persona_common::police`]). Where a device can have
//! none, or classes run out, the programs drop what is beyond the rate.

use std::collections::BTreeMap;

use persona_common::police::CLASS_HANDLE;
use persona_core::ids::SubjectNumber;
use persona_core::wire::desired::{LeaseItem, LeaseRates, SubjectImpair, SubjectQos};

use super::observe::Observed;
use super::tables::overhead;
use crate::agent::queues::{DEVICE_OVERHEAD_BYTES, Numbers, ShapedSubject, class};
use crate::dataplane::tables::Policing;
use crate::netlink::htb::HtbClass;
use crate::netlink::{HANDLE_MAJOR, Shaper, Sizes};

const _: () = assert!(CLASS_HANDLE == (HANDLE_MAJOR as u32) << 16);

/// Pairs of class minors, 2 to 65,533: one for each direction of a subject.
const PAIR_COUNT_MAX: u16 = 32_766;

/// Queues per device, and how each subject is policed whose rates edges hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EdgeQueues {
    /// Device index → its queues.
    pub shapers: BTreeMap<u32, Shaper>,
    /// Who is held, and how.
    pub held: BTreeMap<SubjectNumber, Policing>,
}

/// A subject whose rates edges hold.
struct Held {
    rates: LeaseRates,
    mtu: u16,
    /// Whether some of its leases go beside the encrypted tunnel, and some through it.
    is_plain: bool,
    is_encrypted: bool,
}

/// A class on a device.
struct Wish {
    ifindex: u32,
    minor: u16,
    /// Of inner IP bytes.
    rate_bps: u64,
    /// What the device carries of each packet beside inner IP, bytes.
    overhead_bytes: u16,
    subject: ShapedSubject,
}

/// The queues that the holders of these leases need.
pub(super) fn plan(leases: &[&LeaseItem], observed: &Observed) -> EdgeQueues {
    let (mut queues, mut pairs) = (EdgeQueues::default(), Numbers::up_to(PAIR_COUNT_MAX));
    let mut wishes = Vec::new();
    for (number, held) in held(leases) {
        let pair = Some(&mut pairs).filter(|_| observed.leaves.is_some()).and_then(|pairs| pairs.take(number.0).ok());
        let Some(pair) = pair else {
            queues.held.insert(number, Policing::AtRate);
            continue;
        };
        let minor = 2 * pair;
        queues.held.insert(number, Policing::InClass(minor));
        wishes.extend(held.wishes(minor, observed));
    }
    // A device counts all its packets in one way, which is known when all have said what they are.
    for wish in &wishes {
        let shaper = queues.shapers.entry(wish.ifindex).or_default();
        shaper.count(Sizes { overhead_bytes: wish.overhead_bytes, mtu: wish.subject.mtu });
    }
    for wish in wishes {
        let shaper = queues.shapers.entry(wish.ifindex).or_default();
        shaper.classes.insert(wish.minor, wish.class(shaper.sizes));
    }
    queues
}

impl Held {
    fn wishes(&self, minor: u16, observed: &Observed) -> Vec<Wish> {
        let LeaseRates { burst_bytes, dscp, .. } = self.rates;
        let qos = SubjectQos { burst_bytes, dscp, ..SubjectQos::default() };
        let leaves = observed.leaves.unwrap_or_default();
        let (number, mtu, impair) = (self.rates.subject_number, self.mtu, SubjectImpair::default());
        let subject = ShapedSubject { number, mtu, qos, impair, device: None, leaves };
        let mut wishes = Vec::new();
        let mut put = |ifindex: u32, minor: u16, rate_bps: u64, overhead_bytes: u16| {
            wishes.push(Wish { ifindex, minor, rate_bps, overhead_bytes, subject: subject.clone() });
        };
        if let Some(rate_bps) = self.rates.egress_bps {
            put(observed.outside.index, minor, rate_bps, DEVICE_OVERHEAD_BYTES);
        }
        let Some(rate_bps) = self.rates.ingress_bps else { return wishes };
        let tunnel_bytes = u16::try_from(overhead(observed.address, false)).unwrap_or(u16::MAX);
        if self.is_plain {
            put(observed.inside.index, minor + 1, rate_bps, DEVICE_OVERHEAD_BYTES + tunnel_bytes);
        }
        // The tunnel's device has no Ethernet, and what encryption adds comes behind it.
        if let Some(wire_ifindex) = observed.wire_ifindex.filter(|_| self.is_encrypted) {
            put(wire_ifindex, minor + 1, rate_bps, tunnel_bytes);
        }
        wishes
    }
}

impl Wish {
    /// On an edge with one device both ways what goes to nodes carries more than what is left out: its rate is the greater by
    /// the share of a full packet, and streams of small packets get less than their rate there.
    fn class(&self, sizes: Option<Sizes>) -> HtbClass {
        let left_out = sizes.map_or(0, |sizes| sizes.overhead_bytes);
        let (mtu, carried) =
            (u64::from(self.subject.mtu.max(1)), u64::from(self.overhead_bytes.saturating_sub(left_out)));
        let rate_bps = u128::from(self.rate_bps) * u128::from(mtu + carried) / u128::from(mtu);
        class(u64::try_from(rate_bps).unwrap_or(u64::MAX), &self.subject)
    }
}

/// Who holds these leases and is held to its rates here.
fn held(leases: &[&LeaseItem]) -> BTreeMap<SubjectNumber, Held> {
    let mut all: BTreeMap<SubjectNumber, Held> = BTreeMap::new();
    for lease in leases {
        let Some(rates) = lease.rates.filter(|rates| rates.held) else { continue };
        let new = Held { rates, mtu: 0, is_plain: false, is_encrypted: false };
        let held = all.entry(rates.subject_number).or_insert(new);
        held.mtu = held.mtu.max(lease.mtu);
        held.is_plain |= !lease.encrypted;
        held.is_encrypted |= lease.encrypted;
    }
    all
}
