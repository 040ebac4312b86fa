//! Metrics of a role in the Prometheus text format, served over HTTP on an address of the operator's choice.

mod family;
mod gateway;
mod own_edge;
mod report;
mod server;
mod snapshot;
mod standing;
mod text;

pub use report::of_report;
pub use server::{serve, start};
pub use snapshot::{EdgeSample, InstanceSample, LeaseSample, LinkSample, OwnEdgeSample, Snapshot, SubjectSample};
pub use text::render;
