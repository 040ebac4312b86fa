//! What ways are known to carry, and for how long that is believed. Pure: the clock is passed in.
//!
//! Only errors about packets from our own address to somebody whom a tunnel leads to change anything, never below what
//! every host has to take, so a forger can make packets smaller, not stop them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use persona_common::ENCAPSULATION_LENGTH_V4;

use super::quote::TooBig;

/// After this long a larger packet is tried again (RFC 1191 §6.3, RFC 8201 §4).
const BELIEVED_FOR: Duration = Duration::from_secs(600);

/// Every host takes IPv4 packets of this size (RFC 791 §3.1); a tunnel has to carry them.
const INNER_MIN: u32 = 576;
/// Every IPv6 link carries packets of this size (RFC 8200 §5).
const IPV6_LINK_MIN: u32 = 1_280;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    own: Option<IpAddr>,
    far_ends: BTreeSet<IpAddr>,
    known: BTreeMap<IpAddr, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    mtu: u32,
    until: Instant,
}

impl Memory {
    /// Tunnels lead from `own` to `far_ends` from now on; what is known of others is forgotten.
    pub(super) fn follow(&mut self, own: IpAddr, far_ends: BTreeSet<IpAddr>) {
        if self.own != Some(own) {
            self.known.clear();
        }
        self.known.retain(|address, _| far_ends.contains(address));
        (self.own, self.far_ends) = (Some(own), far_ends);
    }

    /// Takes an error into account. Gives the way's MTU if that is news.
    pub(super) fn take(&mut self, error: &TooBig, now: Instant) -> Option<u32> {
        if Some(error.source) != self.own || !self.far_ends.contains(&error.destination) {
            return None;
        }
        let mtu = error.mtu.max(least(error.destination));
        let before = self.known.get(&error.destination).filter(|known| known.until > now).map(|known| known.mtu);
        if before.is_some_and(|before| before < mtu) {
            return None;
        }
        self.known.insert(error.destination, Known { mtu, until: now + BELIEVED_FOR });
        (before != Some(mtu)).then_some(mtu)
    }

    /// Far end → what the way there carries, bytes. Others carry what their device and route say.
    pub(super) fn known(&mut self, now: Instant) -> BTreeMap<IpAddr, u32> {
        self.known.retain(|_, known| known.until > now);
        self.known.iter().map(|(address, known)| (*address, known.mtu)).collect()
    }
}

fn least(far_end: IpAddr) -> u32 {
    if far_end.is_ipv4() { INNER_MIN + ENCAPSULATION_LENGTH_V4 as u32 } else { IPV6_LINK_MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn error(source: &str, destination: &str, mtu: u32) -> TooBig {
        TooBig { source: ip(source), destination: ip(destination), mtu }
    }

    fn memory() -> Memory {
        let mut memory = Memory::default();
        memory.follow(ip("10.0.0.1"), [ip("10.0.0.11"), ip("fd00::11")].into());
        memory
    }

    #[test]
    fn errors_count_about_our_own_tunnels_and_never_below_the_least() {
        let now = Instant::now();
        for (error, news) in [
            (error("10.0.0.1", "10.0.0.11", 1_400), Some(1_400)),
            (error("10.0.0.1", "10.0.0.11", 68), Some(612)),
            (error("10.0.0.1", "fd00::11", 68), Some(1_280)),
            (error("10.0.0.2", "10.0.0.11", 1_400), None),
            (error("10.0.0.1", "10.0.0.12", 1_400), None),
        ] {
            let mut memory = memory();
            assert_eq!(memory.take(&error, now), news, "{error:?}");
            assert_eq!(memory.known(now).values().copied().next(), news, "{error:?}");
        }
        assert_eq!(Memory::default().take(&error("10.0.0.1", "10.0.0.11", 1_400), now), None, "nobody is followed yet");
    }

    #[test]
    fn what_is_known_only_shrinks_and_is_forgotten_in_the_end() {
        let start = Instant::now();
        let mut memory = memory();
        let mut take = |secs, mtu| {
            let now = start + Duration::from_secs(secs);
            (memory.take(&error("10.0.0.1", "10.0.0.11", mtu), now), memory.known(now).get(&ip("10.0.0.11")).copied())
        };
        assert_eq!(take(0, 1_400), (Some(1_400), Some(1_400)));
        assert_eq!(take(1, 1_450), (None, Some(1_400)), "of a packet that was under way before");
        assert_eq!(take(300, 1_400), (None, Some(1_400)), "no news, and believed for longer");
        assert_eq!(take(800, 1_300), (Some(1_300), Some(1_300)));
        assert_eq!(take(1_400, 1_400), (Some(1_400), Some(1_400)), "the smaller one has been forgotten");
        assert_eq!(memory.known(start + Duration::from_secs(2_000)), BTreeMap::new());
    }

    #[test]
    fn who_is_not_tunnelled_to_any_more_is_forgotten() {
        let now = Instant::now();
        let mut memory = memory();
        memory.take(&error("10.0.0.1", "10.0.0.11", 1_400), now);
        memory.follow(ip("10.0.0.1"), [ip("10.0.0.11")].into());
        assert_eq!(memory.known(now).len(), 1);
        memory.follow(ip("10.0.0.9"), [ip("10.0.0.11")].into());
        assert_eq!(memory.known(now).len(), 0, "another source may have another way");
    }
}
