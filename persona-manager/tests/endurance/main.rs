//! Managers and databases that die under load. Apart from the other tests, which the load would slow down.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its support module")]

mod beside;
mod fleet;
mod full;
mod kill;
mod passed_on;
mod postgres_server;
mod promotion;
mod rotated;
mod sealed;
#[path = "../manager/support.rs"]
#[expect(dead_code, reason = "the tests of `manager` use the rest")]
mod support;
