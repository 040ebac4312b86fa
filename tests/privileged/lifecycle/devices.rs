//! What happens to devices under our programs: they vanish, change their name, their size, their namespace.

use aya::programs::TcAttachType;
use persona_ctl::dataplane::{EdgeDataplane, Hook};

use super::place::{INSIDE, OUTSIDE, Place, programs_of};
use crate::programs::world::is_privileged;

fn reap(place: &Place, edge: &mut EdgeDataplane) -> Vec<String> {
    place.host.run_inside(|| edge.reap_vanished().unwrap()).unwrap()
}

#[test]
fn the_pin_of_a_device_that_vanished_is_reaped() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    for hook in [Hook::Tc, Hook::Xdp] {
        let name = if hook == Hook::Tc { "tc" } else { "xdp" };
        let mut edge = place.open(hook);
        assert_eq!(reap(&place, &mut edge), Vec::<String>::new(), "all devices are there");
        let index = place.ifindex(INSIDE);
        place.host.ip(&format!("link del {INSIDE}")).unwrap();
        assert_eq!(reap(&place, &mut edge), [format!("{name}-inside-{index}")]);
        assert_eq!(place.pins(), [format!("{name}-outside-{}", place.ifindex(OUTSIDE))]);
        place.host.link(INSIDE, &place.other, "in1").unwrap();
        drop(place.open(hook));
        assert_eq!(place.pins().len(), 2, "its successor has its program");
    }
}

#[test]
fn a_renamed_device_keeps_its_program() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    let mut edge = place.open(Hook::Tc);
    let before = place.only_programs();
    place.host.ip(&format!("link set dev {INSIDE} down")).unwrap();
    place.host.ip(&format!("link set dev {INSIDE} name spare")).unwrap();
    place.host.ip("link set dev spare up").unwrap();
    assert_eq!(place.programs("spare", TcAttachType::Ingress), [before[0]]);
    assert_eq!(reap(&place, &mut edge), Vec::<String>::new());
    let options = persona_ctl::dataplane::EdgeOptions { inside: place.ifindex("spare"), ..place_options(&place) };
    drop(place.host.run_inside(|| EdgeDataplane::open(&options).unwrap()).unwrap());
    let after = place.programs("spare", TcAttachType::Ingress);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after[0], before[0], "it was replaced under the new name");
}

/// The options for the renamed device: only its other half is asked for by name.
fn place_options(place: &Place) -> persona_ctl::dataplane::EdgeOptions {
    let outside = place.ifindex(OUTSIDE);
    persona_ctl::dataplane::EdgeOptions {
        bpffs: place.bpffs(),
        inside: 0,
        outside,
        hook: Hook::Tc,
        coexist: persona_ctl::dataplane::Coexistence::default(),
        logging: persona_ctl::dataplane::PacketLogging::Off,
    }
}

#[test]
fn a_device_that_left_for_another_namespace_is_reaped_there() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    for hook in [Hook::Tc, Hook::Xdp] {
        let mut edge = place.open(hook);
        let index = place.ifindex(INSIDE);
        let name = format!("{}-inside-{index}", if hook == Hook::Tc { "tc" } else { "xdp" });
        place.host.ip(&format!("link set {INSIDE} netns {}", place.other.name)).unwrap();
        assert_eq!(reap(&place, &mut edge), [name]);
        let left = programs_of(&place.other, INSIDE, TcAttachType::Ingress);
        assert_eq!(left, Vec::<u32>::new(), "nothing of ours is in the other namespace");
        let shown = place.other.ip(&format!("-d link show dev {INSIDE}")).unwrap();
        assert!(!shown.contains("prog/xdp"), "{shown}");
        place.other.ip(&format!("link set {INSIDE} netns {}", place.host.name)).unwrap();
        place.host.ip(&format!("link set {INSIDE} up")).unwrap();
        drop(place.open(hook));
        assert_eq!(place.pins().len(), 2, "back again, it has its program");
    }
}

#[test]
fn a_change_of_mtu_leaves_programs_where_they_are() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    let mut edge = place.open(Hook::Tc);
    let before = place.only_programs();
    for mtu in ["9000", "1300", "1500"] {
        place.host.ip(&format!("link set {INSIDE} mtu {mtu}")).unwrap();
        assert_eq!(place.only_programs(), before, "at an MTU of {mtu}");
    }
    assert_eq!(reap(&place, &mut edge), Vec::<String>::new());
    let mut edge = place.open(Hook::Xdp);
    let before = place.xdp_program(INSIDE);
    place.host.ip(&format!("link set {INSIDE} mtu 1300")).unwrap();
    // The peer of a veth with XDP refuses what doesn't fit a page, and all stays as it is.
    assert!(place.other.ip("link set in1 mtu 60000").is_err());
    assert_eq!(place.xdp_program(INSIDE), before);
    assert_eq!(reap(&place, &mut edge), Vec::<String>::new());
}
