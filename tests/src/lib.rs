//! Whole-system tests: namespaces, real processes, real packets.
//!
//! A [`world::World`] is a small internet in network namespaces in which the real binary plays every role. The
//! [`steps`] act in it and note what they expected and measured in [`findings::Findings`]; the demo and the privileged
//! tests run the same steps. Whatever is made is written into a [`ledger::Ledger`] first, so that it is undone however
//! a run ends.

pub mod bench;
pub mod cgroups;
pub mod ctl;
pub mod findings;
pub mod hosts;
pub mod instances;
pub mod interruption;
pub mod kernel;
pub mod ledger;
pub mod load;
pub mod model;
pub mod netns;
pub mod peers;
pub mod process;
pub mod steps;
pub mod sys;
pub mod world;
