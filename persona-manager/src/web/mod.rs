//! The page: who is at it, what it is made of, and what browsers are told to keep to.
//!
//! ```text
//!  persona-ctl ui ──▶ a link, good once ──▶ browser ──▶ a session in a cookie ──▶ the same API as everybody's
//! ```
//! The page has no way of its own to anything: it asks what its session's role may ask under `/v1`.

mod files;
mod headers;
mod sessions;

pub(crate) use files::{File, PAGE_POLICY, find};
pub(crate) use headers::harden;
pub(crate) use sessions::{COOKIE, Presented, begin, cookie_in, end, is_good, make_link, owner_of, session_of};
