//! Who comes, and what they may do: a caller is found out once per request, and one table says who may use which route.

mod caller;
mod current;
mod gate;
mod limits;
mod peer;
mod table;

pub(crate) use caller::{Caller, access_token};
pub(crate) use current::{Acting, MANAGER, current};
pub(crate) use gate::gate;
pub(crate) use limits::{Limits, site_of};
pub(crate) use peer::{Origin, Peer, Shown};
#[cfg(test)]
pub(crate) use table::ROUTES;
pub(crate) use table::{Who, who_may};
