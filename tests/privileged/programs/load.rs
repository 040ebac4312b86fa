//! Loading, pinning, opening again, taking away.

use persona_ctl::dataplane::detach;

use super::namespace::Namespace;
use super::world::{World, is_privileged};

#[test]
fn programs_load_and_are_found_again() {
    if !is_privileged() {
        return;
    }
    let world = World::new();
    let namespace = Namespace::new("load");
    namespace.enter(|| {
        drop(world.node());
        drop(world.node());
        drop(world.edge());
        drop(world.edge());
    });
    let report = detach(&world.bpffs()).unwrap();
    assert!(report.unmounted, "{report:?}");
    assert!(report.maps.iter().any(|map| map == "FLOWS"), "{report:?}");
    assert_eq!(report.links, ["tc-inside-1", "tc-outside-1"]);
    assert_eq!(detach(&world.bpffs()).unwrap(), Default::default(), "nothing is left");
}
