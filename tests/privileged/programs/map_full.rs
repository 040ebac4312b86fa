//! Tables that are full while no agent sweeps them: a counted drop while everything in them is live, room once it is not;
//! and tables that make room by themselves.

use std::net::Ipv4Addr;

use aya::Pod;
use aya::maps::{HashMap, Map, MapData};
use persona_common::flow::{FlowKey, FlowValue, MappingKey, MappingValue};
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::maps::{
    FLOW_COUNT_MAX, FRAGMENT_COUNT_MAX, MAPPING_COUNT_MAX, RECORD_COUNT_MAX, SHARED_COUNT_MAX, TOWARDS_COUNT_MAX,
};
use persona_common::record::{Record, RecordKey};
use persona_common::share::{SharedFlow, SharedKey};

use super::frames::{Ip, ethernet};
use super::nat_frames::fragment;
use super::nat_world::*;
use super::run::{Facts, TC_NEXT, TC_REDIRECT, run_tc};

const OLD: (Ipv4Addr, u16) = (SERVER, 443);
const NEW: (Ipv4Addr, u16) = (OTHER_SERVER, 53_000);

/// Longer than an unanswered UDP mapping lives.
const UDP_ENDS: u32 = 31;

/// A table, by its pin.
fn table<K: Pod, V: Pod>(nat: &Nat, name: &str) -> HashMap<MapData, K, V> {
    Map::HashMap(nat.pinned(name)).try_into().unwrap()
}

/// Puts entries in until there is no room.
fn fill<K: Pod, V: Pod>(table: &mut HashMap<MapData, K, V>, count_max: u32, entry: impl Fn(u32) -> (K, V)) {
    let before = table.keys().count() as u32;
    for number in before..count_max {
        let (key, value) = entry(number);
        table.insert(key, value, 0).unwrap();
    }
    let (key, value) = entry(count_max);
    assert!(table.insert(key, value, 0).is_err(), "there is room for more");
}

/// A TCP flow that outlives whatever a test lets expire.
fn open_old_flow(nat: &Nat) {
    assert_eq!(nat.tcp_port(INNER_PORT, OLD, SYN), Ok(OUTER_PORT));
    assert_eq!(nat.tcp_in(OLD, OUTER_PORT, SYN | ACK), Ok(INNER_PORT));
}

/// The old flow goes on in both directions.
fn assert_old_flow_goes_on(nat: &Nat) {
    assert_eq!(nat.tcp_port(INNER_PORT, OLD, ACK), Ok(OUTER_PORT));
    assert_eq!(nat.tcp_in(OLD, OUTER_PORT, ACK), Ok(INNER_PORT));
}

/// While all is live, new flows are refused with the reason; then one more is, and all others find room.
fn assert_room_returns(nat: &Nat, reason: &str, new: impl Fn(u16) -> Result<u16, String>, expire: impl Fn()) {
    for port in [20_001, 20_002] {
        assert_eq!(new(port), Err(reason.to_owned()), "nothing has expired");
        assert_old_flow_goes_on(nat);
    }
    expire();
    assert_eq!(new(20_003), Err(reason.to_owned()), "the one that finds it full");
    for port in 20_004..20_104 {
        new(port).unwrap_or_else(|reason| panic!("{port}: {reason}"));
    }
    assert_old_flow_goes_on(nat);
}

#[test]
fn flows_expire_out_of_a_full_table() {
    with_nat(&Wish::default(), |nat| {
        open_old_flow(nat);
        nat.udp_port(30_000, NEW).unwrap();
        let mut flows = table::<FlowKey, FlowValue>(nat, "FLOWS");
        let (key, value) = flows.iter().map(Result::unwrap).find(|(key, _)| key.protocol == 17).unwrap();
        let filler = |number: u32| FlowKey { remote_address: number, remote_port: 1, ..key };
        fill(&mut flows, FLOW_COUNT_MAX, |number| (filler(number), value));
        assert_room_returns(nat, "flow-table-full", |port| nat.udp_port(port, NEW), || nat.advance(UDP_ENDS));
        let count = flows.keys().count() as u32;
        assert!(count < FLOW_COUNT_MAX - 3_000, "{count} are left");
    });
}

#[test]
fn mappings_expire_out_of_a_full_table() {
    with_nat(&Wish::default(), |nat| {
        open_old_flow(nat);
        nat.udp_port(30_000, NEW).unwrap();
        let mut mappings = table::<MappingKey, MappingValue>(nat, "MAPPINGS");
        let (key, value) = mappings.iter().map(Result::unwrap).find(|(key, _)| key.protocol == 17).unwrap();
        let filler = |number: u32| MappingKey { inner_address: number, ..key };
        fill(&mut mappings, MAPPING_COUNT_MAX, |number| (filler(number), value));
        assert_room_returns(nat, "mapping-table-full", |port| nat.udp_port(port, NEW), || nat.advance(UDP_ENDS));
    });
}

#[test]
fn records_expire_out_of_a_full_table() {
    with_nat(&Wish { configured: true, ..Wish::whole() }, |nat| {
        let tcp = |flags| nat.out(&Ip::new(EGRESS, SERVER, 6).tcp(INNER_PORT, 443, flags, b"", b"")).map(|_| 0);
        let udp = |port| nat.out(&Ip::new(EGRESS, NEW.0, 17).udp(port, NEW.1, b"x")).map(|_| 0);
        assert_eq!((tcp(SYN), nat.tcp_in(OLD, INNER_PORT, SYN | ACK), udp(30_000)), (Ok(0), Ok(INNER_PORT), Ok(0)));
        let mut records = table::<RecordKey, Record>(nat, "RECORDS");
        let is_udp_flow = |key: &RecordKey| key.protocol == 17 && !key.is_of_any_remote();
        let (key, value) = records.iter().map(Result::unwrap).find(|(key, _)| is_udp_flow(key)).unwrap();
        let filler = |number: u32| RecordKey { remote: [1, 2, 3, number], ..key };
        fill(&mut records, RECORD_COUNT_MAX, |number| (filler(number), value));
        assert_eq!(udp(20_001), Err("flow-table-full".to_owned()), "nothing has expired");
        assert_eq!(tcp(ACK), Ok(0), "the old flow goes on");
        nat.advance(UDP_ENDS);
        assert_eq!(udp(20_002), Err("flow-table-full".to_owned()), "the one that finds it full");
        assert!((20_003..20_103).all(|port| udp(port).is_ok()));
        assert_eq!((tcp(ACK), nat.tcp_in(OLD, INNER_PORT, ACK)), (Ok(0), Ok(INNER_PORT)));
    });
}

#[test]
fn shared_ports_expire_out_of_a_full_table() {
    // Ports 1,024 to 1,087.
    with_nat(&Wish { block_bits: 6, blocks: vec![16], ..Wish::default() }, |nat| {
        let outer = |port: u16| 1_024 + port % 64;
        for port in 40_000..40_064 {
            assert_eq!(nat.tcp_port(port, OLD, SYN), Ok(outer(port)));
            assert_eq!(nat.tcp_in(OLD, outer(port), SYN | ACK), Ok(port));
        }
        let other = |number: u16| (Ipv4Addr::new(198, 51, 100, number as u8), 443);
        nat.tcp_port(20_000, other(1), SYN).unwrap();
        let mut shared = table::<SharedKey, SharedFlow>(nat, "SHARED");
        let (key, value) = shared.iter().map(Result::unwrap).next().unwrap();
        let filler = |number: u32| SharedKey { remote_address: number, ..key };
        fill(&mut shared, SHARED_COUNT_MAX, |number| (filler(number), value));
        let full = || Err("mapping-table-full".to_owned());
        assert_eq!(nat.tcp_port(20_001, other(2), SYN), full(), "nothing has expired");
        assert_eq!(nat.tcp_port(20_000, other(1), SYN).map(|_| ()), Ok(()), "what shares a port goes on");
        nat.advance(121);
        assert_eq!(nat.tcp_port(20_002, other(3), SYN), full(), "the one that finds it full");
        for number in 4..54 {
            nat.tcp_port(20_000 + number, other(number), SYN).unwrap();
        }
        assert_eq!(nat.tcp_in(OLD, outer(40_000), ACK), Ok(40_000));
    });
}

#[test]
fn tables_of_hints_make_room_by_themselves() {
    with_nat(&Wish::default(), |nat| {
        let sent = Ip { dont_fragment: false, ..from_workload(17) }.udp(INNER_PORT, 9, &[7; 3_000]);
        let passes = |id: u16| {
            let fragments = [fragment(&sent, id, 0, 1_200), fragment(&sent, id, 1_200, 2_400)];
            fragments.iter().all(|fragment| nat.run_out(fragment).verdict == TC_REDIRECT)
        };
        assert!(passes(1));
        let mut fragments = lru::<FragmentKey, FragmentValue>(nat, "FRAGMENTS");
        let (key, value) = fragments.iter().map(Result::unwrap).next().unwrap();
        for number in 0..FRAGMENT_COUNT_MAX + 10_000 {
            fragments.insert(FragmentKey { scope: 9, id: number, ..key }, value, 0).unwrap();
        }
        assert!((2..50).all(passes), "new packets find room");

        let visit = |port: u16| {
            let inward = Ip::new(SERVER, WORKLOAD, 6).tcp(port, 22, SYN, b"", b"");
            run_tc(nat.node.programs(), "to_workload", &ethernet(0x0800, &inward), Facts::default());
            let answer = Ip::new(WORKLOAD, SERVER, 6).tcp(22, port, SYN | ACK, b"", b"");
            nat.run_out(&answer).verdict == TC_NEXT
        };
        assert!(visit(5_000));
        let mut towards = lru::<RecordKey, Record>(nat, "TOWARDS");
        let (key, value) = towards.iter().map(Result::unwrap).next().unwrap();
        for number in 0..TOWARDS_COUNT_MAX + 10_000 {
            towards.insert(RecordKey { remote: [1, 2, 3, number], ..key }, value, 0).unwrap();
        }
        assert!((5_001..5_050).all(visit), "new visitors find room");
        assert_eq!(nat.drops(), Default::default());
    });
}

fn lru<K: Pod, V: Pod>(nat: &Nat, name: &str) -> HashMap<MapData, K, V> {
    Map::LruHashMap(nat.pinned(name)).try_into().unwrap()
}
