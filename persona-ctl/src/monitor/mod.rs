//! What the programs tell, for people: records read from the ring, filtered, described, written to files.

mod classic;
mod describe;
mod filter;
mod flow;
mod pcapng;
mod record;

pub use describe::{Summary, summary_of};
pub use filter::{Filter, FilterError};
pub use flow::{FlowView, OpenFlows};
pub use pcapng::PcapngFile;
pub use record::{FrameRecord, Moment, Record};
