//! A gateway as a whole: the real role over a client, instances of nginx and, for tunnels, a node, all in namespaces of
//! their own. Every way of delivery sees an instance drain and one die under wrk.

mod place;
mod story;

use persona_tests::findings::Findings;

use crate::programs::world::is_privileged;
use place::{Place, Way};

/// Builds a place, tells the story, and judges every line of it.
fn check(way: Way) {
    if !is_privileged() {
        return;
    }
    let mut findings = Findings::default();
    findings.run("the place", |findings| {
        let mut place = Place::build(way)?;
        story::tell(&mut place, findings);
        if !findings.all_ok() {
            eprintln!("{}", place.log_tails());
        }
        place.take_down(findings)
    });
    println!("{}", findings.table());
    assert!(findings.all_ok());
}

#[test]
fn gateway_story_by_nat() {
    check(Way::Nat);
}

#[test]
fn gateway_story_by_nat_over_ipv6() {
    check(Way::Nat6);
}

#[test]
fn gateway_story_by_l2() {
    check(Way::L2);
}

#[test]
fn gateway_story_by_tunnel() {
    check(Way::Tunnel);
}
