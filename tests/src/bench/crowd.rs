//! Many subjects behind one device, each told by its source address, with a lease and a persona of its own.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use persona_core::ids::{LeaseId, SubjectNumber, Vni};
use persona_core::wire::desired::LeaseSpace;
use persona_ctl::dataplane::tables::{EdgeTables, EgressAddressEntry, NodeTables, SourceEntry};

/// log2 of the ports in a block: few, as each has one flow.
const BLOCK_BITS: u8 = 5;
/// The first block that is leased; ports below 1,024 are nobody's.
const BLOCK_FIRST: u16 = 32;
/// Subjects that share an egress address.
const PER_ADDRESS: u32 = 512;
/// Where they come from, and what the far side sees them behind.
const SOURCES: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
const EGRESS: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);
/// Their numbers follow on those that a chain has of itself.
const NUMBER_FIRST: u32 = 100;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Member(pub u32);

impl Member {
    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(SOURCES.to_bits() + self.0)
    }

    /// What it leases.
    fn space(self) -> LeaseSpace {
        let block = BLOCK_FIRST + (self.0 % PER_ADDRESS) as u16;
        LeaseSpace::Ports { address: self.egress(), block_bits: BLOCK_BITS, blocks: vec![block] }
    }

    fn egress(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(EGRESS.to_bits() + self.0 / PER_ADDRESS)
    }

    fn number(self) -> u32 {
        NUMBER_FIRST + self.0
    }
}

/// All of them.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// How many.
    pub count: u32,
}

impl Crowd {
    /// Each in turn.
    pub fn members(self) -> impl Iterator<Item = Member> {
        (0..self.count).map(Member)
    }

    /// Their egress addresses.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        self.members().step_by(PER_ADDRESS as usize).map(Member::egress)
    }

    /// What a node needs to know of them, after the pattern of its first subject and lease, whose device they share from then on;
    /// `class` says what holds each.
    pub fn join_node(self, tables: &mut NodeTables, ifindex: u32, class: impl Fn(Member) -> u32) {
        let (subject, lease) = (tables.subjects[0].clone(), tables.leases[0].clone());
        for device in tables.devices.iter_mut().filter(|device| device.ifindex == ifindex) {
            (device.subject, device.address) = (None, None);
        }
        for member in self.members() {
            let (number, id) = (SubjectNumber(member.number()), LeaseId(u64::from(member.number())));
            let mut own = subject.clone();
            own.number = number;
            if let Some(network) = &mut own.network {
                (network.vni, network.lease, network.egress_class) = (Vni(member.number()), Some(id), class(member));
            }
            tables.subjects.push(own);
            let mut lease = lease.clone();
            (lease.id, lease.subject, lease.vni, lease.space) = (id, number, Vni(member.number()), member.space());
            tables.leases.push(lease);
            tables.sources.push(SourceEntry { prefix: (member.address().into(), 32), subject: number, ifindex });
        }
    }

    /// What their edge needs to know of them, after the pattern of its first lease.
    pub fn join_edge(self, tables: &mut EdgeTables) {
        let lease = tables.leases[0].clone();
        let entry = |address| EgressAddressEntry { address, block_bits: BLOCK_BITS };
        tables.addresses.extend(self.addresses().map(entry));
        for member in self.members() {
            let mut own = lease.clone();
            (own.space, own.vni) = (member.space(), Vni(member.number()));
            tables.leases.push(own);
        }
    }

    /// A policy rule for each, for the `ip` command: its packets go by table 100.
    pub fn policy_rules(self) -> String {
        self.members().map(|member| format!("rule add from {}/32 table 100\n", member.address())).collect()
    }

    /// nftables rules that put each into its class of a queue with handle 1:.
    pub fn rules(self) -> String {
        let classes = self.members().fold(String::new(), |mut text, member| {
            let _ = write!(text, "{} : 1:{:x}, ", member.address(), member.0 + 1); // a String takes everything
            text
        });
        format!(
            "table ip crowd {{\n map classes {{ type ipv4_addr : classid; elements = {{ {classes} }} }}\n chain forward {{\n  type filter hook forward priority 0;\n  meta priority set ip saddr map @classes\n }}\n}}\n"
        )
    }
}
