//! Webhooks, as people and programs ask for them and see them.

use serde::{Deserialize, Serialize};

use crate::webhook::EventPattern;

/// `POST /v1/webhooks`: events shall be sent somewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewWebhook {
    /// Its name: 1 to 63 lower-case letters, digits and `-`.
    pub name: String,
    /// Where events are posted: `https://HOST/PATH`, or plain HTTP.
    pub url: String,
    /// Which events: names such as `edge.down`, families such as `activation.*`, or `*`.
    pub events: Vec<EventPattern>,
}

/// A new webhook, with the secret that its deliveries are signed with. The secret is shown here and never again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebhookSecret {
    /// Its name.
    pub name: String,
    /// The key of `HMAC-SHA256(key, timestamp + "." + body)` in the header `persona-signature`: these characters, as bytes.
    pub secret: String,
}

/// A webhook, and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebhookView {
    /// Its name.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_ms: u64,
    /// The newest event that is done with: delivered, not meant, or a dead letter.
    pub done_event: u64,
    /// Dead letters.
    pub dead_letter_count: u64,
    /// Why the last attempt failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// An event that a receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
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
    /// Whether it is about to be tried again.
    pub is_retried: bool,
}

/// `POST /v1/webhooks/{name}/retry`: dead letters shall be tried again, once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryDeadLetters {
    /// Only that of this event. Absent: all of them.
    #[serde(default)]
    pub event: Option<u64>,
}

/// What becomes of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Retried {
    /// How many are tried again.
    pub count: u64,
}
