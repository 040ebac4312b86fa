//! Flow export: every flow that opens or closes, with its addresses before and after, as IPFIX (RFC 7011) in the shape
//! that RFC 8158 gives NAT events, to a collector over UDP.

mod exporter;
mod message;

pub use exporter::{ExportError, Exporter};
pub use message::{FlowEvent, Happening};
