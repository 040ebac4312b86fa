//! The store's state at one revision, in memory. It never changes; the writer makes the next one.

use std::sync::Arc;

use persona_core::audit::{AuditSeal, EventHash};
use persona_core::document::{BindingDocument, Document, Kind, PersonaDocument, PoolDocument};
use persona_core::ids::{Generation, PoolName, RolloutName, SubjectId};
use persona_core::wire::desired::DesiredState;

use super::derived::Derived;
use super::index::Index;
use super::numbers::Numbers;
use super::record::{Record, body_of};
use super::records::{
    AUDIT_STUB_KEY, AccessTokenRecord, AgentId, AgentRecord, AuditStubRecord, DeadLetterRecord, DocumentRecord,
    HeardRecord, JoinTokenRecord, JoinedKeyRecord, LeaseRecord, OnceRecord, PoolHistoryRecord, PublicationRecord,
    ReachedRecord, RecoveryRecord, RevocationRecord, RolloutMemberRecord, RolloutRecord, RootRecord, ScheduleRecord,
    SettingsRecord, SignalRecord, SubjectRecord, VersionRecord, WebLinkRecord, WebSessionRecord, WebhookRecord,
    WorkloadRecord,
};
use super::shared_map::SharedMap;

pub(crate) type Records<R> = SharedMap<<R as Record>::Key, R>;

/// Everything the store holds but events, at one revision. A clone costs a few counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// The store incarnation.
    pub incarnation: u32,
    /// The revision within it.
    pub revision: u64,
    /// The newest event's number.
    pub event_last: u64,
    /// Its hash. None: it has none, or there is no event.
    pub event_head: Option<EventHash>,
    /// The next numbers to give.
    pub numbers: Numbers,
    /// Documents by kind and name.
    pub documents: Records<DocumentRecord>,
    /// Their versions.
    pub versions: Records<VersionRecord>,
    /// Join tokens by id.
    pub tokens: Records<JoinTokenRecord>,
    /// Keys that joined, by token and key.
    pub joined_keys: Records<JoinedKeyRecord>,
    /// Nodes and edges.
    pub agents: Records<AgentRecord>,
    /// Workloads by subject.
    pub workloads: Records<WorkloadRecord>,
    /// Subjects.
    pub subjects: Records<SubjectRecord>,
    /// Leases by id.
    pub leases: Records<LeaseRecord>,
    /// Generations of the desired states.
    pub publications: Records<PublicationRecord>,
    /// What was set through the API.
    pub settings: Records<SettingsRecord>,
    /// Keys that are out for good.
    pub revocations: Records<RevocationRecord>,
    /// Access tokens by id.
    pub access_tokens: Records<AccessTokenRecord>,
    /// Root certificates by id.
    pub roots: Records<RootRecord>,
    /// The recovery under way, if there is one.
    pub recovery: Records<RecoveryRecord>,
    /// Who has said since what it holds.
    pub heard: Records<HeardRecord>,
    /// What stands for the events that were dropped.
    pub audit_stub: Records<AuditStubRecord>,
    /// Answers that were given under idempotency keys.
    pub once: Records<OnceRecord>,
    /// What was pushed, by subject and name.
    pub signals: Records<SignalRecord>,
    /// When personas are put on by themselves, by subject and name.
    pub schedules: Records<ScheduleRecord>,
    /// What changes have reached of the fleet, by the end of each minute.
    pub reached: Records<ReachedRecord>,
    /// Links that log a browser in, by id.
    pub web_links: Records<WebLinkRecord>,
    /// Sessions of people at the page, by id.
    pub web_sessions: Records<WebSessionRecord>,
    /// Where events are sent.
    pub webhooks: Records<WebhookRecord>,
    /// Events that were not taken there, by webhook and number.
    pub dead_letters: Records<DeadLetterRecord>,
    /// Rollouts by name, and for a while those that are over.
    pub rollouts: Records<RolloutRecord>,
    /// Their members.
    pub rollout_members: Records<RolloutMemberRecord>,
    /// How full egress pools were.
    pub pool_history: Records<PoolHistoryRecord>,
    /// The desired states; computed, not stored.
    pub desired: SharedMap<AgentId, DesiredState>,
    /// Whether another manager has published the desired states: one that is not here did not come out as it was published.
    pub is_mirror: bool,
    /// What readers found out.
    pub(super) derived: Derived,
    /// What is looked for again and again.
    pub(super) index: Index,
}

impl Snapshot {
    /// The snapshot's revision as a generation.
    pub(crate) fn generation(&self) -> Generation {
        Generation::new(self.incarnation, self.revision)
    }

    /// What stands for the events that were dropped. None: none was.
    pub(crate) fn audit_stub(&self) -> Option<&AuditSeal> {
        self.audit_stub.get(AUDIT_STUB_KEY).map(|stub| &stub.seal)
    }

    /// What was pushed about a subject, by name, also what is over by now.
    pub(crate) fn signals_of(&self, subject: &SubjectId) -> impl Iterator<Item = &Arc<SignalRecord>> {
        let all = self.signals.range((subject.clone(), String::new())..);
        all.take_while(move |((of, _), _)| of == subject).map(|(_, record)| record)
    }

    /// The members of a rollout that is not over.
    pub(crate) fn members_of(&self, rollout: &RolloutName) -> impl Iterator<Item = &Arc<RolloutMemberRecord>> {
        let all = self.rollout_members.range((rollout.clone(), String::new())..);
        all.take_while(move |((of, _), _)| of == rollout).map(|(_, member)| member)
    }

    /// A document that is not deleted.
    pub(crate) fn document(&self, kind: Kind, name: &str) -> Option<&DocumentRecord> {
        let record = self.documents.get(&(kind, name.to_owned()))?;
        (!record.deleted).then_some(record)
    }

    /// A stored version of a document.
    pub(crate) fn version(&self, kind: Kind, name: &str, version: u32) -> Option<&Arc<VersionRecord>> {
        self.versions.get(&(kind, name.to_owned(), version))
    }

    /// The newest versions of all documents of a kind that are not deleted, by name.
    pub(crate) fn latest(&self, kind: Kind) -> impl Iterator<Item = &Arc<VersionRecord>> {
        let all = self.documents.range((kind, String::new())..).take_while(move |((of, _), _)| *of == kind);
        let live = all.map(|(_, record)| record).filter(|record| !record.deleted);
        live.filter_map(move |record| self.version(kind, &record.name, record.latest))
    }
}

/// The newest version of one persona, read.
pub(crate) struct PersonaEntry<'a> {
    /// Its version.
    pub version: u32,
    /// The document.
    pub document: &'a PersonaDocument,
}

impl Snapshot {
    /// The newest versions of all personas.
    pub(crate) fn personas(&self) -> impl Iterator<Item = PersonaEntry<'_>> {
        self.latest(Kind::Persona).filter_map(|record| {
            self.document(Kind::Persona, &record.name)?.vni?;
            match record.parsed()? {
                Document::Persona(document) => Some(PersonaEntry { version: record.version, document }),
                _ => None,
            }
        })
    }

    /// The newest versions of all bindings, by name.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &BindingDocument> {
        self.latest(Kind::Binding).filter_map(|record| match record.parsed()? {
            Document::Binding(document) => Some(document),
            _ => None,
        })
    }

    /// The newest version of one egress pool.
    pub(crate) fn pool(&self, name: &PoolName) -> Option<&PoolDocument> {
        let latest = self.document(Kind::EgressPool, name.as_str())?.latest;
        match self.version(Kind::EgressPool, name.as_str(), latest)?.parsed()? {
            Document::EgressPool(document) => Some(document),
            _ => None,
        }
    }

    /// The newest versions of all egress pools, by name.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &PoolDocument> {
        self.latest(Kind::EgressPool).filter_map(|record| match record.parsed()? {
            Document::EgressPool(document) => Some(document),
            _ => None,
        })
    }
}

/// Where records of a kind are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// [`DocumentRecord`].
    Documents,
    /// [`VersionRecord`].
    Versions,
    /// [`JoinTokenRecord`].
    Tokens,
    /// [`AgentRecord`].
    Agents,
    /// [`WorkloadRecord`].
    Workloads,
    /// [`SubjectRecord`].
    Subjects,
    /// [`LeaseRecord`].
    Leases,
    /// [`PublicationRecord`].
    Publications,
    /// [`SettingsRecord`].
    Settings,
    /// [`RootRecord`].
    Roots,
    /// [`AccessTokenRecord`].
    AccessTokens,
    /// [`RevocationRecord`].
    Revocations,
    /// [`RecoveryRecord`].
    Recovery,
    /// [`HeardRecord`].
    Heard,
    /// [`AuditStubRecord`].
    AuditStub,
    /// [`OnceRecord`].
    Once,
    /// [`SignalRecord`].
    Signals,
    /// [`ScheduleRecord`].
    Schedules,
    /// [`ReachedRecord`].
    Reached,
    /// [`WebLinkRecord`].
    WebLinks,
    /// [`WebSessionRecord`].
    WebSessions,
    /// [`WebhookRecord`].
    Webhooks,
    /// [`DeadLetterRecord`].
    DeadLetters,
    /// [`RolloutRecord`].
    Rollouts,
    /// [`RolloutMemberRecord`].
    RolloutMembers,
    /// [`PoolHistoryRecord`].
    PoolHistory,
    /// [`JoinedKeyRecord`].
    JoinedKeys,
}

impl Table {
    /// Every table, in the order in which they are read.
    pub(crate) const ALL: [Self; 27] = [
        Self::Documents,
        Self::Versions,
        Self::Tokens,
        Self::Agents,
        Self::Workloads,
        Self::Subjects,
        Self::Leases,
        Self::Publications,
        Self::Settings,
        Self::Roots,
        Self::AccessTokens,
        Self::Revocations,
        Self::Recovery,
        Self::Heard,
        Self::AuditStub,
        Self::Once,
        Self::Signals,
        Self::Schedules,
        Self::Reached,
        Self::WebLinks,
        Self::WebSessions,
        Self::Webhooks,
        Self::DeadLetters,
        Self::Rollouts,
        Self::RolloutMembers,
        Self::PoolHistory,
        Self::JoinedKeys,
    ];

    /// Its name, the same in every backend.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Versions => "document_versions",
            Self::Tokens => "join_tokens",
            Self::Agents => "agents",
            Self::Workloads => "workloads",
            Self::Subjects => "subjects",
            Self::Leases => "leases",
            Self::Publications => "publications",
            Self::Settings => "settings",
            Self::Roots => "roots",
            Self::AccessTokens => "access_tokens",
            Self::Revocations => "revocations",
            Self::Recovery => "recovery",
            Self::Heard => "recovery_heard",
            Self::AuditStub => "audit_stub",
            Self::Once => "once",
            Self::Signals => "signals",
            Self::Schedules => "schedules",
            Self::Reached => "reached",
            Self::WebLinks => "web_links",
            Self::WebSessions => "web_sessions",
            Self::Webhooks => "webhooks",
            Self::DeadLetters => "dead_letters",
            Self::Rollouts => "rollouts",
            Self::RolloutMembers => "rollout_members",
            Self::PoolHistory => "pool_history",
            Self::JoinedKeys => "joined_keys",
        }
    }
}

impl Snapshot {
    /// Puts a record in, in place of the one with its key.
    pub(super) fn put<R: Record>(&mut self, key: R::Key, record: Arc<R>) {
        self.derived = Derived::default();
        let before = R::records_mut(self).insert(key, Arc::clone(&record));
        R::follow(&mut self.index, before.as_deref(), Some(&*record));
    }

    /// Takes a record out.
    pub(super) fn take<R: Record>(&mut self, key: &R::Key) {
        self.derived = Derived::default();
        let before = R::records_mut(self).remove(key);
        R::follow(&mut self.index, before.as_deref(), None);
    }

    /// Takes in a record as a backend has it.
    pub(crate) fn take_in(&mut self, table: Table, body: &str) -> serde_json::Result<()> {
        match table {
            Table::Documents => insert::<DocumentRecord>(self, body),
            Table::Versions => insert::<VersionRecord>(self, body),
            Table::Tokens => insert::<JoinTokenRecord>(self, body),
            Table::Agents => insert::<AgentRecord>(self, body),
            Table::Workloads => insert::<WorkloadRecord>(self, body),
            Table::Subjects => insert::<SubjectRecord>(self, body),
            Table::Leases => insert::<LeaseRecord>(self, body),
            Table::Publications => insert::<PublicationRecord>(self, body),
            Table::Settings => insert::<SettingsRecord>(self, body),
            Table::Roots => insert::<RootRecord>(self, body),
            Table::AccessTokens => insert::<AccessTokenRecord>(self, body),
            Table::Revocations => insert::<RevocationRecord>(self, body),
            Table::Recovery => insert::<RecoveryRecord>(self, body),
            Table::Heard => insert::<HeardRecord>(self, body),
            Table::AuditStub => insert::<AuditStubRecord>(self, body),
            Table::Once => insert::<OnceRecord>(self, body),
            Table::Signals => insert::<SignalRecord>(self, body),
            Table::Schedules => insert::<ScheduleRecord>(self, body),
            Table::Reached => insert::<ReachedRecord>(self, body),
            Table::WebLinks => insert::<WebLinkRecord>(self, body),
            Table::WebSessions => insert::<WebSessionRecord>(self, body),
            Table::Webhooks => insert::<WebhookRecord>(self, body),
            Table::DeadLetters => insert::<DeadLetterRecord>(self, body),
            Table::Rollouts => insert::<RolloutRecord>(self, body),
            Table::RolloutMembers => insert::<RolloutMemberRecord>(self, body),
            Table::PoolHistory => insert::<PoolHistoryRecord>(self, body),
            Table::JoinedKeys => insert::<JoinedKeyRecord>(self, body),
        }
    }

    /// Takes a record out, by its key as text.
    pub(crate) fn take_out(&mut self, table: Table, key: &str) {
        match table {
            Table::Documents => remove::<DocumentRecord>(self, key),
            Table::Versions => remove::<VersionRecord>(self, key),
            Table::Tokens => remove::<JoinTokenRecord>(self, key),
            Table::Agents => remove::<AgentRecord>(self, key),
            Table::Workloads => remove::<WorkloadRecord>(self, key),
            Table::Subjects => remove::<SubjectRecord>(self, key),
            Table::Leases => remove::<LeaseRecord>(self, key),
            Table::Publications => remove::<PublicationRecord>(self, key),
            Table::Settings => remove::<SettingsRecord>(self, key),
            Table::Roots => remove::<RootRecord>(self, key),
            Table::AccessTokens => remove::<AccessTokenRecord>(self, key),
            Table::Revocations => remove::<RevocationRecord>(self, key),
            Table::Recovery => remove::<RecoveryRecord>(self, key),
            Table::Heard => remove::<HeardRecord>(self, key),
            Table::AuditStub => remove::<AuditStubRecord>(self, key),
            Table::Once => remove::<OnceRecord>(self, key),
            Table::Signals => remove::<SignalRecord>(self, key),
            Table::Schedules => remove::<ScheduleRecord>(self, key),
            Table::Reached => remove::<ReachedRecord>(self, key),
            Table::WebLinks => remove::<WebLinkRecord>(self, key),
            Table::WebSessions => remove::<WebSessionRecord>(self, key),
            Table::Webhooks => remove::<WebhookRecord>(self, key),
            Table::DeadLetters => remove::<DeadLetterRecord>(self, key),
            Table::Rollouts => remove::<RolloutRecord>(self, key),
            Table::RolloutMembers => remove::<RolloutMemberRecord>(self, key),
            Table::PoolHistory => remove::<PoolHistoryRecord>(self, key),
            Table::JoinedKeys => remove::<JoinedKeyRecord>(self, key),
        }
    }

    /// Takes in a number as a backend has it; one that is not known here is a newer release's.
    pub(crate) fn take_number(&mut self, name: &str, value: u64) {
        match name {
            "incarnation" => self.incarnation = value as u32,
            "revision" => self.revision = value,
            "next_vni" => self.numbers.vni = value as u32,
            "next_lease" => self.numbers.lease = value,
            "next_subject" => self.numbers.subject = value as u32,
            "next_edge" => self.numbers.edge = value as u16,
            _ => {}
        }
    }

    /// Every record as it is stored: table, key, body.
    pub(crate) fn records(&self) -> Vec<(Table, String, String)> {
        let mut all = Vec::new();
        collect(&self.documents, &mut all);
        collect(&self.versions, &mut all);
        collect(&self.tokens, &mut all);
        collect(&self.agents, &mut all);
        collect(&self.workloads, &mut all);
        collect(&self.subjects, &mut all);
        collect(&self.leases, &mut all);
        collect(&self.publications, &mut all);
        collect(&self.settings, &mut all);
        collect(&self.roots, &mut all);
        collect(&self.access_tokens, &mut all);
        collect(&self.revocations, &mut all);
        collect(&self.recovery, &mut all);
        collect(&self.heard, &mut all);
        collect(&self.audit_stub, &mut all);
        collect(&self.once, &mut all);
        collect(&self.signals, &mut all);
        collect(&self.schedules, &mut all);
        collect(&self.reached, &mut all);
        collect(&self.web_links, &mut all);
        collect(&self.web_sessions, &mut all);
        collect(&self.webhooks, &mut all);
        collect(&self.dead_letters, &mut all);
        collect(&self.rollouts, &mut all);
        collect(&self.rollout_members, &mut all);
        collect(&self.pool_history, &mut all);
        collect(&self.joined_keys, &mut all);
        all
    }
}

fn insert<R: Record>(snapshot: &mut Snapshot, body: &str) -> serde_json::Result<()> {
    let record: R = serde_json::from_str(body)?;
    snapshot.put(record.key(), Arc::new(record));
    Ok(())
}

fn remove<R: Record>(snapshot: &mut Snapshot, key: &str) {
    let known = R::records_mut(snapshot).keys().find(|known| R::key_text(known) == key).cloned();
    if let Some(known) = known {
        snapshot.take::<R>(&known);
    }
}

fn collect<R: Record>(records: &Records<R>, all: &mut Vec<(Table, String, String)>) {
    all.extend(records.iter().map(|(key, record)| (R::TABLE, R::key_text(key), body_of(&**record))));
}
