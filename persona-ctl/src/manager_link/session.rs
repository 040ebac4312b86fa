//! Standing with the manager: registered when the process starts, certificates renewed before they end, and started over
//! when the manager no longer knows us.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use persona_core::report_pace::INTERVAL_MS_MAX;
use persona_core::wire::agent::{Register, Registered, roots_digest};
use persona_core::wire::credential::Credential;
use reqwest::StatusCode;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::RwLock;

use super::client::{LinkError, ManagerClient};
use super::identity::{Identity, Membership};
use super::link::LinkConfig;
use super::managers::Managers;
use super::outbox::now_ms;
use crate::trust::Trust;

/// Reports go out this often until the manager has said how often it wants them.
const REPORT_INTERVAL_MS: u32 = 1_000;

/// New roots are fetched within this time of hearing of them, milliseconds.
const ROOTS_DELAY_MS_MAX: u64 = 5_000;

/// After a renewal that failed, the next is tried after this time, milliseconds.
const RENEWAL_PAUSE_MS: u64 = 5_000;

/// Who this host is to the managers.
#[derive(Debug)]
pub(super) struct Session {
    managers: Managers,
    token: Option<Credential>,
    register: Mutex<Register>,
    /// How often to report at least, as registration said, and as the last answer did.
    registered_interval_ms: AtomicU32,
    report_interval_ms: AtomicU32,
    is_watching: AtomicBool,
    /// Zero: there is no certificate yet.
    certificate_expires_ms: AtomicU64,
    standing: RwLock<Standing>,
}

#[derive(Debug)]
struct Standing {
    identity: Identity,
    /// Speaks for us. None: this process has not shown itself to the manager yet, or no longer stands with it.
    client: Option<ManagerClient>,
    renew_at: Moment,
    ends_at: Moment,
}

/// A moment to come, by the clock that people set and by the one that never jumps but stands while the host sleeps. It has come
/// when either says so: neither may have a certificate end unrenewed.
#[derive(Debug, Clone, Copy)]
struct Moment {
    ms: u64,
    instant: Instant,
}

impl Moment {
    fn at(ms: u64, now_ms: u64) -> Self {
        Self { ms, instant: Instant::now() + Duration::from_millis(ms.saturating_sub(now_ms)) }
    }

    fn has_come(&self, now_ms: u64, now: Instant) -> bool {
        now_ms >= self.ms || now >= self.instant
    }

    fn is_here(&self) -> bool {
        self.has_come(now_ms(), Instant::now())
    }

    fn or_sooner(self, other: Self) -> Self {
        Self { ms: self.ms.min(other.ms), instant: self.instant.min(other.instant) }
    }
}

impl Session {
    /// Reads what is kept of an earlier standing.
    pub(super) fn open(config: LinkConfig) -> Result<Self, LinkError> {
        let identity = Identity::open(&config.state_dir)?;
        let token = match config.join_token.as_str() {
            "" => None,
            text => Some(text.parse::<Credential>()?),
        };
        let expires_ms = identity.membership().map_or(0, |membership| membership.expires_ms);
        let kept = identity.membership().map(|membership| membership.managers.clone());
        let urls = match (config.managers, &token) {
            (urls, _) if !urls.is_empty() => urls,
            (_, Some(token)) => token.managers.clone(),
            _ => kept.unwrap_or_default(),
        };
        if token.is_none() && identity.membership().is_none() {
            return Err(LinkError::NoToken);
        }
        Ok(Self {
            managers: Managers::new(urls)?,
            token,
            register: Mutex::new(config.register),
            registered_interval_ms: AtomicU32::new(REPORT_INTERVAL_MS),
            report_interval_ms: AtomicU32::new(REPORT_INTERVAL_MS),
            is_watching: AtomicBool::new(false),
            certificate_expires_ms: AtomicU64::new(expires_ms),
            standing: RwLock::new(Standing {
                identity,
                client: None,
                renew_at: Moment::at(0, 0),
                ends_at: Moment::at(0, 0),
            }),
        })
    }

    pub(super) fn managers(&self) -> &Managers {
        &self.managers
    }

    /// How often to report at least.
    pub(super) fn report_interval(&self) -> Duration {
        Duration::from_millis(self.report_interval_ms.load(Ordering::Relaxed).into())
    }

    /// Goes on at the pace that a manager wants now. None: at the one of registration.
    pub(super) fn pace(&self, interval_ms: Option<u32>) {
        let registered_ms = self.registered_interval_ms.load(Ordering::Relaxed);
        let interval_ms = interval_ms.map_or(registered_ms, |interval_ms| interval_ms.min(INTERVAL_MS_MAX));
        self.report_interval_ms.store(interval_ms.max(10), Ordering::Relaxed);
    }

    /// Whether a stream of desired state is open.
    pub(super) fn is_watching(&self) -> bool {
        self.is_watching.load(Ordering::Relaxed)
    }

    /// Says that a stream is open for as long as what it returns is there.
    pub(super) fn watching(&self) -> Watching<'_> {
        self.is_watching.store(true, Ordering::Relaxed);
        Watching(self)
    }

    /// When the certificate at hand ends.
    pub(super) fn certificate_expires_ms(&self) -> Option<u64> {
        Some(self.certificate_expires_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// A client that speaks for us; registers if this process has not, or if the certificate has ended.
    pub(super) async fn ready(&self) -> Result<ManagerClient, LinkError> {
        if let Some(client) = self.standing.read().await.usable() {
            return Ok(client);
        }
        let mut standing = self.standing.write().await;
        if let Some(client) = standing.usable() {
            return Ok(client);
        }
        match self.register(&standing.identity).await {
            Ok(registered) => self.take(&mut standing, registered)?,
            Err(error @ LinkError::Refused { .. }) if standing.identity.shown(now_ms()).is_some() => {
                tracing::info!(%error, "not registered again; going on with the certificate at hand");
                standing.speak()?;
            }
            Err(error) => return Err(error),
        }
        standing.usable().ok_or_else(|| LinkError::Unauthorized("it has ended, by this host's clock".to_owned()))
    }

    /// Registers again from another address. Returns whether it is another one.
    pub(super) async fn set_address(&self, address: IpAddr) -> bool {
        let old = {
            let mut register = self.register.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut register.address, address)
        };
        if old != address {
            self.forget().await;
        }
        old != address
    }

    /// The next request registers again.
    pub(super) async fn forget(&self) {
        self.standing.write().await.client = None;
    }

    /// Renews the certificate if half of its time is over, or soon if the manager wants other roots trusted.
    pub(super) async fn renew_if_due(&self, wanted_digest: Option<&str>) {
        let mut standing = self.standing.write().await;
        let (Some(client), Some(membership)) = (standing.client.clone(), standing.identity.membership()) else {
            return;
        };
        let trusted = roots_digest(membership.roots.iter().map(String::as_str));
        if wanted_digest.is_some_and(|wanted| wanted != trusted) {
            standing.renew_at = standing.renew_at.or_sooner(in_ms(spread(0, ROOTS_DELAY_MS_MAX)));
        }
        if !standing.renew_at.is_here() {
            return;
        }
        let renewed = match standing.identity.signing_request() {
            Ok(csr) => client.renew(&self.managers, csr).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = renewed.and_then(|registered| self.take(&mut standing, registered)) {
            tracing::warn!(error = super::link::chain(&error), "the certificate is not renewed yet; it is tried again");
            standing.renew_at = in_ms(spread(RENEWAL_PAUSE_MS, 2 * RENEWAL_PAUSE_MS));
        }
    }

    /// Keeps what registration or renewal gave, and speaks with it.
    fn take(&self, standing: &mut Standing, registered: Registered) -> Result<(), LinkError> {
        self.registered_interval_ms.store(registered.report_interval_ms, Ordering::Relaxed);
        self.pace(None);
        let name = self.register.lock().unwrap_or_else(PoisonError::into_inner).name.clone();
        self.certificate_expires_ms.store(registered.expires_ms, Ordering::Relaxed);
        standing.identity.keep(registered, self.managers.urls(), now_ms())?;
        standing.speak()?;
        tracing::info!(name, "the manager gave a certificate");
        Ok(())
    }

    /// Registers with the join token, or by the key alone where there is none or it is no longer good.
    async fn register(&self, identity: &Identity) -> Result<Registered, LinkError> {
        let register = self.register.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let csr = identity.signing_request()?;
        let by_key = Register { token: None, csr, ..register };
        let Some(token) = &self.token else { return self.register_as(identity, &by_key).await };
        let by_token = Register { token: Some(token.bearer()), ..by_key.clone() };
        match self.register_as(identity, &by_token).await {
            Err(LinkError::Refused { status: StatusCode::FORBIDDEN, .. }) if identity.membership().is_some() => {
                self.register_as(identity, &by_key).await
            }
            outcome => outcome,
        }
    }

    /// Trusts the roots at hand; a manager that does not verify under those may still be the one that the token pins.
    async fn register_as(&self, identity: &Identity, register: &Register) -> Result<Registered, LinkError> {
        let roots = identity.membership().map(|membership| Trust::Roots(membership.roots.clone()));
        let pin = self.token.as_ref().and_then(|token| token.pin).map(Trust::Pin);
        let mut outcome = Err(LinkError::NoToken);
        for trust in roots.into_iter().chain(pin) {
            outcome = ManagerClient::new(&trust, None)?.register(&self.managers, register).await;
            if !matches!(outcome, Err(LinkError::Unreachable { .. })) {
                break;
            }
        }
        outcome
    }
}

/// A stream of desired state that is open.
pub(super) struct Watching<'a>(&'a Session);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.is_watching.store(false, Ordering::Relaxed);
    }
}

impl Standing {
    fn usable(&self) -> Option<ManagerClient> {
        self.client.clone().filter(|_| !self.ends_at.is_here())
    }

    /// Makes the client that shows the certificate at hand, and notes when to renew that.
    fn speak(&mut self) -> Result<(), LinkError> {
        let Some(membership) = self.identity.membership() else { return Ok(()) };
        let now_ms = now_ms();
        self.renew_at = Moment::at(renewal_time(membership), now_ms);
        self.ends_at = Moment::at(membership.ends_ms(), now_ms);
        let trust = Trust::Roots(membership.roots.clone());
        self.client = Some(ManagerClient::new(&trust, self.identity.shown(now_ms))?);
        Ok(())
    }
}

/// When half to two thirds of a certificate's time are over, so that a fleet that joined together does not renew so.
fn renewal_time(membership: &Membership) -> u64 {
    let lifetime_ms = membership.ends_ms().saturating_sub(membership.given_ms);
    membership.given_ms + spread(lifetime_ms / 2, lifetime_ms / 3 * 2)
}

/// The moment after so much time.
fn in_ms(ms: u64) -> Moment {
    let now_ms = now_ms();
    Moment::at(now_ms + ms, now_ms)
}

/// A random number from `least` to `most`.
pub(super) fn spread(least: u64, most: u64) -> u64 {
    let mut share = [0; 4];
    // Without randomness the least serves: jitter is a courtesy.
    _ = SystemRandom::new().fill(&mut share);
    let share = u128::from(u32::from_le_bytes(share));
    least + (u128::from(most.saturating_sub(least)) * share / u128::from(u32::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_after_half_of_their_time_and_well_before_its_end() {
        let membership = Membership {
            certificate: String::new(),
            given_ms: 1_000,
            expires_ms: 7,
            ends_ms: Some(61_000),
            roots: Vec::new(),
            managers: Vec::new(),
        };
        for _ in 0..100 {
            assert!((31_000..=41_000).contains(&renewal_time(&membership)));
        }
        assert_eq!(spread(7, 7), 7);
    }

    #[test]
    fn a_moment_comes_by_the_clock_that_is_set_or_by_the_one_that_is_not() {
        let start = Instant::now();
        let moment = Moment { ms: 10_000, instant: start + Duration::from_secs(5) };
        let after = |secs| start + Duration::from_secs(secs);
        assert!(!moment.has_come(9_999, after(4)));
        assert!(moment.has_come(10_000, after(0)), "the clock was set forward, or the host slept");
        assert!(moment.has_come(0, after(5)), "the clock was set back");
    }
}
