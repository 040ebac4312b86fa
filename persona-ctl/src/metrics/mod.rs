//! Metrics of a role in the Prometheus text format, served over HTTP on an address of the operator's choice.

mod report;
mod server;
mod text;

pub use report::of_report;
pub use server::serve;
pub use text::{EdgeSample, LeaseSample, Snapshot, SubjectSample, render};
