//! How many requests anybody may send: a token bucket per identity, and one per address for those who say nothing.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::caller::Caller;
use super::peer::{Origin, Peer};

/// A bucket holds as many requests as come in this many seconds.
const BURST_SECS: u32 = 10;

/// Strangers get this share of what known ones may send.
const STRANGER_SHARE: u32 = 5;

/// When so many buckets are kept, those that are full again are forgotten.
const BUCKET_COUNT_MAX: usize = 20_000;

/// The buckets.
pub(crate) struct Limits {
    known: DefaultKeyedRateLimiter<String>,
    strangers: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

impl Limits {
    /// Full buckets for this many requests per second and identity.
    pub(crate) fn new(per_sec: NonZeroU32) -> Self {
        let quota = |per_sec: NonZeroU32| {
            Quota::per_second(per_sec)
                .allow_burst(per_sec.saturating_mul(const { NonZeroU32::new(BURST_SECS).unwrap() }))
        };
        let share = NonZeroU32::new(per_sec.get() / STRANGER_SHARE).unwrap_or(NonZeroU32::MIN);
        Self {
            known: RateLimiter::keyed(quota(per_sec)),
            strangers: RateLimiter::keyed(quota(share)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request. Err: how long to wait before the next. Administrators on the host are not held back.
    pub(crate) fn check(&self, caller: &Caller, peer: &Peer) -> Result<(), Duration> {
        match (caller, peer.origin) {
            (Caller::Local { .. }, _) | (Caller::Nobody, Origin::Socket { .. }) => Ok(()),
            (Caller::Nobody, Origin::Network(address)) => self.check_stranger(address.ip()),
            (Caller::Token { id, .. }, _) => self.check_known(id.clone()),
            // All sessions of one owner together: whoever opens many is no faster for it.
            (Caller::Web { owner, .. }, _) => self.check_known(owner.clone()),
            (Caller::Agent(id), _) => self.check_known(id.to_string()),
        }
    }

    /// Counts a request whose credentials were not good.
    pub(crate) fn check_refused(&self, peer: &Peer) -> Result<(), Duration> {
        self.check(&Caller::Nobody, peer)
    }

    fn check_known(&self, key: String) -> Result<(), Duration> {
        if self.known.len() > BUCKET_COUNT_MAX {
            self.known.retain_recent();
        }
        self.known.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    fn check_stranger(&self, address: IpAddr) -> Result<(), Duration> {
        if self.strangers.len() > BUCKET_COUNT_MAX {
            self.strangers.retain_recent();
        }
        self.strangers.check_key(&site_of(address)).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// Who has one IPv6 address has its /64.
pub(crate) fn site_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_bucket_and_strangers_share_one_per_site() {
        let limits = Limits::new(NonZeroU32::new(5).unwrap());
        let peer = |address: &str| Peer {
            origin: Origin::Network(address.parse().unwrap()),
            certificate: None,
            is_manager: false,
        };
        let (one, neighbour, other) = (peer("[2001:db8::1]:1"), peer("[2001:db8::2]:1"), peer("10.0.0.1:1"));
        for _ in 0..10 {
            assert!(limits.check(&Caller::Nobody, &one).is_ok());
        }
        assert!(limits.check(&Caller::Nobody, &neighbour).is_err(), "the same /64");
        assert!(limits.check_refused(&one).is_err());
        assert!(limits.check(&Caller::Nobody, &other).is_ok());
        let token = |id: &str| Caller::Token {
            id: id.to_owned(),
            name: "x".to_owned(),
            role: persona_core::wire::api::AccessRole::Viewer,
            expires_ms: 1,
        };
        for _ in 0..50 {
            assert!(limits.check(&token("a"), &one).is_ok());
        }
        assert!(limits.check(&token("a"), &one).is_err());
        assert!(limits.check(&token("b"), &one).is_ok());
        let session = |id: &str| Caller::Web {
            id: id.to_owned(),
            owner: "access/x".to_owned(),
            role: persona_core::wire::api::AccessRole::Viewer,
            expires_ms: 1,
            csrf: String::new(),
        };
        for _ in 0..50 {
            assert!(limits.check(&session("a"), &one).is_ok());
        }
        assert!(limits.check(&session("b"), &one).is_err(), "another session of the same owner");
        assert!((0..1_000).all(|_| limits.check(&Caller::Local { uid: 0 }, &one).is_ok()));
    }
}
