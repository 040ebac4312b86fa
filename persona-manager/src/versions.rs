//! Which version of a document, a setting, a node or an edge somebody has read, and whether it is still the newest: nobody
//! overwrites unseen what another has changed meanwhile.

use axum::http::{HeaderMap, header};
use persona_core::document::{Document, Kind, RESOURCE_VERSION};
use persona_core::wire::api::ProblemPart;
use serde::Serialize;
use serde_json::{Value, json};

use crate::auth::sha256_hex;
use crate::error::{Kind as RefusalKind, Refusal};
use crate::store::{AgentId, AgentRecord, Snapshot, VersionRecord};

/// Digits of the digest in a resource version: a store that went back to a backup gives a version number twice.
const DIGEST_DIGITS: usize = 12;

/// What a change expects of the document that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whatever is there.
    Any,
    /// One of these versions.
    Versions(Vec<String>),
}

impl Expected {
    /// Reads `If-Match`, which a change must have (RFC 9110 §13.1.1).
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let missing = || {
            let detail = "send If-Match with the ETag of what you change as you read it, or * for whatever is there";
            Refusal::new(RefusalKind::VersionMissing, detail)
        };
        let text = headers.get(header::IF_MATCH).ok_or_else(missing)?;
        let text = text.to_str().map_err(|_| Refusal::invalid("If-Match is not readable text"))?;
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        // A weak tag never matches; nobody is given one.
        let unquoted = |tag: &str| Some(tag.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned());
        let tags: Option<Vec<String>> = text.split(',').map(unquoted).collect();
        tags.map(Self::Versions)
            .ok_or_else(|| Refusal::invalid("If-Match is no list of ETags in double quotes, and not *"))
    }

    /// Refuses a change of a document that is another than expected.
    pub(crate) fn check(&self, snapshot: &Snapshot, kind: Kind, name: &str) -> Result<(), Refusal> {
        let Some(current) = current(snapshot, kind, name) else { return Ok(()) };
        match self {
            Self::Any => Ok(()),
            Self::Versions(read) if read.contains(&current) => Ok(()),
            Self::Versions(_) => Err(conflict(kind, name, Some(&current))),
        }
    }

    /// Refuses a change of something that has no versions and another tag than expected.
    pub(crate) fn check_tag(&self, what: &str, current: &str) -> Result<(), Refusal> {
        match self {
            Self::Any => Ok(()),
            Self::Versions(read) if read.iter().any(|tag| tag == current) => Ok(()),
            Self::Versions(_) => {
                let detail =
                    format!("{what} was changed since you read it and has the ETag {current} now: read it again");
                let part = ProblemPart::new(what, format!("the newest is {current}"));
                Err(Refusal::new(RefusalKind::VersionConflict, detail).with_parts(vec![part]).with_current(current))
            }
        }
    }

    /// The same for a node or an edge. Who does not exist is for others to say.
    pub(crate) fn check_agent(&self, snapshot: &Snapshot, id: &AgentId) -> Result<(), Refusal> {
        snapshot.agents.get(id).map_or(Ok(()), |agent| self.check_tag(&id.to_string(), &agent_tag(agent)))
    }
}

/// What ETags call a value that has no versions: the beginning of its digest.
pub(crate) fn value_tag(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("what is stored has string keys only");
    sha256_hex(&text)[..DIGEST_DIGITS].to_owned()
}

/// The same of a node or an edge: who it is, by its key, and what people have said about it. What it reports is none of that.
pub(crate) fn agent_tag(agent: &AgentRecord) -> String {
    let node = agent.node().map(|node| node.draining);
    let edge = agent.edge().map(|edge| (edge.draining, &edge.maintenance, edge.weight, edge.is_leaving));
    value_tag(&json!([agent.public_key, agent.bound_labels, node, edge]))
}

/// How documents and ETags name a version: its number, and the beginning of its digest.
pub(crate) fn resource_version(version: &VersionRecord) -> String {
    format!("{}-{}", version.version, &version.digest[..version.digest.len().min(DIGEST_DIGITS)])
}

/// The version in force of a document that is not deleted.
pub(crate) fn current(snapshot: &Snapshot, kind: Kind, name: &str) -> Option<String> {
    let record = snapshot.document(kind, name)?;
    snapshot.version(kind, name, record.latest).map(|version| resource_version(version))
}

/// A document as people get it: the newest says which version it is, so that it can be changed and applied again.
pub(crate) fn shown(snapshot: &Snapshot, version: &VersionRecord) -> Value {
    let mut document = version.document.clone();
    let own = resource_version(version);
    if current(snapshot, version.kind, &version.name).as_ref() == Some(&own)
        && let Some(metadata) = document["metadata"].as_object_mut()
    {
        metadata.insert(RESOURCE_VERSION.to_owned(), own.into());
    }
    document
}

/// Refuses a document that would replace what its author has not seen. One that changes nothing may.
pub(crate) fn check_applied(snapshot: &Snapshot, document: &Document) -> Result<(), Refusal> {
    let (kind, name) = (document.kind(), document.name());
    let current = current(snapshot, kind, name);
    match (document.resource_version(), &current) {
        (None, None) => Ok(()),
        (Some(read), Some(current)) if read == current => Ok(()),
        // Nothing is overwritten, and a call whose answer was lost may come again.
        (_, Some(_)) if is_unchanged(snapshot, document) => Ok(()),
        (None, Some(current)) => {
            let detail = format!(
                "{kind} {name} exists at version {current}: send metadata.{RESOURCE_VERSION} as you read it, or forceConflicts"
            );
            Err(about(Refusal::new(RefusalKind::VersionMissing, detail), kind, name, Some(current)))
        }
        (Some(_), current) => Err(conflict(kind, name, current.as_deref())),
    }
}

fn is_unchanged(snapshot: &Snapshot, document: &Document) -> bool {
    let (kind, name) = (document.kind(), document.name());
    let stored = snapshot.document(kind, name).and_then(|record| snapshot.version(kind, name, record.latest));
    stored.is_some_and(|version| version.digest == document.digest())
}

fn conflict(kind: Kind, name: &str, current: Option<&str>) -> Refusal {
    let detail = match current {
        Some(current) => {
            format!("{kind} {name} was changed since you read it and is at version {current} now: read it again")
        }
        None => format!(
            "{kind} {name} was deleted since you read it: leave metadata.{RESOURCE_VERSION} out to make it anew"
        ),
    };
    about(Refusal::new(RefusalKind::VersionConflict, detail), kind, name, current)
}

fn about(refusal: Refusal, kind: Kind, name: &str, current: Option<&str>) -> Refusal {
    let told = current.map_or_else(|| "there is none".to_owned(), |current| format!("the newest is {current}"));
    let part = ProblemPart::new(format!("{kind} {name}: metadata.{RESOURCE_VERSION}"), told);
    let refusal = refusal.with_parts(vec![part]);
    match current {
        Some(current) => refusal.with_current(current),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_read_as_http_says() {
        let versions = |tags: &[&str]| Ok(Expected::Versions(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        let cases = [
            ("*", Ok(Expected::Any)),
            ("\"3-ab\"", versions(&["3-ab"])),
            ("\"3-ab\" , \"4-cd\"", versions(&["3-ab", "4-cd"])),
            ("3-ab", Err(())),
            ("W/\"3-ab\"", Err(())),
            ("", Err(())),
        ];
        for (text, expected) in cases {
            let headers = [(header::IF_MATCH, text.parse().unwrap())].into_iter().collect();
            assert_eq!(Expected::of(&headers).map_err(|_| ()), expected, "{text}");
        }
        assert!(Expected::of(&HeaderMap::new()).is_err());
    }
}
