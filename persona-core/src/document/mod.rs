//! Documents: what people write and the manager stores, in YAML, JSON or TOML.
//!
//! `persona`, `binding` and `pool` are the kinds; `parse` reads text into them and finds the line of what is wrong;
//! `check` refuses contradictions, impossible values, and what this release would store but not do although it must.

mod binding;
#[cfg(test)]
mod cases;
mod check;
mod check_impair;
mod check_persona;
mod check_qos;
mod diff;
mod envelope;
mod network;
mod parse;
mod persona;
mod place;
mod pool;
mod protocol;
mod qos;
mod sections;

pub use binding::{BindingDocument, BindingSpec, FlapBudget, Selector, SelectorKind};
pub use check_persona::PORTS_PER_SUBJECT_MAX;
pub use diff::{Change, diff};
pub use envelope::{API_VERSION, Document, Kind, Metadata, RESOURCE_VERSION, json_schema};
pub(crate) use envelope::{digest_of, sorted};
pub use network::{
    Assign, EdgeChoice, Egress, Family, Filtering, Impair, Location, MTU_DEFAULT, Network, Normalise,
    PORTS_PER_SUBJECT_DEFAULT, PathNeeds, Privacy,
};
pub use parse::{DocumentError, Format, parse_documents};
pub use persona::{PersonaDocument, PersonaSpec, Section};
pub use pool::{BLOCK_SIZE_DEFAULT, PoolDocument, PoolSpec, QUARANTINE_DEFAULT};
pub use protocol::Protocol;
pub use qos::{Dscp, EnforceAt, Qos, QosClass, SharedRates, SharedScope};
pub use sections::{
    ActivationRule, Cpu, Direction, Firewall, FirewallAction, Io, Memory, MonitoringRule, OnUnknown, Resources,
    Security, SoftwarePackage, SysctlValue,
};
