//! Whether a cluster works at all: the one test of whole systems that also runs in emulated guests, where nothing can be
//! said of gaps and rates.

use persona_tests::kernel::Snapshot;
use persona_tests::steps::{detach, egress};
use persona_tests::world::Hook;

use super::{check, start};

#[test]
fn traffic_leaves_under_the_lease_and_detach_leaves_no_trace() {
    check(Hook::Auto, |world, findings| {
        let before = Snapshot::take_settled(&world.namespaces.all()).unwrap();
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("2 egress", |findings| egress::run(world, findings));
        findings.run("8 detach", |findings| detach::run(world, &before, findings));
    });
}
