//! Programs on devices from the first start to `detach`: one per hook whatever happens, and no trace at the end.
//!
//! On kernels without TCX the same tests run over filters.

mod coexist;
mod devices;
mod foreign;
mod holder;
mod place;

use aya::programs::TcAttachType;
use persona_ctl::dataplane::{Hook, detach};
use persona_tests::kernel::{Holdings, Snapshot};

use crate::programs::world::is_privileged;
use place::{INSIDE, OUTSIDE, Place};

#[test]
fn a_second_start_replaces_programs_in_place() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    let edge = place.open(Hook::Tc);
    let first = place.only_programs();
    drop(edge);
    assert_eq!(place.only_programs(), first, "they outlive the process's end");
    let edge = place.open(Hook::Tc);
    let second = place.only_programs();
    assert!(first.iter().all(|id| !second.contains(id)), "{first:?} was replaced by {second:?}");
    drop(place.open(Hook::Tc));
    drop(edge);
    place.only_programs();
    assert!(place.programs(INSIDE, TcAttachType::Egress).is_empty());
}

#[test]
fn a_change_of_hook_leaves_one_program_per_device() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    drop(place.open(Hook::Tc));
    drop(place.open(Hook::Xdp));
    let xdp = [INSIDE, OUTSIDE].map(|device| place.xdp_program(device));
    assert!(xdp.iter().all(Option::is_some), "{xdp:?}");
    assert!([INSIDE, OUTSIDE].iter().all(|device| place.programs(device, TcAttachType::Ingress).is_empty()));
    drop(place.open(Hook::Xdp));
    let again = [INSIDE, OUTSIDE].map(|device| place.xdp_program(device));
    assert!(again.iter().all(|id| id.is_some() && !xdp.contains(id)), "{xdp:?} was replaced by {again:?}");
    drop(place.open(Hook::Tc));
    assert!([INSIDE, OUTSIDE].iter().all(|device| place.xdp_program(device).is_none()));
    place.only_programs();
}

#[test]
fn detach_leaves_no_trace() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    let before = Snapshot::take_settled(&[&place.host, &place.other]).unwrap();
    drop(place.open(Hook::Tc));
    let holdings = Holdings::find(&[place.bpffs()]).unwrap();
    assert!(!holdings.maps.is_empty() && !holdings.programs.is_empty(), "{holdings:?}");
    let report = detach(&place.bpffs()).unwrap();
    assert_eq!(report.links.len(), 2, "{report:?}");
    assert!(report.unmounted, "{report:?}");
    assert_eq!(std::fs::read_dir(place.bpffs()).unwrap().count(), 0, "the mount point is empty");
    let after = Snapshot::take(&[&place.host, &place.other]).unwrap();
    assert_eq!(after.differences(&before), Vec::<String>::new());
    assert!([INSIDE, OUTSIDE].iter().all(|device| place.programs(device, TcAttachType::Ingress).is_empty()));
    assert_gone(&holdings);
    assert_eq!(detach(&place.bpffs()).unwrap(), Default::default(), "nothing is left to remove");
}

/// A clsact queue goes only if we made it and nobody else uses it.
#[test]
fn detach_leaves_other_peoples_queues_and_filters() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    place.tc(&format!("qdisc add dev {INSIDE} clsact"));
    drop(place.open(Hook::Tc));
    // On this one the queue is ours, where there is one at all; somebody else hangs a filter on it.
    if !persona_ctl::dataplane::KernelFeatures::has_tcx() {
        place.tc(&format!("filter add dev {OUTSIDE} egress prio 7 matchall action pass"));
    }
    detach(&place.bpffs()).unwrap();
    let queues = place.tc("qdisc show");
    assert!(queues.contains(&format!("clsact ffff: dev {INSIDE}")), "{queues}");
    assert!(place.programs(INSIDE, TcAttachType::Ingress).is_empty());
    if !persona_ctl::dataplane::KernelFeatures::has_tcx() {
        let filters = place.tc(&format!("filter show dev {OUTSIDE} egress"));
        assert!(filters.contains("pref 7 matchall"), "{filters}");
        assert!(place.programs(OUTSIDE, TcAttachType::Ingress).is_empty());
    }
}

/// The kernel frees maps and programs a moment after the last reference went.
fn assert_gone(holdings: &Holdings) {
    for _ in 0..100 {
        if holdings.still_loaded().is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(holdings.still_loaded(), Vec::<String>::new());
}
