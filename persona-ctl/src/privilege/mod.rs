//! What an agent needs more for than the Linux capabilities of its unit: a fixed list of verbs, done here or by a helper.
//!
//! ```text
//!   agent (its own user) ── verb, arguments ──► persona-ctl helper (root, does nothing else)
//!                        ◄── answer, descriptor ──
//! ```
//! An agent that runs as root does the verbs itself, by the same code ([why](../../../docs/decisions/0021-a-helper-does-what-is-roots.md)).
//! The helper believes nothing: paths must be those of the agent's configuration, which is root's file, or lie where the
//! kernel shows control groups and namespaces. What it opens it hands over as a descriptor only where that gives nothing else.

mod asking;
mod bounds;
mod frame;
mod knob;
mod namespace;
mod perform;
mod serve;
mod verb;

pub(crate) use asking::{
    allow_ipv6, connect_guest, connect_monitor, describe_program, detach_link, detach_program, first_process,
    inspect_container, keep_address_policy, namespace_behind, net_parameter, open_namespace, open_root,
    read_join_token, set_unit_limit, socket_inside, use_helper, write_knob,
};
pub use bounds::Bounds;
pub use serve::serve;
pub(crate) use verb::SocketKind;
