//! The records that the store keeps, each valid by construction and serialised as JSON.

mod access;
mod activation;
mod agents;
mod documents;
mod journal;
mod recovery;
mod revocations;
mod roots;
mod subjects;

pub(crate) use persona_core::health::EdgeState;

pub(crate) use access::AccessTokenRecord;
pub(crate) use activation::{ActivationRecord, RuleIn, SignalRecord};
pub(crate) use agents::{
    AgentDetails, AgentId, AgentRecord, EdgeDetails, JoinTokenRecord, NodeDetails, weight_default,
};
pub(crate) use documents::{DocumentRecord, VersionRecord};
pub(crate) use journal::{EventRecord, PublicationRecord, SETTINGS_KEY, SettingsRecord};
pub(crate) use recovery::{Claim, HeardRecord, RECOVERY_KEY, RecoveryRecord};
pub(crate) use revocations::RevocationRecord;
pub(crate) use roots::{RootRecord, RootState};
pub(crate) use subjects::{LeaseRecord, NetworkTarget, Override, SubjectRecord, WorkloadRecord};
