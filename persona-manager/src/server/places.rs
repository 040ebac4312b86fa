//! Places for connections: how many anybody may have, and who gives way when there is no room.
//!
//! Whoever comes is a stranger, until a client certificate is verified. Strangers never get all places, one address never all
//! of theirs, and one node or edge a few: so neither idle connections nor one host keep nodes and edges out.
//! Decisions take the time as an argument; who gives way is told through a token.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::store::AgentId;

/// Connections that one node or edge may have: it needs two, and more for a moment while it comes back.
const PER_AGENT: usize = 16;

/// Connections that strangers of one address may have at least, if there are so many places.
const PER_SITE_MIN: usize = 32;

/// A stranger has this long to show who it is before others may take its place who have no smaller crowd.
const TIME_TO_SHOW: Duration = Duration::from_secs(2);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    all: usize,
    strangers: usize,
    members: usize,
    per_site: usize,
}

impl Limits {
    /// A quarter is kept for client certificates, and a sixteenth from them, so that somebody can still show one.
    fn of(connections_max: NonZeroU32) -> Self {
        let all = connections_max.get() as usize;
        let strangers = (all - all / 4).max(1);
        let members = (all - all / 16).max(1);
        Self { all, strangers, members, per_site: (all / 32).max(PER_SITE_MIN).min(strangers) }
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    places: BTreeMap<u64, Holding>,
    /// Places of strangers, those last that showed a credential or wait for their turn to.
    sites: HashMap<IpAddr, BTreeSet<(bool, u64)>>,
    /// How many strangers each address has, for the largest crowd.
    crowds: BTreeSet<(usize, IpAddr)>,
    /// All of them, in the same order.
    strangers: BTreeSet<(bool, u64)>,
    agents: HashMap<AgentId, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Holding {
    holder: Holder,
    since: Instant,
    /// Whether it is for us that it has not shown yet who it is.
    waits: bool,
    taken: CancellationToken,
}

#[derive(Debug, Clone)]
enum Holder {
    Stranger { site: IpAddr, is_known: bool },
    Agent(AgentId),
    Manager,
}

/// The place of one connection; dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    taken: CancellationToken,
}

/// Whose certificate was verified.
#[derive(Debug, Clone)]
pub(super) enum Member {
    /// A node's or an edge's.
    Agent(AgentId),
    /// Another manager's.
    Manager,
}

impl Places {
    /// So many places, all free.
    pub(super) fn new(connections_max: NonZeroU32) -> Arc<Self> {
        Arc::new(Self { limits: Limits::of(connections_max), held: Mutex::default() })
    }

    /// A place for a stranger of an address. None: there is no room, and nobody who has to give way.
    pub(super) fn take(self: &Arc<Self>, site: IpAddr, now: Instant) -> Option<Place> {
        let mut held = self.lock();
        let own = held.sites.get(&site).map_or(0, BTreeSet::len);
        let is_full = held.strangers.len() >= self.limits.strangers || held.places.len() >= self.limits.all;
        if own >= self.limits.per_site {
            let oldest = held.sites.get(&site)?.first().copied();
            held.take_away_aged(oldest, now)?;
        } else if is_full {
            // The largest crowd gives way to smaller ones; where none is larger, whoever said nothing for longest.
            let (size, crowd) = *held.crowds.last()?;
            match size > own + 1 {
                true => {
                    let (_, oldest) = *held.sites.get(&crowd)?.first()?;
                    held.take_away(oldest);
                }
                false => {
                    let oldest = held.strangers.first().copied();
                    held.take_away_aged(oldest, now)?;
                }
            }
        }
        let (id, taken) = (held.next, CancellationToken::new());
        held.next += 1;
        let holder = Holder::Stranger { site, is_known: false };
        held.add(id, Holding { holder, since: now, waits: false, taken: taken.clone() });
        Some(Place { places: Arc::clone(self), id, taken })
    }

    /// How many strangers and how many members have a place.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let held = self.lock();
        (held.strangers.len(), held.places.len() - held.strangers.len())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its holder has shown an access token, or a session: others of its address give way before it.
    pub(super) fn know(&self) {
        let mut held = self.places.lock();
        let site = match held.places.get(&self.id).map(|holding| &holding.holder) {
            Some(Holder::Stranger { site, is_known: false }) => *site,
            _ => return,
        };
        held.change(self.id, |holding| holding.holder = Holder::Stranger { site, is_known: true });
    }

    /// Its holder has said who it would be and waits until it is looked at: of those who came after it none gets its place, unless
    /// it is of a larger crowd.
    pub(super) fn wait(&self) {
        self.places.lock().change(self.id, |holding| holding.waits = true);
    }

    /// It is its turn: from now on its time counts again.
    pub(super) fn go_on(&self, now: Instant) {
        self.places.lock().change(self.id, |holding| (holding.waits, holding.since) = (false, now));
    }

    /// Its holder's certificate was verified. Returns whether there is room for a member.
    pub(super) fn join(&self, member: Member) -> bool {
        let mut held = self.places.lock();
        let Some(mut holding) = held.remove(self.id) else { return false };
        if held.places.len() - held.strangers.len() >= self.places.limits.members {
            return false;
        }
        holding.holder = match member {
            Member::Manager => Holder::Manager,
            Member::Agent(id) => {
                let own = held.agents.get(&id).filter(|own| own.len() >= PER_AGENT);
                if let Some(oldest) = own.and_then(|own| own.first().copied()) {
                    held.take_away(oldest);
                }
                Holder::Agent(id)
            }
        };
        held.add(self.id, holding);
        true
    }

    /// Waits until its place is another's.
    pub(super) async fn taken(&self) {
        self.taken.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.id);
    }
}

impl Holding {
    /// Whether it is among the strangers who give way last.
    fn is_last(&self, is_known: bool) -> bool {
        is_known || self.waits
    }
}

impl Held {
    /// Changes what is known of a place, and with it whom it gives way after.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Holding)) {
        if let Some(mut holding) = self.remove(id) {
            change(&mut holding);
            self.add(id, holding);
        }
    }

    fn add(&mut self, id: u64, holding: Holding) {
        match &holding.holder {
            Holder::Stranger { site, is_known } => {
                let is_last = holding.is_last(*is_known);
                self.strangers.insert((is_last, id));
                let own = self.sites.entry(*site).or_default();
                self.crowds.remove(&(own.len(), *site));
                own.insert((is_last, id));
                self.crowds.insert((own.len(), *site));
            }
            Holder::Agent(agent) => _ = self.agents.entry(agent.clone()).or_default().insert(id),
            Holder::Manager => {}
        }
        self.places.insert(id, holding);
    }

    fn remove(&mut self, id: u64) -> Option<Holding> {
        let holding = self.places.remove(&id)?;
        match &holding.holder {
            Holder::Stranger { site, is_known } => {
                let is_last = holding.is_last(*is_known);
                self.strangers.remove(&(is_last, id));
                if let Some(own) = self.sites.get_mut(site) {
                    self.crowds.remove(&(own.len(), *site));
                    own.remove(&(is_last, id));
                    match own.len() {
                        0 => _ = self.sites.remove(site),
                        count => _ = self.crowds.insert((count, *site)),
                    }
                }
            }
            Holder::Agent(agent) => {
                if let Some(own) = self.agents.get_mut(agent) {
                    own.remove(&id);
                    if own.is_empty() {
                        self.agents.remove(agent);
                    }
                }
            }
            Holder::Manager => {}
        }
        Some(holding)
    }

    /// Frees the place of a stranger that had its time. None: it has still some, or there is none.
    fn take_away_aged(&mut self, stranger: Option<(bool, u64)>, now: Instant) -> Option<()> {
        let (_, id) = stranger?;
        let holding = self.places.get(&id)?;
        let has_time = holding.waits || now.saturating_duration_since(holding.since) < TIME_TO_SHOW;
        (!has_time).then(|| self.take_away(id))
    }

    /// Frees a place, and tells its connection to end.
    fn take_away(&mut self, id: u64) {
        if let Some(holding) = self.remove(id) {
            holding.taken.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(count: u32) -> Arc<Places> {
        Places::new(NonZeroU32::new(count).unwrap())
    }

    fn site(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn agent(name: &str) -> Member {
        Member::Agent(AgentId::edge(name))
    }

    #[test]
    fn strangers_leave_room_for_certificates_and_members_for_whoever_shows_one() {
        let (places, now) = (places(64), Instant::now());
        let mut strangers: Vec<Place> = (0..100).filter_map(|number| places.take(site(number % 8), now)).collect();
        assert_eq!(places.counts(), (48, 0), "three quarters");
        let mut members = Vec::new();
        for number in 0..100 {
            // Those who are let in where all is full take the place of the largest crowd's oldest, then of the oldest of all.
            let Some(place) = places.take(site(100 + number), now + TIME_TO_SHOW) else { continue };
            if place.join(agent(&number.to_string())) {
                members.push(place);
            }
        }
        assert_eq!(members.len(), 60, "a sixteenth is left");
        assert!(places.counts().0 <= 4 && strangers.iter().filter(|place| place.taken.is_cancelled()).count() >= 44);
        strangers.clear();
        assert!(places.take(site(1), now).is_some());
        members.clear();
        assert_eq!(places.counts(), (0, 0));
        assert!(places.lock().sites.is_empty() && places.lock().crowds.is_empty() && places.lock().agents.is_empty());
    }

    #[test]
    fn one_address_does_not_keep_others_out_and_its_own_give_way_after_their_time() {
        let (places, now) = (places(1_024), Instant::now());
        let crowd: Vec<Place> = (0..32).map(|_| places.take(site(1), now).unwrap()).collect();
        assert!(places.take(site(1), now).is_none(), "each has its time");
        assert!(places.take(site(2), now).is_some());
        let late = places.take(site(1), now + TIME_TO_SHOW).unwrap();
        assert!(crowd[0].taken.is_cancelled() && !crowd[1].taken.is_cancelled() && !late.taken.is_cancelled());
        assert_eq!(places.counts().0, 32);
        crowd[1].know();
        crowd[1].know();
        _ = places.take(site(1), now + TIME_TO_SHOW).unwrap();
        assert!(!crowd[1].taken.is_cancelled() && crowd[2].taken.is_cancelled(), "who has shown a token stays");
    }

    #[test]
    fn strangers_from_everywhere_give_way_when_they_had_their_time() {
        let (places, now) = (places(64), Instant::now());
        let crowd: Vec<Place> = (0..48).map(|number| places.take(site(number), now).unwrap()).collect();
        assert!(places.take(site(100), now).is_none());
        let late = places.take(site(100), now + TIME_TO_SHOW).unwrap();
        assert!(crowd[0].taken.is_cancelled() && !crowd[1].taken.is_cancelled());
        assert!(late.join(agent("f1")));
    }

    #[test]
    fn who_waits_for_its_turn_keeps_its_place_but_from_smaller_crowds() {
        let (places, now) = (places(64), Instant::now());
        let crowd: Vec<Place> = (0..48).map(|number| places.take(site(number), now).unwrap()).collect();
        crowd[..47].iter().for_each(Place::wait);
        let late = now + TIME_TO_SHOW;
        let other = places.take(site(100), late).unwrap();
        assert!(crowd[47].taken.is_cancelled(), "it said nothing");
        other.wait();
        assert!(places.take(site(101), late).is_none(), "all wait for us");
        crowd[3].go_on(late);
        assert!(places.take(site(101), late).is_none(), "its time begins with its turn");
        let last = places.take(site(101), late + TIME_TO_SHOW).unwrap();
        assert!(crowd[3].taken.is_cancelled() && !crowd[0].taken.is_cancelled() && !last.taken.is_cancelled());
        drop((crowd, other, last));
        let crowd: Vec<Place> = (0..48).map(|number| places.take(site(number % 2), now).unwrap()).collect();
        crowd.iter().for_each(Place::wait);
        assert!(places.take(site(2), now).is_some(), "a crowd gives way whether it waits or not");
        assert_eq!(crowd.iter().filter(|place| place.taken.is_cancelled()).count(), 1);
    }

    #[test]
    fn one_agent_has_a_few_and_its_oldest_gives_way() {
        let (places, now) = (places(1_024), Instant::now());
        let own: Vec<Place> = (0..=PER_AGENT)
            .map(|_| {
                let place = places.take(site(1), now).unwrap();
                assert!(place.join(agent("f1")));
                place
            })
            .collect();
        assert_eq!(places.counts(), (0, PER_AGENT));
        assert!(own[0].taken.is_cancelled() && !own[1].taken.is_cancelled());
        assert!(!own[0].join(Member::Manager), "its place is another's");
    }

    #[test]
    fn very_few_places_are_places_too() {
        let (places, now) = (places(1), Instant::now());
        let place = places.take(site(1), now).unwrap();
        assert!(places.take(site(2), now).is_none());
        assert!(place.join(agent("f1")));
    }
}
