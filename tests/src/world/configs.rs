//! The roles' configuration files, as an operator would write them.

use std::fmt::Write as _;

use super::topology::{
    EdgePlace, NodePlace, ROUTER_ADDRESS, ROUTER_ADDRESS6, UNDERLAY_PREFIX6, WORKLOAD_RANGES, WorkloadPlace,
};
use super::{Families, World};

/// Where every role serves its metrics, each in a namespace of its own.
pub const METRICS_ADDRESS: &str = "127.0.0.1:9600";

/// The same as it is listened on: on the underlay too, for a scraper of all.
const METRICS_LISTEN: &str = "0.0.0.0:9600";

impl World {
    /// The manager's. Where the processor is emulated, roles are given the time that they need to be alive.
    pub(super) fn manager_config(&self) -> String {
        let store = self.path("manager.sqlite");
        let common = format!("hold_max_ms = {}\n", self.hold_max_ms);
        let listen = self.families.manager_address();
        let text = format!(
            "listen = \"{listen}\"
store = \"{}\"
{common}",
            store.display()
        );
        match std::env::var_os("PERSONA_TEST_EMULATED") {
            Some(_) => text + "probe_interval_ms = 500\nreport_interval_ms = 3_000\nsilent_after_ms = 60_000\n",
            None => text,
        }
    }

    /// A node's, with these workloads.
    pub(super) fn agent_config(&self, node: &NodePlace, workloads: &[WorkloadPlace], token: &str) -> String {
        let mut text = self.common_config(node.name, token);
        text += &format!("uplink = \"up0\"\naddress = \"{}\"\n", node.underlay_address(self.families));
        let [range, range6] = WORKLOAD_RANGES;
        let underlay = match self.families {
            Families::Ipv4 | Families::BothOverIpv4 => "192.168.77.0/24".to_owned(),
            Families::BothOverIpv6 => format!("{UNDERLAY_PREFIX6}/64"),
        };
        text += &format!("bypass = [\"{underlay}\", \"{range}\", \"{range6}\"]\n");
        text += &format!("managed = [\"{range}\", \"{range6}\"]\nguard = \"managed\"\n");
        for place in workloads {
            let (name, address, address6) = (place.name, place.address, place.address6);
            let addresses = format!("address = \"{address}\"\naddress6 = \"{address6}/128\"\n");
            write!(text, "\n[[workload]]\nname = \"{name}\"\ndevice = \"{name}\"\n{addresses}")
                .expect("writing to a string does not fail");
        }
        text
    }

    /// An edge's.
    pub(super) fn edge_config(&self, place: &EdgePlace, token: &str) -> String {
        let (EdgePlace { name, group, .. }, inside) = (place, place.underlay_address(self.families));
        let mut text = self.common_config(name, token);
        text += &format!("group = \"{group}\"\ninside = \"in0\"\noutside = \"out0\"\naddress = \"{inside}\"\n");
        let (router, router6) = self.other_routers.get(name).copied().unwrap_or((ROUTER_ADDRESS, ROUTER_ADDRESS6));
        text += &format!("outside_next_hop = \"{router}\"\nhook = \"{}\"\n", self.hook.as_str());
        if self.families != Families::Ipv4 {
            text += &format!("outside_next_hop6 = \"{router6}\"\n");
        }
        text += &self.extra_edge_config;
        text += "capacity = { bits_per_sec = 1_000_000_000, lease_count = 1_000 }\n";
        text
    }

    fn common_config(&self, name: &str, token: &str) -> String {
        let (state, bpffs) = (self.path(&format!("{name}.state")), self.path(&format!("{name}.bpf")));
        format!(
            "name = \"{name}\"\nmanager = \"https://{}\"\njoin_token = \"{token}\"\n\
             state_dir = \"{}\"\nbpffs = \"{}\"\nmetrics = \"{METRICS_LISTEN}\"\n",
            self.families.manager_address(),
            state.display(),
            bpffs.display()
        )
    }
}
