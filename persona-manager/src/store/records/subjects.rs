//! Workloads, who wears what, and what they lease.

use std::collections::BTreeMap;

use persona_core::content::ContentSource;
use persona_core::document::Section;
use persona_core::ids::{
    Capability, Generation, GroupName, LeaseId, NodeName, PersonaName, PoolName, ScheduleName, SubjectId,
    SubjectNumber, Vni,
};
use persona_core::lease::{Fullness, LeaseState};
use persona_core::wire::agent::WorkloadReport;
use persona_core::wire::api::SectionAssignment;
use persona_core::wire::desired::{AddressFamily, LeaseSpace, SubjectItem};
use serde::{Deserialize, Serialize};

use super::activation::{ActivationRecord, AlertRecord};
use super::planned::PlannedRecord;
use super::recovery::Claim;

/// A workload as its node last reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkloadRecord {
    /// Its node.
    pub node: NodeName,
    /// What the node said.
    pub report: WorkloadReport,
}

/// What a subject should wear, what it wears, and who asked for what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectRecord {
    /// Who.
    pub subject: SubjectId,
    /// Its number in the data plane.
    pub number: SubjectNumber,
    /// The switch by hand in force.
    pub manual: Option<Override<PersonaName>>,
    /// The request in force.
    pub request: Option<Override<Vec<Capability>>>,
    /// Who made it. None: a release that did not note it, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The source of content that the request names; it means nothing without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_content: Option<ContentSource>,
    /// The activation that was triggered, and is in force whatever criteria say.
    #[serde(default)]
    pub triggered: Option<Override<PersonaName>>,
    /// The schedule that triggered it. None: somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggered_by: Option<ScheduledBy>,
    /// What its criteria decided.
    #[serde(default)]
    pub activation: Option<Box<ActivationRecord>>,
    /// Alerts that are raised, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<String, AlertRecord>,
    /// What it shall wear, per section.
    pub sections: BTreeMap<String, SectionAssignment>,
    /// Its network section and lease, as decided; in force once the lease is active.
    pub target: Option<NetworkTarget>,
    /// Why it has no network section though it should.
    pub unassigned: Option<String>,
    /// The edge that it is planned onto, while the plan steers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<PlannedRecord>,
    /// What its node was told last.
    pub item: Option<SubjectItem>,
}

impl SubjectRecord {
    /// When the first of its overrides ends by itself. None: none does.
    pub(crate) fn ends_ms(&self) -> Option<u64> {
        let untils = [
            self.manual.as_ref().and_then(|it| it.until_ms),
            self.request.as_ref().and_then(|it| it.until_ms),
            self.triggered.as_ref().and_then(|it| it.until_ms),
        ];
        untils.into_iter().flatten().min()
    }

    /// Whether it wears a monitoring section, or has alerts that are raised.
    pub(crate) fn is_watched(&self) -> bool {
        !self.alerts.is_empty() || self.sections.contains_key(Section::Monitoring.as_str())
    }

    /// Whether its node was told of a total over all nodes for it.
    pub(crate) fn shares_with_all(&self) -> bool {
        let shared = self.item.as_ref().and_then(|item| item.qos.shared.as_ref());
        shared.is_some_and(|shared| !shared.scope.is_node())
    }

    /// The source of content that the request in force asks to be close to.
    pub(crate) fn wanted_content(&self) -> Option<&ContentSource> {
        self.request_content.as_ref().filter(|_| self.request.is_some())
    }
}

/// The schedule by which an activation was triggered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScheduledBy {
    /// Its name.
    pub name: ScheduleName,
    /// What it says, a sentence for people.
    pub reason: String,
}

/// Something asked for, until taken back or until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Override<T> {
    /// What was asked for.
    pub value: T,
    /// When it ends by itself.
    pub until_ms: Option<u64>,
}

/// The network section decided for a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkTarget {
    /// The persona.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// The IPv4 lease for new flows.
    #[serde(default)]
    pub lease: Option<LeaseId>,
    /// The IPv6 lease for new flows.
    #[serde(default)]
    pub lease6: Option<LeaseId>,
}

impl NetworkTarget {
    /// The leases for new flows, of both families.
    pub(crate) fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.lease.into_iter().chain(self.lease6)
    }

    /// The lease of a family.
    pub(crate) fn lease_of(&self, family: AddressFamily) -> Option<LeaseId> {
        match family {
            AddressFamily::Ipv4 => self.lease,
            AddressFamily::Ipv6 => self.lease6,
        }
    }
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    /// Its id.
    pub id: LeaseId,
    /// Who holds it.
    pub subject: SubjectId,
    /// Under which persona.
    pub persona: PersonaName,
    /// That persona's unique id.
    pub vni: Vni,
    /// The group whose edges carry it.
    pub group: GroupName,
    /// From which pool.
    pub pool: PoolName,
    /// What it consists of.
    #[serde(flatten)]
    pub space: LeaseSpace,
    /// Whether the subject's interface has it and nothing is rewritten.
    #[serde(default)]
    pub configured: bool,
    /// Whether its packets go through the encrypted tunnel and through nothing else.
    #[serde(default)]
    pub encrypted: bool,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// How long its last flows may go on once new ones no longer use it, milliseconds. None: until they end.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    /// How long its blocks rest afterwards, milliseconds.
    pub quarantine_ms: u64,
    /// The generation in which edges first learnt of it.
    pub generation: Generation,
    /// How full its node says it is.
    #[serde(default)]
    pub fullness: Fullness,
    /// On whose word it stands here.
    #[serde(default)]
    pub claim: Claim,
    /// Where it is in its life.
    pub state: LeaseState,
}
