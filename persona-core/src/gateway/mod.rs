//! What a gateway decides: whether an instance is well, and which instance a row of a service's table names.
//!
//! Pure: outcomes of checks and the time come from the caller.

pub mod health;
pub mod rows;
