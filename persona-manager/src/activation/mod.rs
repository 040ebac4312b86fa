//! Signals come in, criteria are judged, and what they come to is handed to the pass.
//!
//! ```text
//!   reports: samples ──► board of each subject ──► fleet of all under one list ──► pass: record, event, assignment
//!   store: pushed values ──┤                              └──► story: explain, status
//!                          └──► watch of who wears a monitoring section ──► pass: alerts raised and cleared
//! ```
//! All of it is in the memory of the manager that leads. What is worn, why, and which rules are in is kept with the
//! subject in the store, so that whoever leads next goes on from there; how long something held already starts anew.

mod activations;
mod judged;
mod list;
mod samples;
mod sight;
mod view;
mod watched;
mod watches;

pub(crate) use activations::{Activations, Turn};
pub(crate) use watches::{AlertNews, AlertTurn};
