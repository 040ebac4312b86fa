//! The kernel's view of links, addresses, routes, neighbours and queues, over rtnetlink.
//!
//! A [`Netlink`] belongs to the network namespace of the thread that opened it. Nothing here runs `ip` or `tc`, and
//! nothing reads /sys/class/net, which may belong to another namespace.

mod address;
mod announced;
pub mod fair_leaf;
mod fair_queue;
mod given_socket;
pub mod htb;
mod label;
mod link;
mod namespace;
mod neighbour;
pub mod netem;
mod our_route;
mod qdisc;
mod queue_drops;
mod route;
mod size_table;
mod tc_options;
mod watch;

pub use address::{LinkAddress, OUR_PROTOCOL, network_of};
pub use announced::{ANNOUNCED_PROTOCOL, AnnouncedRoute};
pub use fair_queue::FlowsOf;
pub use label::AddressLabel;
pub use link::{Link, Peer};
pub use namespace::run_inside;
pub use neighbour::Neighbours;
pub use our_route::OurRoute;
pub use qdisc::{HANDLE_MAJOR, Shaper};
pub use queue_drops::DropReader;
pub use route::Path;
pub use size_table::Sizes;
pub use watch::{Notices, watch};

/// A request that the kernel refused, or that did not reach it.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket cannot be opened.
    #[error("rtnetlink socket cannot be opened")]
    Open(#[source] std::io::Error),
    /// The kernel refused.
    #[error("rtnetlink: {what} failed")]
    Request {
        /// What was asked.
        what: String,
        /// Why it failed.
        #[source]
        source: rtnetlink::Error,
    },
    /// A root queue that somebody else put there.
    #[error(
        "device with index {ifindex} already has a root {kind} queue with handle {major:x}: that is not ours; remove it or give the persona no rate"
    )]
    ForeignQdisc {
        /// On which device.
        ifindex: u32,
        /// Its kind.
        kind: String,
        /// Its handle.
        major: u16,
    },
    /// A queue that repeats packets beside another one that delays or repeats.
    #[error(
        "this kernel takes no queue that repeats packets (netem) beside another on the device with index {ifindex}, as some do since 2025: leave duplicate out of spec.network.impair, let only one subject of the node be delayed, or boot a newer kernel"
    )]
    MixedNetem {
        /// On which device.
        ifindex: u32,
    },
    /// The kernel took a queue but shows another.
    #[error("queues on the device with index {ifindex} read back differently from what was set: {shown}")]
    ReadBack {
        /// On which device.
        ifindex: u32,
        /// What the kernel shows.
        shown: String,
    },
}

/// A connection to the kernel of this network namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens a connection; a task of the current runtime serves it as long as the value or a clone lives.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

/// An error of the request described by `what`.
fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let what = what.into();
    move |source| NetlinkError::Request { what, source }
}
