//! The queue of later fragments whose first has not been seen: bounded in time, count and bytes, first come, first out.
//!
//! Pure: the clock is passed in. Overlapping pieces of one datagram never wait together: nothing good sends them, and
//! what a receiver makes of them is anybody's guess (RFC 1858, RFC 5722).

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use persona_common::drop::DropReason;

use super::ip::Fragment;

/// The longest wait (contract §7).
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);
/// Most fragments that wait.
pub(super) const COUNT_MAX: usize = 1_024;
/// Most bytes that wait.
pub(super) const BYTE_COUNT_MAX: usize = 4 << 20;

/// Which way a fragment goes, as its subject sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From this subject, by its index in the node's map.
    Outward(u32),
    /// To a subject.
    Inward,
}

/// What fragments of one datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Which way it goes.
    pub way: Way,
    /// Source.
    pub source: std::net::IpAddr,
    /// Destination.
    pub destination: std::net::IpAddr,
    /// Identification.
    pub id: u32,
    /// The protocol of its payload.
    pub protocol: u8,
}

/// A fragment that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Its datagram.
    pub key: Key,
    /// Its place in it.
    pub fragment: Fragment,
    /// The whole inner packet.
    pub packet: Vec<u8>,
    arrived: Instant,
}

/// The queue, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    byte_count: usize,
}

impl Key {
    /// The key of a fragment.
    pub(super) fn of(way: Way, fragment: &Fragment) -> Self {
        let Fragment { source, destination, id, protocol, .. } = *fragment;
        Self { way, source, destination, id, protocol }
    }
}

impl Queue {
    /// Lets an inner packet wait, or says why not.
    pub(super) fn push(&mut self, way: Way, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let fragment = Fragment::read(packet).ok_or(DropReason::Malformed)?;
        let packet = &packet[..fragment.length];
        let key = Key::of(way, &fragment);
        let overlaps = |other: &Waiting| {
            let (one, two) = (&other.fragment.bytes, &fragment.bytes);
            other.key == key && one.start < two.end && two.start < one.end
        };
        if self.waiting.iter().any(overlaps) {
            return Err(DropReason::Fragment);
        }
        if self.waiting.len() == COUNT_MAX || self.byte_count + packet.len() > BYTE_COUNT_MAX {
            return Err(DropReason::FragmentQueueFull);
        }
        self.byte_count += packet.len();
        self.waiting.push_back(Waiting { key, fragment, packet: packet.to_vec(), arrived: now });
        Ok(())
    }

    /// Takes out what has waited too long; returns how many that were.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let is_over = |waiting: &Waiting| now.saturating_duration_since(waiting.arrived) >= WAIT_MAX;
        let count = self.waiting.iter().take_while(|waiting| is_over(waiting)).count();
        self.waiting.drain(..count).for_each(|waiting| self.byte_count -= waiting.packet.len());
        count
    }

    /// The datagrams of which something waits.
    pub(super) fn keys(&self) -> BTreeSet<Key> {
        self.waiting.iter().map(|waiting| waiting.key).collect()
    }

    /// Takes out everything of one datagram, in order of arrival.
    pub(super) fn take(&mut self, key: &Key) -> Vec<Waiting> {
        let (taken, left): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|it| it.key == *key);
        self.waiting = left;
        self.byte_count -= taken.iter().map(|waiting| waiting.packet.len()).sum::<usize>();
        taken.into()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ip::tests::{ipv4_packet, ipv6_fragment};
    use super::*;

    fn fragment(id: u16, offset: u16, length: usize) -> Vec<u8> {
        ipv4_packet(&[], id, 0x2000 | offset, &vec![0; length])
    }

    #[test]
    fn fragments_leave_by_datagram_in_order_of_arrival() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (id, offset) in [(1, 20), (2, 10), (1, 10), (1, 30)] {
            queue.push(Way::Inward, &fragment(id, offset, 16), now).unwrap();
        }
        queue.push(Way::Outward(3), &fragment(1, 10, 16), now).unwrap();
        let key = *queue.keys().iter().find(|key| key.id == 1 && key.way == Way::Inward).unwrap();
        let starts: Vec<usize> = queue.take(&key).iter().map(|waiting| waiting.fragment.bytes.start).collect();
        assert_eq!(starts, [160, 80, 240]);
        assert_eq!(queue.keys().len(), 2, "the other datagram and the other way wait on");
    }

    #[test]
    fn a_wait_ends_after_a_second() {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.push(Way::Inward, &fragment(1, 1, 16), start).unwrap();
        queue.push(Way::Inward, &ipv6_fragment(1, 8, true, &[0; 8]), start + WAIT_MAX / 2).unwrap();
        assert_eq!(queue.expire(start + WAIT_MAX - Duration::from_millis(1)), 0);
        assert_eq!(queue.expire(start + WAIT_MAX), 1);
        assert_eq!(queue.expire(start + 2 * WAIT_MAX), 1);
        assert!(queue.is_empty() && queue.byte_count == 0);
    }

    #[test]
    fn pieces_that_overlap_do_not_wait_together() {
        let now = Instant::now();
        for (offset, length, expected) in
            [(10, 16, false), (11, 16, false), (9, 16, false), (8, 64, false), (12, 16, true), (8, 16, true)]
        {
            let mut queue = Queue::default();
            queue.push(Way::Inward, &fragment(1, 10, 16), now).unwrap();
            let outcome = queue.push(Way::Inward, &fragment(1, offset, length), now);
            assert_eq!(outcome.is_ok(), expected, "{offset} {length}: {outcome:?}");
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for id in 0..COUNT_MAX as u16 {
            queue.push(Way::Inward, &fragment(id, 1, 8), now).unwrap();
        }
        let more = fragment(COUNT_MAX as u16, 1, 8);
        assert_eq!(queue.push(Way::Inward, &more, now), Err(DropReason::FragmentQueueFull));
        let mut queue = Queue::default();
        let large = |id| fragment(id, 1, 60_000);
        let count = (0..COUNT_MAX as u16).take_while(|id| queue.push(Way::Inward, &large(*id), now).is_ok()).count();
        assert_eq!(count, BYTE_COUNT_MAX / 60_020);
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_the_bytes_are_counted(
            steps in proptest::collection::vec((0u16..4, 1u16..200, 1usize..200, 0u64..400, any::<bool>()), 0..200),
        ) {
            let mut queue = Queue::default();
            let mut now = Instant::now();
            for (id, offset, words, pause_ms, takes) in steps {
                now += Duration::from_millis(pause_ms);
                queue.expire(now);
                let _ = queue.push(Way::Inward, &fragment(id, offset, words * 8), now);
                if takes && let Some(key) = queue.keys().first().copied() {
                    prop_assert!(queue.take(&key).iter().all(|waiting| waiting.key == key));
                }
                prop_assert_eq!(queue.byte_count, queue.waiting.iter().map(|it| it.packet.len()).sum::<usize>());
                prop_assert!(queue.waiting.iter().all(|it| now - it.arrived < WAIT_MAX));
            }
        }
    }
}
