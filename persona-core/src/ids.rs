//! Names and numbers that identify things.
//!
//! A value of these types is valid by construction; parse at the border and pass the type on.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Longest name, as in a DNS label (RFC 1035 §2.3.4).
pub const NAME_LENGTH_MAX: usize = 63;

/// A name that is not valid, with what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {given:?} is not valid: use 1 to {NAME_LENGTH_MAX} of a-z, 0-9, '-' and '.', starting and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What kind of name was meant.
    pub what: &'static str,
    /// What was given.
    pub given: String,
}

fn is_valid_name(name: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=NAME_LENGTH_MAX).contains(&bytes.len())
        && bytes.first().is_some_and(is_edge)
        && bytes.last().is_some_and(is_edge)
        && bytes.iter().all(|byte| is_edge(byte) || matches!(byte, b'-' | b'.'))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Clones share the text.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, schemars::JsonSchema)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(try_from = "String")]
        #[schemars(with = "String")]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(given: String) -> Result<Self, InvalidName> {
                if is_valid_name(&given) { Ok(Self(given.into())) } else { Err(InvalidName { what: $what, given }) }
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                // Most that are the same are clones.
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// A node: a host that runs the agent.
    NodeName, "node name");
name_type!(
    /// An edge: a device that owns egress addresses.
    EdgeName, "edge name");
name_type!(
    /// A group of edges that can carry the same egress addresses.
    GroupName, "edge group name");
name_type!(
    /// A workload, unique on its node.
    WorkloadName, "workload name");
name_type!(
    /// A persona document's name.
    PersonaName, "persona name");
name_type!(
    /// A binding document's name.
    BindingName, "binding name");
name_type!(
    /// An egress pool's name.
    PoolName, "egress pool name");
name_type!(
    /// A rollout: a change for many subjects, made in waves.
    RolloutName, "rollout name");
name_type!(
    /// A schedule of activations, unique for its subject.
    ScheduleName, "schedule name");
name_type!(
    /// Something a persona or an edge offers and a node may ask for, such as `low-latency`.
    Capability, "capability");

/// Whatever wears a persona. Written `node/NAME` or `workload/NODE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum SubjectId {
    /// The host's own processes.
    Node(NodeName),
    /// A VM or container on a node.
    Workload(NodeName, WorkloadName),
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for SubjectId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for SubjectId {}

impl Serialize for SubjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl SubjectId {
    /// Comes before every workload of a node, and is none itself.
    pub fn before_workloads(node: &NodeName) -> Self {
        Self::Workload(node.clone(), WorkloadName(Arc::from("")))
    }

    /// The node that the subject lives on.
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Node(node) | Self::Workload(node, _) => node,
        }
    }
}

impl fmt::Display for SubjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => formatter.pad(&format!("node/{node}")),
            Self::Workload(node, workload) => formatter.pad(&format!("workload/{node}/{workload}")),
        }
    }
}

/// A subject that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// The shape is wrong.
    #[error("subject {0:?} is not valid: write node/NAME or workload/NODE/NAME")]
    Shape(String),
    /// One of its names is wrong.
    #[error("subject {given:?} is not valid")]
    Name {
        /// What was given.
        given: String,
        /// The name that is wrong.
        source: InvalidName,
    },
}

impl FromStr for SubjectId {
    type Err = InvalidSubject;
    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let in_subject = |source| InvalidSubject::Name { given: text.to_owned(), source };
        match text.split('/').collect::<Vec<_>>()[..] {
            ["node", node] => Ok(Self::Node(node.parse().map_err(in_subject)?)),
            ["workload", node, workload] => {
                Ok(Self::Workload(node.parse().map_err(in_subject)?, workload.parse().map_err(in_subject)?))
            }
            _ => Err(InvalidSubject::Shape(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SubjectId {
    type Error = InvalidSubject;
    fn try_from(text: String) -> Result<Self, InvalidSubject> {
        text.parse()
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", schema(value_type = u64))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    };
}

number_type!(
    /// A persona's unique id: the Geneve VNI of its packets (RFC 8926 §3.4). 1 to 2^24 - 1; given by the manager, never reused.
    Vni(u32));
number_type!(
    /// A lease's id, never reused.
    LeaseId(u64));
number_type!(
    /// A subject's number in the data plane, given by the manager, never reused.
    SubjectNumber(u32));
number_type!(
    /// An edge's number in the data plane, given by the manager; 1 to 65,535.
    EdgeNumber(u16));

/// Bits of a [`Generation`] that count within one store incarnation.
const GENERATION_NUMBER_BITS: u32 = 40;

/// The version of published state: a store incarnation and a number within it, ordered in that order.
///
/// Carried as one integer so that the data plane compares it in one instruction: the incarnation in the upper 24 bits,
/// the number in the lower 40. Zero means "none yet".
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", schema(value_type = u64))]
pub struct Generation(pub u64);

impl Generation {
    /// The generation `number` of store incarnation `incarnation`.
    pub fn new(incarnation: u32, number: u64) -> Self {
        debug_assert!(number < 1 << GENERATION_NUMBER_BITS);
        Self((u64::from(incarnation) << GENERATION_NUMBER_BITS) | number)
    }

    /// The store incarnation.
    pub fn incarnation(self) -> u32 {
        (self.0 >> GENERATION_NUMBER_BITS) as u32
    }

    /// The number within the incarnation.
    pub fn number(self) -> u64 {
        self.0 & ((1 << GENERATION_NUMBER_BITS) - 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}.{}", self.incarnation(), self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "n1", "eu-low-latency", "v1.2", &"x".repeat(63)] {
            assert!(good.parse::<PersonaName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<PersonaName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn subjects_round_trip() {
        for text in ["node/n1", "workload/n1/web"] {
            assert_eq!(text.parse::<SubjectId>().unwrap().to_string(), text);
        }
        for bad in ["", "n1", "node/", "workload/n1", "pod/a/b", "workload/a/b/c"] {
            assert!(bad.parse::<SubjectId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn generations_order_by_incarnation_first() {
        assert!(Generation::new(2, 1) > Generation::new(1, 1_000_000));
        assert_eq!(Generation::new(3, 7).to_string(), "3.7");
    }
}
