//! Labels that are bound: what the manager holds true of nodes, edges and workloads whatever they say of themselves.
//!
//! Join tokens bind some when somebody joins; here people do. Selectors rest on those
//! ([decision 17](../../../docs/decisions/0017-selectors-match-what-is-bound.md)).

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use persona_core::ids::{EdgeName, InvalidName, SubjectId};
use persona_core::wire::api::{LabelsView, Problem, SetLabels};
use serde_json::json;

use super::input::{Body, IfMatch, ReachHeader, Reaching, Tagged, subject};
use crate::context::Context;
use crate::error::Refusal;
use crate::reach;
use crate::store::{AgentDetails, AgentId, AgentRecord, Draft, NodeDetails, Snapshot};
use crate::tasks::wear::labels_of;
use crate::versions::{agent_tag, value_tag};

/// Labels that may be bound to one thing, and bytes that a key or a value may have.
const LABEL_COUNT_MAX: usize = 64;
const LABEL_LENGTH_MAX: usize = 253;

/// Workloads of one node that may have labels bound to them.
const WORKLOAD_COUNT_MAX: usize = 4_096;

type Labels = BTreeMap<String, String>;

/// What labels are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    Edge(EdgeName),
    Subject(SubjectId),
}

impl Holder {
    fn read(text: &str) -> Result<Self, Refusal> {
        match text.strip_prefix("edge/") {
            Some(name) => {
                let name = name.parse().map_err(|error: InvalidName| Refusal::invalid(error.to_string()))?;
                Ok(Self::Edge(name))
            }
            None => subject(text).map(Self::Subject),
        }
    }

    /// Who has the record in which the labels stand.
    fn agent(&self) -> AgentId {
        match self {
            Self::Edge(name) => AgentId::edge(name.as_str()),
            Self::Subject(subject) => AgentId::node(subject.node()),
        }
    }

    fn view(&self, snapshot: &Snapshot) -> Result<Tagged<LabelsView>, Refusal> {
        let record = snapshot.agents.get(&self.agent());
        let record = record.ok_or_else(|| Refusal::not_found(format!("there is no {}", self.agent())))?;
        let own = self.bound_in(record);
        let (tag, all) = match self {
            Self::Edge(_) => (agent_tag(record), None),
            Self::Subject(subject @ SubjectId::Node(_)) => (agent_tag(record), Some(labels_of(snapshot, subject))),
            Self::Subject(subject) => (value_tag(&json!([subject, own])), Some(labels_of(snapshot, subject))),
        };
        let (bound, claimed) = match all {
            Some(all) => (all.bound, all.claimed),
            None => (record.bound_labels.clone(), record.labels.clone()),
        };
        let inherited = bound.into_iter().filter(|(key, _)| !own.contains_key(key)).collect();
        Ok(Tagged(tag, LabelsView { of: self.to_string(), labels: own, inherited, claimed }))
    }

    fn bound_in(&self, record: &AgentRecord) -> Labels {
        match self {
            Self::Subject(SubjectId::Workload(_, name)) => {
                record.node().and_then(|node| node.workload_labels.get(name)).cloned().unwrap_or_default()
            }
            _ => record.bound_labels.clone(),
        }
    }

    /// The record with these labels in the place of those that were bound.
    fn bind(&self, record: &AgentRecord, labels: Labels) -> Result<AgentRecord, Refusal> {
        let (Self::Subject(SubjectId::Workload(node, name)), AgentDetails::Node(details)) = (self, &record.details)
        else {
            return Ok(AgentRecord { bound_labels: labels, ..record.clone() });
        };
        let mut workload_labels = details.workload_labels.clone();
        match labels.is_empty() {
            true => _ = workload_labels.remove(name),
            false => _ = workload_labels.insert(name.clone(), labels),
        }
        if workload_labels.len() > WORKLOAD_COUNT_MAX {
            let detail =
                format!("node {node} has labels bound to {WORKLOAD_COUNT_MAX} workloads: bind them to the node");
            return Err(Refusal::conflict(detail));
        }
        let details = AgentDetails::Node(NodeDetails { workload_labels, ..details.clone() });
        Ok(AgentRecord { details, ..record.clone() })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Edge(name) => write!(formatter, "edge/{name}"),
            Self::Subject(subject) => subject.fmt(formatter),
        }
    }
}

/// The labels of a node, an edge or a workload, by whose word they are.
#[utoipa::path(get, path = "/v1/labels/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = LabelsView), (status = "4XX", body = Problem)))]
pub(super) async fn get(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Tagged<LabelsView>, Refusal> {
    Holder::read(&text)?.view(&context.store.snapshot())
}

/// Binds labels to a node, an edge or a workload, in the place of those that were bound to it. A workload may be named before
/// its node has reported it.
#[utoipa::path(put, path = "/v1/labels/{*subject}", request_body = SetLabels,
    params(("subject" = String, Path), ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the labels as they were read, or *")),
    responses((status = 200, body = LabelsView), (status = "4XX", body = Problem)))]
pub(super) async fn bind(
    State(context): State<Context>,
    Path(text): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Body(request): Body<SetLabels>,
) -> Result<Tagged<LabelsView>, Refusal> {
    let holder = Holder::read(&text)?;
    check_labels(&request.labels)?;
    let (assigner, of) = (context.assigner.clone(), holder.clone());
    let bind = move |draft: &mut Draft| {
        let Tagged(tag, before) = of.view(draft.state())?;
        expected.check_tag(&before.of, &tag)?;
        if before.labels == request.labels {
            return Ok(());
        }
        let record = draft.state().agents.get(&of.agent()).cloned();
        let record = record.ok_or_else(|| Refusal::not_found(format!("there is no {}", of.agent())))?;
        let message = format!("{of} has bound to it: {}, before: {}", told(&request.labels), told(&before.labels));
        let details = json!({ "before": before.labels, "after": request.labels });
        draft.event("labels.bound", &of, draft.actor(), message, details);
        draft.put(of.bind(&record, request.labels)?);
        Ok(())
    };
    let change = move |draft: &mut Draft| {
        reach::within(draft, &overriding, bind, |before, after, ()| reach::of_documents(&assigner, before, after))
    };
    context.store.change(change).await?;
    holder.view(&context.store.snapshot())
}

/// Refuses labels of which nobody could make sense.
pub(super) fn check_labels(labels: &Labels) -> Result<(), Refusal> {
    labels_fault(labels).map_or(Ok(()), |fault| Err(Refusal::invalid(fault)))
}

/// What is wrong with labels, whoever says them. None: nothing.
pub(super) fn labels_fault(labels: &Labels) -> Option<String> {
    if labels.len() > LABEL_COUNT_MAX {
        let count = labels.len();
        return Some(format!("labels has {count} entries: at most {LABEL_COUNT_MAX} are taken"));
    }
    let is_text = |text: &str| text.len() <= LABEL_LENGTH_MAX && !text.chars().any(char::is_control);
    let is_fine = |(key, value): (&String, &String)| !key.is_empty() && is_text(key) && is_text(value);
    let (key, _) = labels.iter().find(|label| !is_fine(*label))?;
    let shown: String = key.chars().take(64).collect();
    Some(format!(
        "label {shown:?} is not valid: a key has 1 to {LABEL_LENGTH_MAX} bytes, a value at most as many, and neither has control characters"
    ))
}

fn told(labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if labels.is_empty() { "nothing".to_owned() } else { labels.join(", ") }
}
