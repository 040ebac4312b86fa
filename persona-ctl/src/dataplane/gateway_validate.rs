//! Refuses gateway tables that contradict themselves or do not fit, before anything is written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use persona_common::gateway::{GATEWAY_DEVICE_COUNT_MAX, INSTANCE_COUNT_MAX, SERVICE_COUNT_MAX};
use persona_core::maglev;

use super::gateway_tables::{DeliveryEntry, GatewayTables, InstanceEntry, ServiceEntry};

/// Tunnel ids have 24 bits; 0 is nobody's.
const TUNNEL_ID_MAX: u32 = (1 << 24) - 1;

/// Every link carries as much (RFC 791 §3.2, RFC 8200 §5).
const MTU_MIN_V4: u32 = 68;
const MTU_MIN_V6: u32 = 1_280;

/// Says what is wrong, and what would be right.
pub(super) fn validate(tables: &GatewayTables) -> Result<(), String> {
    within(tables.devices.len(), GATEWAY_DEVICE_COUNT_MAX as usize, "devices")?;
    within(tables.services.len(), SERVICE_COUNT_MAX as usize, "services")?;
    let instance_count = tables.services.iter().map(|service| service.instances.len()).sum();
    within(instance_count, INSTANCE_COUNT_MAX as usize, "instances of all services")?;
    let (mut keys, mut endpoints, mut tunnels) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for service in &tables.services {
        let key = service.key;
        if !keys.insert(key) {
            return Err(format!(
                "two services are at {} port {}: a service has an endpoint of its own",
                key.address, key.port
            ));
        }
        validate_service(tables, service)?;
        for instance in &service.instances {
            let endpoint = (instance.address, instance.port, key.protocol);
            if instance.delivery == DeliveryEntry::Nat && !endpoints.insert(endpoint) {
                return Err(format!(
                    "instance {} at {} port {} is in another service already: where replies pass the gateway, an instance's port serves one service; give it another port, or deliver by l2 or tunnel",
                    instance.name, instance.address, instance.port
                ));
            }
            if let DeliveryEntry::Tunnel { node, tunnel_id } = instance.delivery
                && !tunnels.insert((node, tunnel_id))
            {
                return Err(format!(
                    "tunnel id {tunnel_id} of node {node} is given twice: an instance has an id of its own"
                ));
            }
        }
    }
    let is_vip = |address: &IpAddr| tables.services.iter().any(|service| service.key.address == *address);
    match tables.services.iter().flat_map(|service| &service.instances).find(|it| is_vip(&it.address)) {
        Some(it) => {
            Err(format!("instance {} has a service's address, {}: give it one of its own", it.name, it.address))
        }
        None => Ok(()),
    }
}

fn validate_service(tables: &GatewayTables, service: &ServiceEntry) -> Result<(), String> {
    let key = service.key;
    if is_nobodys(key.address) || key.port == 0 {
        return Err(format!(
            "no service can be at {} port {}: give it a host's address and a port",
            key.address, key.port
        ));
    }
    within(service.instances.len(), maglev::EDGE_COUNT_MAX, "instances of one service")?;
    let mut names = BTreeSet::new();
    for instance in &service.instances {
        if !names.insert(&instance.name) {
            return Err(format!(
                "instance {} is twice in the service at {} port {}",
                instance.name, key.address, key.port
            ));
        }
        validate_instance(tables, service, instance).map_err(|error| format!("instance {}: {error}", instance.name))?;
    }
    Ok(())
}

fn validate_instance(tables: &GatewayTables, service: &ServiceEntry, instance: &InstanceEntry) -> Result<(), String> {
    let key = service.key;
    if instance.address.is_ipv4() != key.address.is_ipv4() {
        return Err(format!("its address {} is not of the service's family", instance.address));
    }
    if is_nobodys(instance.address) || instance.port == 0 {
        return Err(format!("nobody can be at {} port {}", instance.address, instance.port));
    }
    if instance.delivery != DeliveryEntry::Nat && instance.port != key.port {
        return Err(format!(
            "packets reach it as they are, so its port is the service's, {}, not {}",
            key.port, instance.port
        ));
    }
    let mtu_min = if key.address.is_ipv4() { MTU_MIN_V4 } else { MTU_MIN_V6 };
    if instance.mtu < mtu_min {
        return Err(format!("an MTU of {} is too small: at least {mtu_min}", instance.mtu));
    }
    let DeliveryEntry::Tunnel { node, tunnel_id } = instance.delivery else { return Ok(()) };
    if tunnel_id == 0 || tunnel_id > TUNNEL_ID_MAX {
        return Err(format!("its tunnel id {tunnel_id} is not within 1 to {TUNNEL_ID_MAX}"));
    }
    let has_source = if node.is_ipv4() { tables.underlay4.is_some() } else { tables.underlay6.is_some() };
    if has_source {
        Ok(())
    } else {
        Err(format!("no tunnel to {node} can start here: the gateway has no underlay address of that family"))
    }
}

fn is_nobodys(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255; 4])
}

fn within(count: usize, limit: usize, what: &str) -> Result<(), String> {
    if count <= limit { Ok(()) } else { Err(format!("{count} {what} do not fit: at most {limit}")) }
}

#[cfg(test)]
mod tests {
    use super::super::gateway_tables::{InstanceState, ServiceKey, Transport};
    use super::super::tables::NextHopEntry;
    use super::*;

    fn instance(name: &str, address: &str) -> InstanceEntry {
        let address: IpAddr = address.parse().unwrap();
        InstanceEntry {
            name: name.to_owned(),
            address,
            port: 80,
            delivery: DeliveryEntry::Nat,
            next_hop: NextHopEntry { ifindex: 1, address, source_mac: [2; 6], destination_mac: None },
            mtu: 1_500,
            weight: 100,
            state: InstanceState::default(),
        }
    }

    fn tables() -> GatewayTables {
        let service = |address: &str, instances| ServiceEntry {
            key: ServiceKey { address: address.parse().unwrap(), port: 80, protocol: Transport::Tcp },
            is_answered: false,
            affinity: None,
            instances,
        };
        GatewayTables {
            services: vec![
                service("192.0.2.1", vec![instance("a", "10.0.0.1"), instance("b", "10.0.0.2")]),
                service("2001:db8::1", vec![instance("a", "fd00::1")]),
            ],
            ..GatewayTables::default()
        }
    }

    /// What makes tables wrong.
    type Change<'a> = &'a dyn Fn(&mut GatewayTables);

    #[test]
    fn contradictions_are_refused_with_their_reason() {
        assert_eq!(validate(&tables()), Ok(()));
        let tunnel = DeliveryEntry::Tunnel { node: [10, 0, 0, 9].into(), tunnel_id: 7 };
        let cases: [(&str, Change<'_>); 11] = [
            ("two services are at 192.0.2.1 port 80", &|it| it.services[1] = it.services[0].clone()),
            ("instance a is twice", &|it| it.services[0].instances[1].name = "a".into()),
            ("is in another service already", &|it| {
                let mut other = it.services[0].clone();
                other.key.port = 81;
                it.services.push(other);
            }),
            ("is in another service already", &|it| it.services[0].instances[1].address = [10, 0, 0, 1].into()),
            ("not of the service's family", &|it| it.services[0].instances[0].address = "fd00::2".parse().unwrap()),
            ("its port is the service's", &|it| {
                it.services[0].instances[0].delivery = DeliveryEntry::L2;
                it.services[0].instances[0].port = 8080;
            }),
            ("at least 1280", &|it| it.services[1].instances[0].mtu = 1_279),
            ("no underlay address of that family", &|it| it.services[0].instances[0].delivery = tunnel),
            ("tunnel id 7 of node 10.0.0.9 is given twice", &|it| {
                it.underlay4 = Some([10, 0, 0, 8].into());
                it.services[0].instances.iter_mut().for_each(|instance| instance.delivery = tunnel);
            }),
            ("has a service's address", &|it| it.services[0].instances[0].address = [192, 0, 2, 1].into()),
            ("no service can be at 224.0.0.1", &|it| it.services[0].key.address = [224, 0, 0, 1].into()),
        ];
        for (expected, change) in cases {
            let mut changed = tables();
            change(&mut changed);
            let error = validate(&changed).unwrap_err();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }
}
