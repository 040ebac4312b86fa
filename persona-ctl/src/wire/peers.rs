//! The far ends that user-space WireGuard talks to, found by address, by key, and by the index that datagrams bear.
//!
//! While a key changes, here or there, a far end is several peers: one for each of our keys with each of its own. All of them
//! are heard; what goes out is sent by the one with the newest keys that is known to work.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;

use super::{FarEnd, FarEndState, OwnKeys, PrivateKey, PublicKey};

/// Bits of a session's index that number the sessions of one peer; the peer's own index stands above them.
const SESSION_BITS: u32 = 8;

/// Handshakes a second, beyond which who asks must show that it has the address it says (a cookie). Each counts twice.
const HANDSHAKES_PER_SEC: u64 = 2 * 1_000;

/// One of our keys, and what keeps strangers from having us compute with it.
#[derive(Clone)]
pub(super) struct OwnKey {
    pub secret: x25519::StaticSecret,
    pub public: x25519::PublicKey,
    pub limiter: Arc<RateLimiter>,
}

/// What makes a peer that peer and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    address: IpAddr,
    port: u16,
    key: PublicKey,
    own: PublicKey,
}

/// One of our keys with one of a far end's, and the state of their sessions.
pub(super) struct Peer {
    identity: Identity,
    /// How many of its two keys are next ones.
    newness: u8,
    /// Whether it is our next key, which we have to try.
    is_tried: bool,
    pub tunnel: Tunn,
}

/// All far ends.
pub(super) struct Peers {
    own: Vec<OwnKey>,
    far_ends: Vec<FarEnd>,
    by_index: BTreeMap<u32, Peer>,
    index_of: BTreeMap<Identity, u32>,
    /// The peer by which packets to an address go.
    sending: BTreeMap<IpAddr, u32>,
    /// Never given twice, so that a datagram for one that is gone finds nobody.
    next_index: u32,
}

impl OwnKey {
    fn new(key: &PrivateKey) -> Self {
        let public = x25519::PublicKey::from(key.public().0);
        Self { secret: key.secret(), public, limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SEC)) }
    }
}

impl Peer {
    /// Where datagrams to it go.
    pub(super) fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.identity.address, self.identity.port)
    }

    /// Whether keys of sessions have been agreed upon.
    pub(super) fn has_session(&self) -> bool {
        self.tunnel.stats().0.is_some()
    }
}

impl Peers {
    /// Nobody yet.
    pub(super) fn new(keys: &OwnKeys) -> Self {
        let (far_ends, by_index, index_of, sending) = Default::default();
        let mut peers = Self { own: Vec::new(), far_ends, by_index, index_of, sending, next_index: 1 };
        peers.set_keys(keys);
        peers
    }

    /// Takes these keys for our own and no others. Returns the indices of peers to greet.
    pub(super) fn set_keys(&mut self, keys: &OwnKeys) -> Vec<u32> {
        let before = std::mem::take(&mut self.own);
        let own = |key: &PrivateKey| {
            let known = before.iter().find(|own| own.public.as_bytes() == &key.public().0);
            known.cloned().unwrap_or_else(|| OwnKey::new(key))
        };
        self.own = [Some(&keys.current), keys.next.as_ref()].into_iter().flatten().map(own).collect();
        self.arrange()
    }

    /// Takes these far ends and no others. One that stays as it was keeps its sessions. Returns the indices of peers to greet.
    pub(super) fn set(&mut self, wanted: &[FarEnd]) -> Vec<u32> {
        if self.far_ends == wanted {
            return Vec::new();
        }
        self.far_ends = wanted.to_vec();
        self.arrange()
    }

    fn arrange(&mut self) -> Vec<u32> {
        let wanted = self.wanted();
        self.by_index.retain(|_, peer| wanted.contains_key(&peer.identity));
        self.index_of.retain(|identity, _| wanted.contains_key(identity));
        let mut fresh = Vec::new();
        for (identity, (own_index, newness)) in wanted {
            let is_tried = own_index > 0;
            if let Some(peer) = self.index_of.get(&identity).and_then(|index| self.by_index.get_mut(index)) {
                (peer.newness, peer.is_tried) = (newness, is_tried);
                continue;
            }
            let index = self.add(identity, own_index, newness);
            // A far end's next key is for that far end to try.
            if newness == 0 || is_tried {
                fresh.push(index);
            }
        }
        self.choose();
        fresh
    }

    /// Every peer that there shall be, with the number of our key and how many of its keys are next ones.
    fn wanted(&self) -> BTreeMap<Identity, (usize, u8)> {
        let mut wanted = BTreeMap::new();
        for (own_index, own) in self.own.iter().enumerate() {
            let own = PublicKey(own.public.to_bytes());
            for FarEnd { key, next, address, port } in &self.far_ends {
                for (far_index, key) in [Some(*key), *next].into_iter().flatten().enumerate() {
                    let identity = Identity { address: *address, port: *port, key, own };
                    wanted.insert(identity, (own_index, (own_index + far_index) as u8));
                }
            }
        }
        wanted
    }

    fn add(&mut self, identity: Identity, own_index: usize, newness: u8) -> u32 {
        let index = self.next_index;
        self.next_index = self.next_index.wrapping_add(1) & (u32::MAX >> SESSION_BITS);
        let own = &self.own[own_index];
        let public = x25519::PublicKey::from(identity.key.0);
        let tunnel = Tunn::new(own.secret.clone(), public, None, None, index, Some(Arc::clone(&own.limiter)));
        self.by_index.insert(index, Peer { identity, newness, is_tried: own_index > 0, tunnel });
        self.index_of.insert(identity, index);
        index
    }

    /// Gives every address a peer to send by, where it has none: one with sessions before one without, older keys first.
    fn choose(&mut self) {
        let (by_index, sending) = (&self.by_index, &mut self.sending);
        sending.retain(|_, index| by_index.contains_key(index));
        let mut best: BTreeMap<IpAddr, (bool, u8, u32)> = BTreeMap::new();
        for (index, peer) in by_index {
            let worth = (peer.has_session(), u8::MAX - peer.newness, *index);
            let known = best.entry(peer.identity.address).or_insert(worth);
            *known = worth.max(*known);
        }
        for (address, (_, _, index)) in best {
            sending.entry(address).or_insert(index);
        }
    }

    /// Notes that a far end has shown that it has the keys of a peer: newer ones are used from now on.
    pub(super) fn note_works(&mut self, index: u32) {
        let Some(peer) = self.by_index.get(&index).filter(|peer| peer.has_session()) else { return };
        let Some(sending) = self.sending.get_mut(&peer.identity.address) else { return };
        let is_newer = |other: &Peer| peer.newness > other.newness || !other.has_session();
        if *sending != index && self.by_index.get(sending).is_none_or(is_newer) {
            tracing::debug!(address = %peer.identity.address, "packets go under newer keys");
            *sending = index;
        }
    }

    /// Whether every far end that there are sessions with has agreed on some under our next key. Others don't talk to us: they
    /// have no encrypted leases of ours, or are away.
    pub(super) fn is_next_key_agreed(&self) -> bool {
        let with_sessions = |is_tried| -> BTreeSet<IpAddr> {
            let peers = self.by_index.values().filter(|peer| peer.is_tried == is_tried && peer.has_session());
            peers.map(|peer| peer.identity.address).collect()
        };
        with_sessions(false).is_subset(&with_sessions(true))
    }

    /// Our own keys.
    pub(super) fn own(&self) -> &[OwnKey] {
        &self.own
    }

    /// The peer by which packets to an address go.
    pub(super) fn at(&mut self, address: IpAddr) -> Option<&mut Peer> {
        let index = self.sending.get(&address)?;
        self.by_index.get_mut(index)
    }

    /// The peer of a far end's key and one of ours.
    pub(super) fn of_keys(&self, key: &[u8; 32], own: &x25519::PublicKey) -> Option<u32> {
        let is_it = |peer: &Peer| peer.identity.key.0 == *key && &peer.identity.own.0 == own.as_bytes();
        self.by_index.iter().find(|(_, peer)| is_it(peer)).map(|(index, _)| *index)
    }

    /// The peer that gave a session its index.
    pub(super) fn of_session(&self, session_index: u32) -> Option<u32> {
        let index = session_index >> SESSION_BITS;
        self.by_index.contains_key(&index).then_some(index)
    }

    /// The peer with an index.
    pub(super) fn get(&mut self, index: u32) -> Option<&mut Peer> {
        self.by_index.get_mut(&index)
    }

    /// Every peer.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_index.values_mut()
    }

    /// Peers of our next key that have not agreed yet: it may be that the far end has not been told of the key.
    pub(super) fn untried_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_index.values_mut().filter(|peer| peer.is_tried && !peer.has_session())
    }

    /// What is known of all far ends.
    pub(super) fn states(&self) -> Vec<FarEndState> {
        let mut states: BTreeMap<IpAddr, Option<Duration>> = BTreeMap::new();
        for peer in self.by_index.values() {
            let since = states.entry(peer.identity.address).or_default();
            *since = [*since, peer.tunnel.stats().0].into_iter().flatten().min();
        }
        states.into_iter().map(|(address, since_handshake)| FarEndState { address, since_handshake }).collect()
    }
}

#[cfg(test)]
mod tests {
    use boringtun::noise::TunnResult;

    use super::*;

    fn keys(current: &PrivateKey, next: Option<&PrivateKey>) -> OwnKeys {
        OwnKeys::of(current.clone(), next.cloned())
    }

    fn peers() -> (PrivateKey, Peers) {
        let key = PrivateKey::random().unwrap();
        let peers = Peers::new(&keys(&key, None));
        (key, peers)
    }

    fn far_end(key: &PrivateKey, last_octet: u8) -> FarEnd {
        FarEnd { key: key.public(), next: None, address: [10, 0, 0, last_octet].into(), port: 51_820 }
    }

    fn index_of(peers: &Peers, key: &PrivateKey, own: &PrivateKey) -> Option<u32> {
        peers.of_keys(&key.public().0, &x25519::PublicKey::from(own.public().0))
    }

    #[test]
    fn one_that_stays_keeps_its_index_and_one_with_another_key_is_another() {
        let (own, mut peers) = peers();
        let keys: Vec<PrivateKey> = (0..3).map(|_| PrivateKey::random().unwrap()).collect();
        let first = peers.set(&[far_end(&keys[0], 1), far_end(&keys[1], 2)]);
        assert_eq!(first.len(), 2);
        assert_eq!(peers.set(&[far_end(&keys[0], 1), far_end(&keys[1], 2)]), Vec::<u32>::new());
        let second = peers.set(&[far_end(&keys[0], 1), far_end(&keys[2], 2)]);
        assert_eq!(second.len(), 1);
        assert!(!first.contains(&second[0]), "an index is not given twice");
        assert!(index_of(&peers, &keys[1], &own).is_none());
        assert_eq!(peers.at([10, 0, 0, 2].into()).unwrap().identity.key, keys[2].public());
        assert!(peers.of_session(second[0] << SESSION_BITS | 3).is_some());
        peers.set(&[]);
        assert!(peers.at([10, 0, 0, 1].into()).is_none() && peers.states().is_empty());
    }

    /// Has a peer of `from` begin a handshake with one of `to`, and both say what works; whether it came about.
    fn agree(from: &mut Peers, from_index: u32, to: &mut Peers, to_index: u32) -> bool {
        let (mut one, mut two, mut three) = ([0; 2_048], [0; 2_048], [0; 2_048]);
        let begins = &mut from.get(from_index).unwrap().tunnel;
        let TunnResult::WriteToNetwork(hello) = begins.format_handshake_initiation(&mut one, true) else {
            return false;
        };
        let answers = &mut to.get(to_index).unwrap().tunnel;
        let TunnResult::WriteToNetwork(answer) = answers.decapsulate(None, hello, &mut two) else { return false };
        let TunnResult::WriteToNetwork(kept) = begins.decapsulate(None, answer, &mut three) else { return false };
        from.note_works(from_index);
        let TunnResult::Done = answers.decapsulate(None, kept, &mut one) else { return false };
        to.note_works(to_index);
        true
    }

    #[test]
    fn two_ends_agree_on_keys_and_a_stranger_does_not() {
        let ((key_a, mut a), (key_b, mut b)) = (peers(), peers());
        let at_a = a.set(&[far_end(&key_b, 2)])[0];
        let at_b = b.set(&[far_end(&key_a, 1)])[0];
        assert!(agree(&mut a, at_a, &mut b, at_b));
        assert!(a.states()[0].since_handshake.is_some());
        let (_, mut stranger) = peers();
        let at_stranger = stranger.set(&[far_end(&key_b, 2)])[0];
        assert!(!agree(&mut stranger, at_stranger, &mut b, at_b));
    }

    #[test]
    fn both_keys_of_a_far_end_work_until_one_is_gone() {
        let ((key_a, mut a), (key_b, mut b)) = (peers(), peers());
        let next = PrivateKey::random().unwrap();
        let at_a = a.set(&[far_end(&key_b, 2)])[0];
        let at_b = b.set(&[far_end(&key_a, 1)])[0];
        assert!(agree(&mut a, at_a, &mut b, at_b));
        // The one whose key changes tries the next; the other waits for it.
        let tried = a.set_keys(&keys(&key_a, Some(&next)));
        assert_eq!(tried.len(), 1);
        assert!(!a.is_next_key_agreed());
        let both = FarEnd { next: Some(next.public()), ..far_end(&key_a, 1) };
        assert_eq!(b.set(&[both]), Vec::<u32>::new());
        let next_at_b = index_of(&b, &next, &key_b).unwrap();
        let (address_a, address_b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert_eq!(b.at(address_a).unwrap().identity.key, key_a.public(), "it is not used before it works");
        assert!(agree(&mut a, tried[0], &mut b, next_at_b));
        assert!(a.is_next_key_agreed());
        assert_eq!(a.at(address_b).unwrap().identity.own, next.public());
        assert_eq!(b.at(address_a).unwrap().identity.key, next.public());
        assert!(agree(&mut a, at_a, &mut b, at_b), "the one before still works");
        assert_eq!(b.at(address_a).unwrap().identity.key, next.public(), "and is not gone back to");
        // The change is over.
        a.set_keys(&keys(&next, None));
        assert!(a.at(address_b).unwrap().has_session(), "the session stays");
        b.set(&[far_end(&next, 1)]);
        assert!(b.at(address_a).unwrap().has_session());
        assert!(index_of(&b, &key_a, &key_b).is_none(), "nobody has the key before any more");
    }

    #[test]
    fn two_ends_may_change_their_keys_at_once() {
        let ((key_a, mut a), (key_b, mut b)) = (peers(), peers());
        let (next_a, next_b) = (PrivateKey::random().unwrap(), PrivateKey::random().unwrap());
        a.set_keys(&keys(&key_a, Some(&next_a)));
        b.set_keys(&keys(&key_b, Some(&next_b)));
        a.set(&[FarEnd { next: Some(next_b.public()), ..far_end(&key_b, 2) }]);
        b.set(&[FarEnd { next: Some(next_a.public()), ..far_end(&key_a, 1) }]);
        for (of_a, of_b) in [(&key_a, &key_b), (&next_a, &key_b), (&key_a, &next_b), (&next_a, &next_b)] {
            let (at_a, at_b) = (index_of(&a, of_b, of_a).unwrap(), index_of(&b, of_a, of_b).unwrap());
            assert!(agree(&mut a, at_a, &mut b, at_b));
        }
        assert!(a.is_next_key_agreed() && b.is_next_key_agreed());
        let (address_a, address_b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let sending = |peers: &mut Peers, address| peers.at(address).unwrap().identity;
        assert_eq!(sending(&mut a, address_b).own, next_a.public());
        assert_eq!(sending(&mut b, address_a).own, next_b.public());
        a.set_keys(&keys(&next_a, None));
        b.set_keys(&keys(&next_b, None));
        assert!(a.at(address_b).unwrap().has_session() && b.at(address_a).unwrap().has_session());
    }
}
