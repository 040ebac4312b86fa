//! What nodes and edges may speak of in a report: themselves, their own workloads and leases, the edges they probe.
//!
//! A report carries signs of life and acknowledgements, so it is never refused for a part that is somebody else's: that part
//! is left out, the answer says which and why, and an event names who tried. What is nobody's any more, such as the use of a
//! lease that was freed meanwhile, says nothing and is left out without words.

use std::net::IpAddr;

use persona_core::document::PoolSpec;
use persona_core::ids::{EdgeName, GroupName, LeaseId, NodeName, PersonaName, SubjectId, WorkloadName};
use persona_core::units::Cidr;
use persona_core::wire::agent::{AgentEvent, Report, Role, WorkloadReport};
use persona_core::wire::api::ProblemPart;
use persona_core::wire::desired::{Item, TunnelEnd};
use persona_core::wire::told::{ABOUT_LENGTH_MAX, About, abouts, kept};

use super::labels::labels_fault;
use crate::store::{AgentId, Snapshot};

/// Parts that an answer names; the others are counted.
const NAMED_COUNT_MAX: usize = 16;

/// What was left out of a report.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// The first of them.
    pub(super) parts: Vec<ProblemPart>,
    /// All of them.
    pub(super) count: usize,
}

impl LeftOut {
    pub(super) fn add(&mut self, path: String, detail: String) {
        self.count += 1;
        if self.parts.len() < NAMED_COUNT_MAX {
            let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
            self.parts.push(ProblemPart { path, pointer: Some(pointer), detail });
        }
    }

    /// In a sentence.
    pub(super) fn told(&self) -> String {
        let first = self.parts.first().map(|part| format!("{}: {}", part.path, part.detail)).unwrap_or_default();
        if self.count > 1 { format!("{first}, and {} parts more", self.count - 1) } else { first }
    }
}

/// Whose something is.
enum Whose {
    Own,
    /// It is over, or never was: whoever speaks of it may not know yet.
    Nobodys,
    /// Why it is not the sender's to say.
    Anothers(String),
}

/// Keeps of a report what is the sender's own to say.
pub(super) fn keep_own(snapshot: &Snapshot, id: &AgentId, report: &mut Report) -> LeftOut {
    let own = Own { snapshot, id, group: snapshot.agents.get(id).and_then(|agent| Some(&agent.edge()?.group)) };
    let mut out = LeftOut::default();
    keep_labels(&mut out, report.workloads.as_deref_mut().unwrap_or_default());
    keep(&mut out, "events", Some(&mut report.events), |event| own.event(event));
    keep(&mut out, "drained", Some(&mut report.drained), |lease| own.lease(*lease));
    keep(&mut out, "leases", Some(&mut report.leases), |of| own.lease(of.lease));
    keep(&mut out, "edges", report.edges.as_mut(), |health| own.edge(&health.edge));
    keep(&mut out, "owned", report.owned.as_mut(), |address| own.range(&Cidr::of(*address)));
    keep(&mut out, "announced", report.announced.as_mut(), |range| own.range(range));
    keep(&mut out, "software", report.software.as_mut(), |of| own.subject(&of.subject));
    keep(&mut out, "security", report.security.as_mut(), |of| own.subject(&of.subject));
    let counted = report.counters.as_mut().map(|counters| &mut counters.subjects);
    keep(&mut out, "counters.subjects", counted, |of| own.subject(&of.subject));
    let held = report.holdings.as_mut().map(|holdings| &mut holdings.items);
    keep(&mut out, "holdings.items", held, |item| own.item(item));
    for event in &mut report.events {
        event.message = kept(std::mem::take(&mut event.message));
    }
    if let Some(rejected) = &mut report.rejected {
        rejected.reason = kept(std::mem::take(&mut rejected.reason));
    }
    out
}

/// Why an end of encrypted tunnels is not `id`'s own: far ends tell each other by their keys.
pub(super) fn claimed_key(snapshot: &Snapshot, id: &AgentId, end: &TunnelEnd) -> Option<String> {
    let is_in = |key: &String, end: &TunnelEnd| end.public_key == *key || end.next_key.as_ref() == Some(key);
    let others = snapshot.agents.values().filter(|agent| agent.id != *id);
    let mut others = others.filter_map(|agent| Some((&agent.id, agent.tunnel.as_ref()?)));
    let keys = [Some(&end.public_key), end.next_key.as_ref()];
    let (other, _) = others.find(|(_, theirs)| keys.iter().flatten().any(|key| is_in(key, theirs)))?;
    Some(format!("a key of it is that of {other}: make a key of your own"))
}

fn keep<T>(out: &mut LeftOut, path: &str, items: Option<&mut Vec<T>>, whose: impl Fn(&T) -> Whose) {
    let Some(items) = items else { return };
    let mut index = 0;
    items.retain(|item| {
        let at = index;
        index += 1;
        match whose(item) {
            Whose::Own => true,
            Whose::Nobodys => false,
            Whose::Anothers(why) => {
                out.add(format!("{path}[{at}]"), why);
                false
            }
        }
    });
}

/// Labels of workloads are kept within bounds: those of one that has too many, or too long ones, are left out.
fn keep_labels(out: &mut LeftOut, workloads: &mut [WorkloadReport]) {
    for (index, workload) in workloads.iter_mut().enumerate() {
        if let Some(fault) = labels_fault(&workload.labels) {
            workload.labels.clear();
            out.add(format!("workloads[{index}].labels"), fault);
        }
    }
}

/// Who sends, and what there is.
struct Own<'a> {
    snapshot: &'a Snapshot,
    id: &'a AgentId,
    /// Edges: the group.
    group: Option<&'a GroupName>,
}

impl Own<'_> {
    fn event(&self, event: &AgentEvent) -> Whose {
        let (id, name, about) = (self.id, &event.name, event.about.as_str());
        let Some(abouts) = abouts(id.role, name) else {
            return Whose::Anothers(format!("{id} does not tell of {name:?}: that is not an event of its role"));
        };
        let is_text = about.len() <= ABOUT_LENGTH_MAX && !about.chars().any(char::is_control);
        if is_text && abouts.iter().any(|of| self.may_be_about(*of, about)) {
            return Whose::Own;
        }
        Whose::Anothers(format!("{name} by {id} cannot be about {about:?}: that is not its own"))
    }

    fn may_be_about(&self, of: About, about: &str) -> bool {
        let is_own = |whose: Whose| !matches!(whose, Whose::Anothers(_));
        match of {
            About::Itself => about == self.id.name || about == self.id.to_string(),
            About::Subject => {
                about.parse::<WorkloadName>().is_ok()
                    || about.parse().is_ok_and(|subject: SubjectId| is_own(self.subject(&subject)))
            }
            // A path of its host begins with a slash; an id of something of the fleet has one inside.
            About::Place => !about.is_empty() && (about.starts_with('/') || !about.contains('/')),
            About::Edge => about.parse().is_ok_and(|edge: EdgeName| is_own(self.edge(&edge))),
            About::Lease => {
                let lease = about.strip_prefix("lease/").and_then(|lease| lease.parse().ok());
                lease.is_some_and(|lease| is_own(self.lease(LeaseId(lease))))
            }
            About::Group => about.parse::<GroupName>().is_ok(),
            About::Persona => about.strip_prefix("persona/").is_some_and(|it| it.parse::<PersonaName>().is_ok()),
            About::OwnAddress => about.parse().is_ok_and(|address: IpAddr| is_own(self.range(&Cidr::of(address)))),
            About::FarEnd => about.parse::<IpAddr>().is_ok(),
        }
    }

    fn is_own_node(&self, node: &NodeName) -> bool {
        self.id.role == Role::Node && node.as_str() == self.id.name
    }

    fn subject(&self, subject: &SubjectId) -> Whose {
        match self.is_own_node(subject.node()) {
            true => Whose::Own,
            false => Whose::Anothers(format!("{subject} does not live on {}", self.id)),
        }
    }

    fn lease(&self, lease: LeaseId) -> Whose {
        match self.snapshot.leases.get(&lease) {
            None => Whose::Nobodys,
            Some(record) if self.is_own_node(record.subject.node()) => Whose::Own,
            Some(record) => Whose::Anothers(format!("lease {lease} is that of {}", record.subject)),
        }
    }

    /// Nodes probe edges of any group, edges those of their own.
    fn edge(&self, edge: &EdgeName) -> Whose {
        let record = self.snapshot.agents.get(&AgentId::edge(edge.as_str()));
        match (record.and_then(|record| record.edge()), self.group) {
            (None, _) => Whose::Nobodys,
            (Some(_), None) => Whose::Own,
            (Some(other), Some(group)) if other.group == *group => Whose::Own,
            (Some(other), Some(group)) => {
                Whose::Anothers(format!("edge {edge} is of group {}, {} of group {group}", other.group, self.id))
            }
        }
    }

    /// Egress addresses and next hops, which are their groups'.
    fn range(&self, range: &Cidr) -> Whose {
        let is_in = |pool: &PoolSpec| {
            let next_hop = pool.next_hop6.map(|address| Cidr::of(address.into()));
            pool.addresses.iter().chain(&next_hop).any(|of| of.overlaps(range))
        };
        let mut anothers = None;
        for pool in self.snapshot.pools().filter(|pool| is_in(&pool.spec)) {
            if self.group == Some(&pool.spec.group) {
                return Whose::Own;
            }
            anothers.get_or_insert(&pool.metadata.name);
        }
        match anothers {
            // Of a pool that is gone, or was moved: the edge lets go of it with its next state.
            None => Whose::Own,
            Some(pool) => Whose::Anothers(format!("{} is of pool {pool}, which is of another group", range.address())),
        }
    }

    /// What somebody holds: numbers of subjects and edges are only read, so that none is given a second time.
    fn item(&self, item: &Item) -> Whose {
        match item {
            Item::Subject(item) => self.subject(&item.subject),
            Item::Lease(item) if self.id.role == Role::Node => {
                if self.is_own_node(&item.node) {
                    self.subject(&item.subject)
                } else {
                    self.lease_of(item.id)
                }
            }
            Item::Lease(item) if self.group == Some(&item.group) => Whose::Own,
            Item::Lease(item) => self.lease_of(item.id),
            _ => Whose::Own,
        }
    }

    fn lease_of(&self, lease: LeaseId) -> Whose {
        Whose::Anothers(format!("lease {lease} is not one of {}", self.id))
    }
}
