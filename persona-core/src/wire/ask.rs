//! What applications ask of their node's agent, and what the agent passes on to the manager for them.
//!
//! On the agent's socket a line of JSON is a question and a line of JSON the answer. Who asks is found out by the agent: a
//! question names no subject.

use serde::{Deserialize, Serialize};

use crate::content::ContentSource;
use crate::ids::{Capability, SubjectId};
use crate::units::Span;
use crate::wire::api::{AssignmentView, ProblemPart};

/// The longest line, bytes.
pub const LINE_LENGTH_MAX: usize = 4_096;

/// An application may ask for this long at most: a day, milliseconds.
pub const ASK_MS_MAX: u64 = 86_400_000;

/// One question of an application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Ask {
    /// A persona with these capabilities, for a while.
    Request {
        /// What it must have.
        capabilities: Vec<Capability>,
        /// For how long, such as `90m`; a day at most.
        #[serde(rename = "for")]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        duration: Span,
        /// The source of content that the edge should be close to: a place, a prefix or a name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        content: Option<ContentSource>,
    },
    /// What was asked for is needed no more.
    Release,
    /// What is worn.
    Show,
}

/// `POST /v1/agent/ask`: a question that a node passes on for a subject of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentAsk {
    /// Whose.
    pub subject: SubjectId,
    /// Which process asked, for people, as the node says.
    pub by: String,
    /// What.
    pub ask: Ask,
}

/// The answer on the agent's socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// What the asking application's subject wears now.
    Assignment(AssignmentView),
    /// Why it was not done.
    Refused(Refused),
}

/// Why something was not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// For people: what is wrong, and what would be valid.
    pub detail: String,
    /// Such as each persona that was considered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemPart>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_lines_that_people_can_write() {
        for (line, is_valid) in [
            (r#"{"do":"request","capabilities":["low-latency"],"for":"90m"}"#, true),
            (r#"{"do":"request","capabilities":["x"],"for":"90m","content":{"name":"cdn.example.com"}}"#, true),
            (r#"{"do":"request","capabilities":["x"],"for":"90m","content":{"name":"a_b"}}"#, false),
            (r#"{"do":"release"}"#, true),
            (r#"{"do":"show"}"#, true),
            (r#"{"do":"request","capabilities":["low-latency"]}"#, false),
            (r#"{"do":"request","capabilities":["low-latency"],"for":"90m","subject":"node/n1"}"#, false),
            (r#"{"do":"switch"}"#, false),
        ] {
            let read = serde_json::from_str::<Ask>(line);
            assert_eq!(read.is_ok(), is_valid, "{line}: {read:?}");
            if let Ok(ask) = read {
                assert_eq!(serde_json::to_string(&ask).unwrap(), line);
            }
        }
    }
}
