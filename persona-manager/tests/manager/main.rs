//! The manager in process, spoken to over loopback HTTP, each test with a store of its own.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its support module")]

mod access;
mod activation;
mod alerts;
mod api;
mod asks;
mod audit;
mod conditions;
mod cuts;
mod disk;
mod encrypted;
mod families;
mod firewall;
mod identity;
mod leases;
mod metrics;
mod once;
mod page;
mod page_fleet;
mod plan;
mod reach;
mod recovery;
mod removal;
mod revocation;
mod rollouts;
mod room;
mod rotation;
mod shares;
mod software;
mod support;
mod versions;
mod web;
mod webhooks;
