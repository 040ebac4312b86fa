//! The roles' configuration files, as an operator would write them.

use std::fmt::Write as _;

use super::topology::{EdgePlace, NODE_ADDRESS, ROUTER_ADDRESS, WORKLOAD_RANGES, WORKLOADS};
use super::{MANAGER_ADDRESS, NODE, World};

impl World {
    /// The manager's. Where the processor is emulated, roles are given the time that they need to be alive.
    pub(super) fn manager_config(&self) -> String {
        let store = self.path("manager.sqlite");
        // Edges are killed again and again, which the manager would otherwise hold against them.
        let common = "hold_max_ms = 1_000\n";
        let text = format!("listen = \"{MANAGER_ADDRESS}\"\nstore = \"{}\"\n{common}", store.display());
        match std::env::var_os("PERSONA_TEST_EMULATED") {
            Some(_) => text + "probe_interval_ms = 500\nreport_interval_ms = 3_000\nsilent_after_ms = 60_000\n",
            None => text,
        }
    }

    /// The node's.
    pub(super) fn agent_config(&self, token: &str) -> String {
        let mut text = self.common_config(NODE, token);
        text += &format!("uplink = \"up0\"\naddress = \"{NODE_ADDRESS}\"\n");
        let [range, range6] = WORKLOAD_RANGES;
        text += &format!("bypass = [\"192.168.77.0/24\", \"{range}\", \"{range6}\"]\n");
        text += &format!("managed = [\"{range}\", \"{range6}\"]\nguard = \"managed\"\n");
        for place in WORKLOADS.iter().chain(&self.extra_workloads) {
            let (name, address, address6) = (place.name, place.address, place.address6);
            let addresses = format!("address = \"{address}\"\naddress6 = \"{address6}/128\"\n");
            write!(text, "\n[[workload]]\nname = \"{name}\"\ndevice = \"{name}\"\n{addresses}")
                .expect("writing to a string does not fail");
        }
        text
    }

    /// An edge's.
    pub(super) fn edge_config(&self, place: &EdgePlace, token: &str) -> String {
        let EdgePlace { name, group, inside, .. } = place;
        let mut text = self.common_config(name, token);
        text += &format!("group = \"{group}\"\ninside = \"in0\"\noutside = \"out0\"\naddress = \"{inside}\"\n");
        text += &format!("outside_next_hop = \"{ROUTER_ADDRESS}\"\nhook = \"{}\"\n", self.hook.as_str());
        text += "capacity = { bits_per_sec = 1_000_000_000, lease_count = 1_000 }\n";
        text
    }

    fn common_config(&self, name: &str, token: &str) -> String {
        let (state, bpffs) = (self.path(&format!("{name}.state")), self.path(&format!("{name}.bpf")));
        format!(
            "name = \"{name}\"\nmanager = \"http://{MANAGER_ADDRESS}\"\njoin_token = \"{token}\"\n\
             state_dir = \"{}\"\nbpffs = \"{}\"\n",
            state.display(),
            bpffs.display()
        )
    }
}
