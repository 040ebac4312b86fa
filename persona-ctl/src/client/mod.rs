//! A typed client of the manager's API for people and programs.
//!
//! `endpoints` has one method per row of the table in [`persona_core::wire::api`], `http` what they share, `error` what
//! can go wrong. What the manager refuses comes back as its problem (RFC 9457), whole.

mod contexts;
mod endpoints;
mod error;
mod http;
mod versions;

pub use contexts::{Context, ContextError, Contexts};
pub use error::ClientError;
pub use http::{Access, ApiClient, MANAGER_DEFAULT};
pub use versions::{Applying, AsRead};
