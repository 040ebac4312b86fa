//! From configuration, what was set by hand, health and the kernel's state to the data plane's tables. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use persona_common::{ENCAPSULATION_LENGTH_V4, ENCAPSULATION_LENGTH_V6};

use super::config::{DeliveryFile, GatewayConfig};
use super::observe::Observed;
use super::overrides::Overrides;
use super::service_config::{InstanceFile, ServiceFile};
use crate::dataplane::gateway_tables::*;
use crate::dataplane::tables::NextHopEntry;

/// What is assumed of a way that isn't there yet.
const MTU_UNKNOWN: u32 = 1_500;

/// Everything that tables come from.
pub(super) struct Inputs<'a> {
    pub(super) config: &'a GatewayConfig,
    pub(super) overrides: &'a Overrides,
    pub(super) observed: &'a Observed,
    /// Whether an instance, by service and name, answers.
    pub(super) is_alive: &'a dyn Fn(&str, &str) -> bool,
}

/// The tables, and what is wrong with them that somebody should know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tables: GatewayTables,
    pub(super) troubles: Vec<String>,
}

/// Makes the gateway's tables.
pub(super) fn make(inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    let (devices, missing) = inputs.observed.devices(&inputs.config.file.devices);
    plan.troubles.extend(missing.iter().map(|name| format!("device {name} is not there")));
    for link in devices {
        match link.mac {
            Some(mac) => plan.tables.devices.push(GatewayDeviceEntry { ifindex: link.index, mac, mtu: link.mtu }),
            None => plan.troubles.push(format!("device {} has no hardware address: it needs Ethernet", link.name)),
        }
    }
    for service in &inputs.config.file.service {
        let instances = service.instance.iter().map(|it| instance(inputs, service, it, &mut plan.troubles)).collect();
        plan.tables.services.push(ServiceEntry {
            key: service.key(),
            is_answered: service.on_link,
            affinity: service.client_affinity_secs.map(|seconds| Duration::from_secs(seconds.into())),
            instances,
        });
    }
    (plan.tables.underlay4, plan.tables.underlay6) = underlay(inputs);
    plan
}

fn instance(
    inputs: &Inputs<'_>,
    service: &ServiceFile,
    file: &InstanceFile,
    troubles: &mut Vec<String>,
) -> InstanceEntry {
    let delivery = service.delivery_of(file);
    let (destination, overhead) = match delivery {
        DeliveryEntry::Tunnel { node, .. } if node.is_ipv4() => (node, ENCAPSULATION_LENGTH_V4 as u32),
        DeliveryEntry::Tunnel { node, .. } => (node, ENCAPSULATION_LENGTH_V6 as u32),
        DeliveryEntry::Nat | DeliveryEntry::L2 => (file.address, 0),
    };
    let name = format!("instance {} of {}", file.name, service.name);
    let path = inputs.observed.paths.get(&destination);
    match path {
        None => troubles.push(format!("{name}: there is no way to {destination}")),
        Some(path) if delivery == DeliveryEntry::L2 && path.next_hop != destination => {
            troubles.push(format!("{name}: {destination} is no neighbour, as delivery by l2 needs"));
        }
        Some(_) => {}
    }
    let link_mtu = path.and_then(|path| inputs.observed.link(path.ifindex)).map_or(MTU_UNKNOWN, |link| link.mtu);
    let way_mtu = path.and_then(|path| path.mtu).unwrap_or(link_mtu);
    let over = inputs.overrides.of(&service.name, &file.name);
    InstanceEntry {
        name: file.name.clone(),
        address: file.address,
        port: service.port_of(file),
        delivery,
        next_hop: next_hop(inputs.observed, destination),
        mtu: service.mtu.unwrap_or(way_mtu.saturating_sub(overhead)),
        weight: over.weight.unwrap_or(file.weight),
        state: InstanceState {
            is_alive: path.is_some() && (inputs.is_alive)(&service.name, &file.name),
            is_draining: over.draining.unwrap_or(file.draining),
        },
    }
}

fn next_hop(observed: &Observed, destination: IpAddr) -> NextHopEntry {
    let Some(path) = observed.paths.get(&destination) else {
        return NextHopEntry { ifindex: 0, address: destination, source_mac: [0; 6], destination_mac: None };
    };
    NextHopEntry {
        ifindex: path.ifindex,
        address: path.next_hop,
        source_mac: observed.link(path.ifindex).and_then(|link| link.mac).unwrap_or_default(),
        destination_mac: observed.neighbours.get(&(path.ifindex, path.next_hop)).copied(),
    }
}

/// Where tunnels start: as configured, else where the kernel would have them start.
fn underlay(inputs: &Inputs<'_>) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let sources = || inputs.observed.paths.values().filter_map(|path| path.source);
    let ipv4 = sources().find_map(|source| if let IpAddr::V4(address) = source { Some(address) } else { None });
    let ipv6 = sources().find_map(|source| if let IpAddr::V6(address) = source { Some(address) } else { None });
    (inputs.config.file.address.or(ipv4), inputs.config.file.address6.or(ipv6))
}

/// Makes a delivering node's tables, without the instances whose device is not there.
pub(super) fn make_delivery(file: &DeliveryFile, observed: &Observed) -> (DeliveryTables, Vec<String>) {
    let mut troubles = Vec::new();
    let mut instances = Vec::new();
    for instance in &file.instance {
        match observed.device(&instance.device) {
            Some(link) => instances.push(DeliveredInstance {
                tunnel_id: instance.tunnel_id,
                ifindex: link.index,
                address: instance.address,
            }),
            None => {
                troubles.push(format!("device {} of tunnel id {} is not there", instance.device, instance.tunnel_id))
            }
        }
    }
    (DeliveryTables { underlay_address: file.address, gateways: file.gateways.clone(), instances }, troubles)
}

#[cfg(test)]
mod tests {
    use super::super::config::GatewayFile;
    use super::super::overrides::Override;
    use super::*;
    use crate::netlink::{Link, Path};

    fn observed() -> Observed {
        let link = |index: u32, name: &str, mtu| Link {
            index,
            name: name.into(),
            mtu,
            mac: Some([index as u8; 6]),
            is_up: true,
            ..Default::default()
        };
        let path = |next_hop: &str, source: &str, mtu| Path {
            ifindex: 3,
            next_hop: next_hop.parse().unwrap(),
            source: source.parse().ok(),
            mtu,
        };
        Observed {
            links: vec![link(2, "out0", 1_500), link(3, "in0", 9_000)],
            paths: [
                ("10.0.0.1".parse().unwrap(), path("10.0.0.1", "10.0.0.254", None)),
                ("10.0.9.9".parse().unwrap(), path("10.0.0.253", "10.0.0.254", Some(1_600))),
            ]
            .into(),
            neighbours: [((3, "10.0.0.1".parse().unwrap()), [9; 6])].into(),
        }
    }

    fn plan(services: &str, overrides: &Overrides) -> Plan {
        let text = format!("devices = ['out0', 'in0', 'gone0']\n{services}");
        let config = toml::from_str::<GatewayFile>(&text).unwrap().check().unwrap();
        let is_alive = |_: &str, name: &str| name != "dead";
        make(&Inputs { config: &config, overrides, observed: &observed(), is_alive: &is_alive })
    }

    const NAT: &str = "[[service]]\nname = 'web'\naddress = '192.0.2.80'\nport = 80\n\
        [[service.instance]]\nname = 'a'\naddress = '10.0.0.1'\nport = 8080\n\
        [[service.instance]]\nname = 'dead'\naddress = '10.0.0.1'\nport = 8081\n\
        [[service.instance]]\nname = 'lost'\naddress = '10.0.5.5'\n";

    #[test]
    fn instances_have_their_way_and_their_state() {
        let mut overrides = Overrides::default();
        overrides.put("web", "a", Override { draining: Some(true), weight: Some(7) });
        let plan = plan(NAT, &overrides);
        let [a, dead, lost] = &plan.tables.services[0].instances[..] else { panic!("three instances") };
        let hop = NextHopEntry {
            ifindex: 3,
            address: "10.0.0.1".parse().unwrap(),
            source_mac: [3; 6],
            destination_mac: Some([9; 6]),
        };
        assert_eq!((a.port, a.mtu, a.next_hop, a.weight), (8_080, 9_000, hop, 7));
        assert_eq!(a.state, InstanceState { is_alive: true, is_draining: true });
        assert_eq!((dead.state, lost.state), (InstanceState::default(), InstanceState::default()));
        assert_eq!(plan.tables.devices.len(), 2);
        assert_eq!(plan.troubles, ["device gone0 is not there", "instance lost of web: there is no way to 10.0.5.5"]);
    }

    #[test]
    fn tunnels_lead_to_the_node_and_cost_their_headers() {
        let tunnelled = "[[service]]\nname = 'web'\naddress = '192.0.2.80'\nport = 80\ndelivery = 'tunnel'\n\
            [[service.instance]]\nname = 'a'\naddress = '10.9.0.1'\nnode = '10.0.9.9'\ntunnel_id = 5\n";
        let plan = plan(tunnelled, &Overrides::default());
        let instance = &plan.tables.services[0].instances[0];
        assert_eq!((instance.mtu, instance.next_hop.address), (1_600 - 36, "10.0.0.253".parse().unwrap()));
        assert_eq!(plan.tables.underlay4, Some("10.0.0.254".parse().unwrap()));
    }

    #[test]
    fn a_neighbour_is_needed_where_packets_go_as_they_are() {
        let far = "[[service]]\nname = 'web'\naddress = '192.0.2.80'\nport = 80\ndelivery = 'l2'\n\
            [[service.instance]]\nname = 'a'\naddress = '10.0.9.9'\n";
        let plan = plan(far, &Overrides::default());
        assert!(plan.troubles.iter().any(|it| it.contains("10.0.9.9 is no neighbour")), "{:?}", plan.troubles);
    }
}
