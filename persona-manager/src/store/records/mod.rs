//! The records that the store keeps, each valid by construction and serialised as JSON.

mod access;
mod activation;
mod agents;
mod documents;
mod joined;
mod journal;
mod once;
mod planned;
mod pool_history;
mod reached;
mod recovery;
mod revocations;
mod rollouts;
mod roots;
mod schedules;
mod subjects;
mod web;
mod webhooks;

pub(crate) use persona_core::audit::AuditEntry as EventRecord;
pub(crate) use persona_core::health::EdgeState;

pub(crate) use access::AccessTokenRecord;
pub(crate) use activation::{ActivationRecord, AlertRecord, RuleIn, SignalRecord};
pub(crate) use agents::{
    AgentDetails, AgentId, AgentRecord, EdgeDetails, JoinTokenRecord, NodeDetails, NodeShare, weight_default,
};
pub(crate) use documents::{DocumentRecord, VersionRecord};
pub(crate) use joined::JoinedKeyRecord;
pub(crate) use journal::{AUDIT_STUB_KEY, AuditStubRecord, PublicationRecord, SETTINGS_KEY, SettingsRecord};
pub(crate) use once::OnceRecord;
pub(crate) use planned::PlannedRecord;
pub(crate) use pool_history::{PoolHistoryRecord, PoolSample};
pub(crate) use reached::ReachedRecord;
pub(crate) use recovery::{Claim, HeardRecord, RECOVERY_KEY, RecoveryRecord};
pub(crate) use revocations::RevocationRecord;
pub(crate) use rollouts::{MovedRecord, RolloutMemberRecord, RolloutRecord};
pub(crate) use roots::{Cross, RootRecord, RootState, SealedKey};
pub(crate) use schedules::{ScheduleRecord, ScheduledTimes};
pub(crate) use subjects::{LeaseRecord, NetworkTarget, Override, ScheduledBy, SubjectRecord, WorkloadRecord};
pub(crate) use web::{WebLinkRecord, WebOwner, WebSessionRecord};
pub(crate) use webhooks::{DeadLetterRecord, WebhookRecord};

/// A hash as a backend has it. What is none counts as missing, which checking the chain finds.
pub(super) fn read_hash(text: Option<String>) -> Option<persona_core::audit::EventHash> {
    text?.parse().ok()
}
