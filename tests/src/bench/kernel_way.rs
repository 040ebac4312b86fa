//! The kernel's own way of doing an edge's and a node's work: policy rules, VXLAN, nftables, HTB, with a table of personas as
//! large as ours.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;

use super::place::Place;

/// Workloads that have a persona, one each, in the table of source addresses.
pub const PERSONA_COUNT: u32 = 1_000;

/// Classes of the queue; all packets of the benchmark are in the default one.
const CLASS_COUNT: u32 = 100;

/// The tunnel's number.
pub const VNI: u32 = 42;

/// Hardware address of the VXLAN device.
pub const VXLAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A workload's address.
pub fn workload(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 9, 0, 1).to_bits() + number)
}

/// The egress address of a workload's persona.
pub fn egress(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 1).to_bits() + number % 250)
}

/// A VXLAN device between two ends.
pub fn add_vxlan(place: &Place, own: Ipv4Addr, other: Ipv4Addr) -> Result<()> {
    let mac = VXLAN_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let ends = format!("local {own} remote {other} dstport 4789 nolearning");
    place.namespace.ip(&format!("link add vx0 address {mac} mtu 1450 type vxlan id {VNI} {ends}"))?;
    place.namespace.write_sysctl("net/ipv4/conf/vx0/rp_filter", "0")?;
    place.namespace.ip("link set vx0 up").map(drop)
}

/// Source translation by a map from workloads to egress addresses, of what leaves by a device.
pub fn add_translation(place: &Place, device: &str) -> Result<()> {
    let mut script = "table ip bench {\n map personas { type ipv4_addr : ipv4_addr; elements = {\n".to_owned();
    for number in 0..PERSONA_COUNT {
        writeln!(script, "  {} : {},", workload(number), egress(number))?;
    }
    script += " } }\n chain post {\n  type nat hook postrouting priority srcnat;\n";
    writeln!(script, "  oifname \"{device}\" snat to ip saddr map @personas\n }}\n}}")?;
    place.nft(&script)
}

/// A queue with many classes at a device, none of which holds anything back.
pub fn add_queue(place: &Place, device: &str) -> Result<()> {
    place.tc(&format!("qdisc add dev {device} root handle 1: htb default 10"))?;
    for class in 0..CLASS_COUNT {
        let id = 0x10 + class;
        place.tc(&format!("class add dev {device} parent 1: classid 1:{id:x} htb rate 10gbit quantum 60000"))?;
    }
    Ok(())
}
