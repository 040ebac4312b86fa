//! Kinds of records: what each is found by, where it is kept, and what follows it.

use persona_core::document::Kind;
use persona_core::ids::{LeaseId, PoolName, RolloutName, ScheduleName, SubjectId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::Index;
use super::records::{
    AUDIT_STUB_KEY, AccessTokenRecord, AgentId, AgentRecord, AuditStubRecord, DeadLetterRecord, DocumentRecord,
    HeardRecord, JoinTokenRecord, JoinedKeyRecord, LeaseRecord, OnceRecord, PoolHistoryRecord, PublicationRecord,
    RECOVERY_KEY, ReachedRecord, RecoveryRecord, RevocationRecord, RolloutMemberRecord, RolloutRecord, RootRecord,
    SETTINGS_KEY, ScheduleRecord, SettingsRecord, SignalRecord, SubjectRecord, VersionRecord, WebLinkRecord,
    WebSessionRecord, WebhookRecord, WorkloadRecord,
};
use super::snapshot::{Records, Snapshot, Table};

/// A kind of record that the store keeps.
pub(crate) trait Record: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is found by.
    type Key: Ord + Clone;
    /// Where it is kept.
    const TABLE: Table;
    /// Its key.
    fn key(&self) -> Self::Key;
    /// Its key as text.
    fn key_text(key: &Self::Key) -> String;
    /// The records of the kind in a snapshot, to be changed by [`Snapshot::put`] and [`Snapshot::take`].
    fn records_mut(snapshot: &mut Snapshot) -> &mut Records<Self>;
    /// Has the index follow what became of a record.
    fn follow(_index: &mut Index, _before: Option<&Self>, _after: Option<&Self>) {}
}

macro_rules! record {
    ($record:ty, $key:ty, $table:ident, $field:ident, |$self:ident| $make:expr, |$given:ident| $text:expr
     $(, $follow:ident)?) => {
        impl Record for $record {
            type Key = $key;
            const TABLE: Table = Table::$table;
            fn key(&self) -> $key {
                let $self = self;
                $make
            }
            fn key_text($given: &$key) -> String {
                $text
            }
            fn records_mut(snapshot: &mut Snapshot) -> &mut Records<Self> {
                &mut snapshot.$field
            }
            $(fn follow(index: &mut Index, before: Option<&Self>, after: Option<&Self>) {
                index.$follow(before, after);
            })?
        }
    };
}

record!(DocumentRecord, (Kind, String), Documents, documents, |it| (it.kind, it.name.clone()), |key| {
    format!("{}/{}", key.0, key.1)
});
record!(
    VersionRecord,
    (Kind, String, u32),
    Versions,
    versions,
    |it| (it.kind, it.name.clone(), it.version),
    |key| format!("{}/{}@{}", key.0, key.1, key.2)
);
record!(JoinTokenRecord, String, Tokens, tokens, |it| it.id.clone(), |key| key.clone());
record!(AgentRecord, AgentId, Agents, agents, |it| it.id.clone(), |key| key.to_string(), follow_agent);
record!(
    WorkloadRecord,
    SubjectId,
    Workloads,
    workloads,
    |it| SubjectId::Workload(it.node.clone(), it.report.name.clone()),
    |key| key.to_string()
);
record!(SubjectRecord, SubjectId, Subjects, subjects, |it| it.subject.clone(), |key| key.to_string(), follow_subject);
record!(LeaseRecord, LeaseId, Leases, leases, |it| it.id, |key| format!("{:020}", key.0), follow_lease);
record!(PublicationRecord, AgentId, Publications, publications, |it| it.agent.clone(), |key| key.to_string());
record!(AccessTokenRecord, String, AccessTokens, access_tokens, |it| it.id.clone(), |key| key.clone());
record!(RevocationRecord, String, Revocations, revocations, |it| it.public_key.clone(), |key| key.clone());
record!(RootRecord, String, Roots, roots, |it| it.id.clone(), |key| key.clone());
record!(SettingsRecord, &'static str, Settings, settings, |_it| SETTINGS_KEY, |key| (*key).to_owned());
record!(RecoveryRecord, &'static str, Recovery, recovery, |_it| RECOVERY_KEY, |key| (*key).to_owned());
record!(HeardRecord, AgentId, Heard, heard, |it| it.agent.clone(), |key| key.to_string());
record!(AuditStubRecord, &'static str, AuditStub, audit_stub, |_it| AUDIT_STUB_KEY, |key| (*key).to_owned());
record!(OnceRecord, String, Once, once, |it| it.id.clone(), |key| key.clone());
record!(SignalRecord, (SubjectId, String), Signals, signals, |it| (it.subject.clone(), it.name.clone()), |key| {
    format!("{} {}", key.0, key.1)
});
record!(
    ScheduleRecord,
    (SubjectId, ScheduleName),
    Schedules,
    schedules,
    |it| (it.subject.clone(), it.name.clone()),
    |key| format!("{} {}", key.0, key.1)
);
record!(WebhookRecord, String, Webhooks, webhooks, |it| it.name.clone(), |key| key.clone());
record!(
    DeadLetterRecord,
    (String, u64),
    DeadLetters,
    dead_letters,
    |it| (it.webhook.clone(), it.event),
    |key| format!("{} {:020}", key.0, key.1)
);
record!(ReachedRecord, u64, Reached, reached, |it| it.minute_end_ms, |key| format!("{key:020}"));
record!(WebLinkRecord, String, WebLinks, web_links, |it| it.id.clone(), |key| key.clone());
record!(WebSessionRecord, String, WebSessions, web_sessions, |it| it.id.clone(), |key| key.clone());
record!(RolloutRecord, RolloutName, Rollouts, rollouts, |it| it.name.clone(), |key| key.to_string());
record!(
    RolloutMemberRecord,
    (RolloutName, String),
    RolloutMembers,
    rollout_members,
    |it| (it.rollout.clone(), it.subject.to_string()),
    |key| format!("{} {}", key.0, key.1)
);
record!(
    JoinedKeyRecord,
    (String, String),
    JoinedKeys,
    joined_keys,
    |it| (it.token.clone(), it.public_key.clone()),
    |key| format!("{} {}", key.0, key.1),
    follow_joined_key
);
record!(PoolHistoryRecord, PoolName, PoolHistory, pool_history, |it| it.pool.clone(), |key| key.to_string());

/// A record as it is stored.
pub(super) fn body_of<R: Record>(record: &R) -> String {
    serde_json::to_string(record).expect("a record has string keys only")
}
