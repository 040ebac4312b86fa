//! The manager in process, spoken to over loopback HTTP, each test with a store of its own.

mod api;
mod leases;
mod support;
