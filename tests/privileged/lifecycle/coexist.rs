//! Other people's programs at our hooks: refused, chained or replaced, as was asked for, and named.

use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType};
use persona_ctl::dataplane::{Coexistence, Hook, KernelFeatures};

use super::foreign::{self, NAME};
use super::place::{INSIDE, Place, chain};
use crate::programs::world::is_privileged;

/// `TC_ACT_OK`, which ends a chain, and `XDP_PASS`.
const TC_OK: i32 = 0;
const XDP_PASS: i32 = 2;

/// How somebody else's program is attached at TC ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// A filter, made with `tc`.
    Filter,
    /// A TCX link that a process holds.
    Link,
}

/// Somebody else's program on the inside device; gone with the value where a process holds it.
struct Foreign {
    id: u32,
    _held: Option<SchedClassifier>,
}

fn attach(place: &Place, how: How) -> Foreign {
    mount(place);
    foreign::pin_program(foreign::TC, TC_OK, &place.foreign_pin());
    let mut held = None;
    match how {
        How::Filter => {
            place.tc(&format!("qdisc replace dev {INSIDE} clsact"));
            let pin = place.foreign_pin();
            place.tc(&format!("filter add dev {INSIDE} ingress prio 5 bpf da object-pinned {}", pin.display()));
        }
        How::Link => {
            let mut program = SchedClassifier::from_pin(place.foreign_pin()).unwrap();
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let attach = || program.attach_with_options(INSIDE, TcAttachType::Ingress, options).map(drop);
            place.host.run_inside(attach).unwrap().unwrap();
            held = Some(program);
        }
    }
    let programs = place.programs(INSIDE, TcAttachType::Ingress);
    assert_eq!(programs.len(), 1, "{how:?}: {programs:?}");
    Foreign { id: programs[0], _held: held }
}

/// A bpffs that is there before anything of ours is.
fn mount(place: &Place) {
    std::fs::create_dir_all(place.bpffs()).unwrap();
    persona_tests::netns::run("mount", &["-t", "bpf", "bpf", &place.bpffs().display().to_string()]).unwrap();
}

fn unmount(place: &Place) {
    std::fs::remove_file(place.foreign_pin()).unwrap();
    persona_tests::netns::run("umount", &[&place.bpffs().display().to_string()]).unwrap();
}

/// What this kernel has.
fn ways() -> Vec<How> {
    if KernelFeatures::has_tcx() { vec![How::Filter, How::Link] } else { vec![How::Filter] }
}

#[test]
fn refuse_attaches_nothing_and_names_who_is_there() {
    if !is_privileged() {
        return;
    }
    for how in ways() {
        let place = Place::new();
        let foreign = attach(&place, how);
        let error = chain(&place.try_open(Hook::Tc, Coexistence::Refuse).map(drop).unwrap_err());
        let expected = [NAME, &foreign.id.to_string(), INSIDE, "--coexist chain", "--coexist replace"];
        assert!(expected.iter().all(|text| error.contains(text)), "{how:?}: {error}");
        assert_eq!(place.programs(INSIDE, TcAttachType::Ingress), [foreign.id], "{how:?}");
        persona_ctl::dataplane::detach(&place.bpffs()).unwrap();
        unmount(&place);
    }
}

#[test]
fn chain_lets_ours_run_first_and_leaves_the_other() {
    if !is_privileged() {
        return;
    }
    for how in ways() {
        let place = Place::new();
        let foreign = attach(&place, how);
        for _ in 0..2 {
            drop(place.open(Hook::Tc));
            let programs = place.programs(INSIDE, TcAttachType::Ingress);
            assert_eq!(programs.len(), 2, "{how:?}: {programs:?}");
            assert_eq!(programs[1], foreign.id, "{how:?}: {programs:?}");
        }
        persona_ctl::dataplane::detach(&place.bpffs()).unwrap();
        assert_eq!(place.programs(INSIDE, TcAttachType::Ingress), [foreign.id], "{how:?}: it is left alone");
        unmount(&place);
    }
}

#[test]
fn replace_removes_the_other_for_good() {
    if !is_privileged() {
        return;
    }
    for how in ways() {
        let place = Place::new();
        let foreign = attach(&place, how);
        drop(place.try_open(Hook::Tc, Coexistence::Replace).unwrap());
        assert!(!place.only_programs().contains(&foreign.id), "{how:?}");
        persona_ctl::dataplane::detach(&place.bpffs()).unwrap();
        assert!(place.programs(INSIDE, TcAttachType::Ingress).is_empty(), "{how:?}: it is not put back");
        unmount(&place);
    }
}

#[test]
fn xdp_has_one_place() {
    if !is_privileged() {
        return;
    }
    for mode in ["xdpdrv", "xdpgeneric"] {
        let place = Place::new();
        mount(&place);
        foreign::pin_program(foreign::XDP, XDP_PASS, &place.foreign_pin());
        place.host.ip(&format!("link set dev {INSIDE} {mode} pinned {}", place.foreign_pin().display())).unwrap();
        let theirs = place.xdp_program(INSIDE).unwrap();
        for choice in [Coexistence::Refuse, Coexistence::Chain] {
            let error = chain(&place.try_open(Hook::Xdp, choice).map(drop).unwrap_err());
            let expected = [NAME, &theirs.to_string(), INSIDE, "one place per device", "--coexist replace"];
            assert!(expected.iter().all(|text| error.contains(text)), "{mode} {choice:?}: {error}");
            assert_eq!(place.xdp_program(INSIDE), Some(theirs), "{mode} {choice:?}");
        }
        drop(place.try_open(Hook::Xdp, Coexistence::Replace).unwrap());
        let ours = place.xdp_program(INSIDE);
        assert!(ours.is_some_and(|id| id != theirs), "{mode}: {ours:?}");
        persona_ctl::dataplane::detach(&place.bpffs()).unwrap();
        assert_eq!(place.xdp_program(INSIDE), None, "{mode}: it is not put back");
        unmount(&place);
    }
}
