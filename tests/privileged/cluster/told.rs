//! What a node tells of its packets while they pass, in one world: flows at an IPFIX collector, `persona-ctl monitor`, and
//! what IPv6-first names come to.

use persona_tests::world::{Families, Hook};

use super::prefer_ipv6::Named;
use super::{check_with, flow_export, monitor, start};

#[test]
fn flows_are_exported_and_the_monitor_shows_what_happens() {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        let collector = flow_export::Collector::start(&world.namespaces.underlay).unwrap();
        world.extra_agent_config = flow_export::config();
        let named = Named::prepare(world).unwrap();
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("IPFIX", |findings| flow_export::run(world, collector, findings));
        if let Some(named) = named {
            findings.run("prefer-ipv6", |findings| named.follows_the_persona(world, findings));
        }
        findings.run("monitor: flows", |findings| monitor::flows_are_filtered(world, findings));
        findings.run("monitor: drops", |findings| monitor::drops_are_told_by_reason(world, findings));
        findings.run("monitor: packets", |findings| monitor::packets_are_written_before_and_after(world, findings));
        findings.run("processes", |_| world.check_processes());
    });
}
