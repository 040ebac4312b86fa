//! The far ends that user-space WireGuard talks to, found by address, by key, and by the index that datagrams bear.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;

use super::{FarEnd, FarEndState, PrivateKey};

/// Bits of a session's index that number the sessions of one far end; the far end's own index stands above them.
const SESSION_BITS: u32 = 8;

/// A far end and the state of its sessions.
pub(super) struct Peer {
    pub far_end: FarEnd,
    pub tunnel: Tunn,
}

/// All far ends.
pub(super) struct Peers {
    key: PrivateKey,
    limiter: Arc<RateLimiter>,
    by_index: BTreeMap<u32, Peer>,
    index_by_address: BTreeMap<IpAddr, u32>,
    /// Never given twice, so that a datagram for one that is gone finds nobody.
    next_index: u32,
}

impl Peer {
    /// Where datagrams to it go.
    pub(super) fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.far_end.address, self.far_end.port)
    }
}

impl Peers {
    /// Nobody yet. `limiter` is what keeps strangers from having us compute.
    pub(super) fn new(key: PrivateKey, limiter: Arc<RateLimiter>) -> Self {
        let (by_index, index_by_address) = Default::default();
        Self { key, limiter, by_index, index_by_address, next_index: 1 }
    }

    /// Takes these far ends and no others. One that stays as it was keeps its sessions. Returns the indices of new ones.
    pub(super) fn set(&mut self, wanted: &[FarEnd]) -> Vec<u32> {
        self.by_index.retain(|_, peer| wanted.contains(&peer.far_end));
        let kept = &self.by_index;
        self.index_by_address.retain(|_, index| kept.contains_key(index));
        let mut fresh = Vec::new();
        for far_end in wanted {
            if self.index_by_address.contains_key(&far_end.address) {
                continue;
            }
            let index = self.next_index;
            self.next_index = self.next_index.wrapping_add(1) & (u32::MAX >> SESSION_BITS);
            let public = x25519::PublicKey::from(far_end.key.0);
            let limiter = Some(Arc::clone(&self.limiter));
            let tunnel = Tunn::new(self.key.secret(), public, None, None, index, limiter);
            self.by_index.insert(index, Peer { far_end: *far_end, tunnel });
            self.index_by_address.insert(far_end.address, index);
            fresh.push(index);
        }
        fresh
    }

    /// The far end at an address.
    pub(super) fn at(&mut self, address: IpAddr) -> Option<&mut Peer> {
        let index = self.index_by_address.get(&address)?;
        self.by_index.get_mut(index)
    }

    /// The far end with a public key.
    pub(super) fn of_key(&mut self, key: &[u8; 32]) -> Option<&mut Peer> {
        self.by_index.values_mut().find(|peer| peer.far_end.key.0 == *key)
    }

    /// The far end that gave a session its index.
    pub(super) fn of_session(&mut self, session_index: u32) -> Option<&mut Peer> {
        self.by_index.get_mut(&(session_index >> SESSION_BITS))
    }

    /// The far end with an index.
    pub(super) fn get(&mut self, index: u32) -> Option<&mut Peer> {
        self.by_index.get_mut(&index)
    }

    /// Every far end.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_index.values_mut()
    }

    /// What is known of all of them.
    pub(super) fn states(&self) -> Vec<FarEndState> {
        let state = |peer: &Peer| FarEndState { address: peer.far_end.address, since_handshake: peer.tunnel.stats().0 };
        self.by_index.values().map(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use boringtun::noise::TunnResult;

    use super::*;

    fn peers() -> (PrivateKey, Peers) {
        let key = PrivateKey::random().unwrap();
        let limiter = Arc::new(RateLimiter::new(&x25519::PublicKey::from(key.public().0), 100));
        (key.clone(), Peers::new(key, limiter))
    }

    fn far_end(key: &PrivateKey, last_octet: u8) -> FarEnd {
        FarEnd { key: key.public(), address: [10, 0, 0, last_octet].into(), port: 51_820 }
    }

    #[test]
    fn one_that_stays_keeps_its_index_and_one_with_another_key_is_another() {
        let (_, mut peers) = peers();
        let keys: Vec<PrivateKey> = (0..3).map(|_| PrivateKey::random().unwrap()).collect();
        let first = peers.set(&[far_end(&keys[0], 1), far_end(&keys[1], 2)]);
        assert_eq!(first.len(), 2);
        assert_eq!(peers.set(&[far_end(&keys[0], 1), far_end(&keys[1], 2)]), Vec::<u32>::new());
        let second = peers.set(&[far_end(&keys[0], 1), far_end(&keys[2], 2)]);
        assert_eq!(second.len(), 1);
        assert!(!first.contains(&second[0]), "an index is not given twice");
        assert!(peers.of_key(&keys[1].public().0).is_none());
        assert_eq!(peers.at([10, 0, 0, 2].into()).unwrap().far_end.key, keys[2].public());
        assert!(peers.of_session(second[0] << SESSION_BITS | 3).is_some());
        peers.set(&[]);
        assert!(peers.at([10, 0, 0, 1].into()).is_none() && peers.states().is_empty());
    }

    #[test]
    fn two_ends_agree_on_keys_and_a_stranger_does_not() {
        let ((key_a, mut a), (key_b, mut b)) = (peers(), peers());
        a.set(&[far_end(&key_b, 2)]);
        b.set(&[far_end(&key_a, 1)]);
        let (mut one, mut two, mut three) = ([0; 2_048], [0; 2_048], [0; 2_048]);
        let at_b = a.at([10, 0, 0, 2].into()).unwrap();
        let TunnResult::WriteToNetwork(hello) = at_b.tunnel.format_handshake_initiation(&mut one, false) else {
            panic!()
        };
        let at_a = b.at([10, 0, 0, 1].into()).unwrap();
        let TunnResult::WriteToNetwork(answer) = at_a.tunnel.decapsulate(None, hello, &mut two) else { panic!() };
        let TunnResult::WriteToNetwork(_) = at_b.tunnel.decapsulate(None, answer, &mut three) else { panic!() };
        assert!(a.states()[0].since_handshake.is_some());
        let (_, mut stranger) = peers();
        stranger.set(&[far_end(&key_b, 2)]);
        let of_stranger = stranger.at([10, 0, 0, 2].into()).unwrap();
        let TunnResult::WriteToNetwork(hello) = of_stranger.tunnel.format_handshake_initiation(&mut one, false) else {
            panic!()
        };
        assert!(matches!(at_a.tunnel.decapsulate(None, hello, &mut two), TunnResult::Err(_)));
    }
}
