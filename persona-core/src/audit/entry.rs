//! An event as it is stored, and the hash over it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AuditSeal, BEGUN_EVENT, EventHash, SEALED_EVENT};

/// What every hash begins with: a hash of something else is never one of an event.
const DOMAIN: &[u8] = b"persona audit event 1\n";

/// An event as it is stored, with its links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Ascending, without gaps in one store incarnation.
    pub number: u64,
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// A dotted name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Who did it.
    pub actor: String,
    /// A sentence for people.
    pub message: String,
    /// Before and after, as the JSON text that was stored: the hash is over these bytes.
    pub details: String,
    /// The hash of the event before. Absent: it was written before the chain began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<EventHash>,
    /// The hash of this event. Absent: it was written before the chain began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<EventHash>,
}

/// The details of [`BEGUN_EVENT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// A random name of the process that writes from here on.
    pub process: String,
    /// Its release.
    pub release: String,
    /// Events just before that carry no hash: written by a release that knew no chain.
    pub unchained: u64,
}

impl AuditEntry {
    /// The hash that it has after an event with hash `previous`, whatever is stored with it.
    pub fn hash_after(&self, previous: EventHash) -> EventHash {
        self.hash_at(self.number, previous)
    }

    /// The hash that it would have under another number.
    pub fn hash_at(&self, number: u64, previous: EventHash) -> EventHash {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(previous.0);
        hash.update(number.to_be_bytes());
        hash.update(self.time_ms.to_be_bytes());
        // Each text with its length: no part of one can pass for a part of the next.
        for text in [&self.name, &self.about, &self.actor, &self.message, &self.details] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        EventHash(hash.finalize().into())
    }

    /// Links it to the event before.
    pub fn link(&mut self, previous: EventHash) -> EventHash {
        let hash = self.hash_after(previous);
        (self.previous, self.hash) = (Some(previous), Some(hash));
        hash
    }

    /// The process that begins to write, if this is where one does.
    pub fn begun(&self) -> Option<Begun> {
        (self.name == BEGUN_EVENT).then(|| serde_json::from_str(&self.details).ok())?
    }

    /// The seal, if it is one that can be read.
    pub fn seal(&self) -> Option<AuditSeal> {
        (self.name == SEALED_EVENT).then(|| serde_json::from_str(&self.details).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_field_and_on_where_one_ends() {
        let entry = AuditEntry {
            number: 1,
            time_ms: 2,
            name: "a".into(),
            about: "b".into(),
            actor: "c".into(),
            message: "d".into(),
            details: "{}".into(),
            previous: None,
            hash: None,
        };
        let others = [
            AuditEntry { number: 2, ..entry.clone() },
            AuditEntry { time_ms: 3, ..entry.clone() },
            AuditEntry { name: "ab".into(), about: String::new(), ..entry.clone() },
            AuditEntry { about: "bc".into(), actor: String::new(), ..entry.clone() },
            AuditEntry { actor: "x".into(), ..entry.clone() },
            AuditEntry { message: "x".into(), ..entry.clone() },
            AuditEntry { details: "{ }".into(), ..entry.clone() },
        ];
        let hashes: std::collections::BTreeSet<_> = others
            .iter()
            .chain([&entry])
            .map(|it| it.hash_after(EventHash::GENESIS))
            .chain([entry.hash_after(EventHash([1; 32]))])
            .collect();
        assert_eq!(hashes.len(), others.len() + 2);
        // Stored chains must verify in every later release.
        let known = "ec2e999e63aa28f9a90ad6cac71c1a233e54731f0ce9c899eac3270e04e4c03f";
        assert_eq!(entry.hash_after(EventHash::GENESIS).to_string(), known);
    }
}
