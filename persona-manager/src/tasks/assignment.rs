//! The assignment pass: health, who wears what, leases, desired states, in this order, on one draft.
//!
//! It takes no hint about what changed, may run twice, and writes only what differs.

use std::sync::Arc;

use persona_core::wire::desired::ProbeItem;

use super::{desired, health};
use crate::config::Config;
use crate::live::Live;
use crate::store::{Draft, Pass};

/// The pass that runs after every batch of changes.
pub fn pass(config: Arc<Config>, live: Arc<Live>) -> Pass {
    Box::new(move |draft: &mut Draft| {
        let reports = health::Reports::of(&live, config.silent_after_ms);
        health::judge(draft, &reports);
        let probe = ProbeItem { interval_ms: config.probe_interval_ms, multiplier: config.probe_multiplier };
        desired::publish(draft, probe);
    })
}
