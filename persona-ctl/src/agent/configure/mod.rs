//! `egress.assign: configure`: leased addresses on the workload's own interface, with default routes and MTU.
//!
//! ```text
//!   workload's namespace                               host
//!   eth0  203.0.113.9/32   (the lease in force)        veth  203.0.113.9/32 dev veth   (so that bypassed replies come back)
//!         203.0.113.4/32   deprecated, until drained         203.0.113.4/32 dev veth
//!         0.0.0.0/1, 128.0.0.0/1 via 169.254.1.1 src 203.0.113.9 mtu 1400
//!         169.254.1.1 lladdr <veth's own address> permanent
//! ```
//!
//! A guest's inside cannot be entered: with `serve` its addresses are offered on its device (`serve`: router advertisements
//! by `announce`, DHCP by `answerer` and `dhcp`).
//!
//! An IPv6 lease gives the first address of its prefix, `PREFIX::1`, which is the same for as long as the lease lives.
//! Everything put carries [`OUR_PROTOCOL`](crate::netlink::OUR_PROTOCOL); nothing else is touched, so that taking ours
//! away puts back what was there. Looked at again with every pass: drift is mended.
//!
//! No socket or descriptor inside a foreign namespace is kept between passes: it would keep the namespace alive after
//! its container has gone.

mod announce;
mod answerer;
mod dhcp;
mod inside;
mod look;
mod plan;
mod serve;

pub(super) use inside::set_host_labels;
pub use inside::withdraw_everything;
pub use inside::{Configurer, Trouble};
pub use plan::{ConfiguredLease, ConfiguredWorkload, Reach};
