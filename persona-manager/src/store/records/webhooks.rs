//! Where events are sent, and what did not get there.

use persona_core::webhook::EventPattern;
use serde::{Deserialize, Serialize};

use super::roots::SealedKey;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebhookRecord {
    /// Its name.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// What deliveries are signed with, sealed.
    pub secret: SealedKey,
    /// When it was made.
    pub created_ms: u64,
    /// Who made it.
    pub created_by: String,
    /// The newest event that is done with: delivered, not meant, or a dead letter.
    pub done: u64,
}

/// An event that a receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetterRecord {
    /// Of which webhook.
    pub webhook: String,
    /// The event's number.
    pub event: u64,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// When it happened.
    pub time_ms: u64,
    /// When it was given up.
    pub failed_ms: u64,
    /// How often it was tried.
    pub attempt_count: u32,
    /// Why it was not taken.
    pub reason: String,
    /// Whether it is to be tried again.
    pub is_retried: bool,
}
