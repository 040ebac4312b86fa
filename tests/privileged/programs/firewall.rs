//! A persona's firewall on built packets: who may open what, both ways; what follows of it; and rules that change under flows.

use std::net::Ipv4Addr;

use aya::maps::{Array, Map, MapData};
use persona_common::firewall::{FirewallSet, SubjectFirewall};
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_core::document::{Direction, FirewallAction};
use persona_core::ids::{EdgeNumber, Generation};
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::FirewallRule;

use super::frames::{Ip, ethernet};
use super::nat_world::*;
use super::run::{Facts, TC_DROP, TC_NEXT, new_drops, run_tc};

const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);

/// `ACTION DIRECTION [REMOTE|-] [PROTOCOL] [PORT]`.
fn rule(text: &str) -> FirewallRule {
    let words: Vec<&str> = text.split(' ').collect();
    FirewallRule {
        action: if words[0] == "allow" { FirewallAction::Allow } else { FirewallAction::Deny },
        direction: if words[1] == "egress" { Direction::Egress } else { Direction::Ingress },
        remote: words.get(2).filter(|word| **word != "-").map(|word| word.parse().unwrap()),
        protocols: words.get(3).map(|word| word.parse().unwrap()).into_iter().collect(),
        ports: words.get(4).map(|word| word.parse().unwrap()).into_iter().collect(),
    }
}

fn wish(rules: &[&str]) -> Wish {
    Wish { firewall: rules.iter().map(|text| rule(text)).collect(), ..Wish::default() }
}

impl Nat {
    fn wear(&mut self, rules: &[&str]) {
        self.node.apply(&wish(rules).tables()).unwrap();
    }

    /// What becomes of a packet that does not go through a tunnel: `pass`, or why it is dropped.
    fn beside(&self, program: &str, packet: &[u8]) -> String {
        let before = self.drops();
        self.clock.hold();
        let outcome = run_tc(self.node.programs(), program, &ethernet(0x0800, packet), Facts::default());
        let drops = new_drops(&before, &self.drops());
        if outcome.verdict == TC_DROP {
            assert_eq!(drops.len(), 1, "{drops:?}");
            return drops[0].0.clone();
        }
        let passed = (outcome.verdict == TC_NEXT || outcome.verdict == 0) && outcome.mark != PERSONA_MARK;
        assert!(passed && drops.is_empty(), "{} {drops:?}", outcome.verdict);
        assert_eq!(outcome.mark == BYPASS_MARK, program == "from_workload");
        "pass".to_owned()
    }

    fn past(&self, packet: &[u8]) -> String {
        self.beside("from_workload", packet)
    }

    fn towards(&self, packet: &[u8]) -> String {
        self.beside("to_workload", packet)
    }

    fn worn(&self) -> SubjectFirewall {
        let map: Array<MapData, SubjectFirewall> = Map::Array(self.pinned("SUBJECT_FIREWALLS")).try_into().unwrap();
        map.get(&0, 0).unwrap()
    }

    fn sets(&self) -> Vec<u64> {
        let map: Array<MapData, FirewallSet> = Map::Array(self.pinned("FIREWALLS")).try_into().unwrap();
        map.iter().map(|set| set.unwrap().key).filter(|key| *key != 0).collect()
    }
}

fn denied<T>() -> Result<T, String> {
    Err("firewall".to_owned())
}

#[test]
fn the_first_rule_that_matches_decides_what_the_workload_opens() {
    let rules =
        ["allow egress 203.0.113.6 6 25", "deny egress - 6 25", "deny egress 203.0.113.0/24 17", "deny egress - 1"];
    with_nat(&wish(&rules), |nat| {
        assert!(nat.tcp_port(INNER_PORT, (OTHER_SERVER, 25), SYN).is_ok());
        assert_eq!(nat.tcp_port(INNER_PORT, (SERVER, 25), SYN), denied());
        assert!(nat.tcp_port(INNER_PORT, (SERVER, 26), SYN).is_ok(), "what none matches passes");
        assert_eq!(nat.udp_port(INNER_PORT, (SERVER, 53)), denied());
        assert!(nat.udp_port(INNER_PORT, (Ipv4Addr::new(198, 51, 100, 1), 53)).is_ok());
        assert_eq!(nat.out(&from_workload(1).icmp(8, 7)), denied());
        // Nobody slips through in mid-stream: that is judged as an opening.
        assert_eq!(nat.tcp_port(INNER_PORT, (SERVER, 25), ACK), denied());
        let counts = nat.node.counters().unwrap();
        let dropped: u64 = counts.subjects.values().map(|subject| subject.dropped_packet_count).sum();
        assert_eq!(dropped, 4, "they are the subject's");
    });
}

#[test]
fn strangers_are_let_in_by_rules_and_answered_whatever_may_be_opened() {
    let rules = ["deny ingress 203.0.113.6 17", "deny egress - 17 9999"];
    with_nat(&wish(&rules), |nat| {
        let port = nat.udp_port(INNER_PORT, (SERVER, 53)).unwrap();
        assert_eq!(nat.udp_in((SERVER, 53), port), Ok(INNER_PORT), "an answer");
        assert_eq!(nat.udp_in((OTHER_SERVER, 53), port), denied(), "a stranger");
        let other = Ipv4Addr::new(198, 51, 100, 7);
        assert_eq!(nat.udp_port(INNER_PORT, (other, 9999)), denied());
        assert_eq!(nat.udp_in((other, 9999), port), Ok(INNER_PORT), "another stranger");
        assert_eq!(nat.udp_port(INNER_PORT, (other, 9999)), Ok(port), "who may be answered");
        assert_eq!(nat.udp_in((other, 9999), port), Ok(INNER_PORT));
        assert_eq!(nat.udp_port(INNER_PORT + 1, (other, 9999)), denied(), "from that port only");
    });
}

#[test]
fn other_rules_come_into_force_on_established_flows() {
    let web = (SERVER, 80);
    with_nat(&Wish::default(), |nat| {
        let port = nat.tcp_port(INNER_PORT, web, SYN).unwrap();
        assert_eq!(nat.tcp_in(web, port, SYN | ACK), Ok(INNER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, web, ACK), Ok(port));
        let dns = nat.udp_port(INNER_PORT, (SERVER, 53)).unwrap();
        nat.wear(&["deny egress - 6 80"]);
        assert_eq!(nat.tcp_port(INNER_PORT, web, ACK), denied(), "established before there were rules");
        assert_eq!(nat.tcp_in(web, port, ACK), denied(), "both ways");
        assert_eq!(nat.udp_port(INNER_PORT, (SERVER, 53)), Ok(dns), "what the rules don't name goes on");
        assert_eq!(nat.udp_in((SERVER, 53), dns), Ok(INNER_PORT));
        nat.wear(&["deny egress - 6 81"]);
        assert_eq!(nat.tcp_port(INNER_PORT, web, ACK), Ok(port), "and goes on when it may again");
        nat.wear(&[]);
        assert_eq!(nat.tcp_port(INNER_PORT, web, ACK), Ok(port));
        nat.wear(&["deny egress - 6 80"]);
        assert_eq!(nat.tcp_port(INNER_PORT, web, ACK), denied(), "the same rules again are others");
    });
}

#[test]
fn what_passes_by_the_persona_is_judged_too() {
    let rules = ["allow ingress - 6 22", "deny ingress", "deny egress 10.1.0.0/24 17 53", "deny egress 10.1.0.0/24 6"];
    with_nat(&wish(&rules), |nat| {
        let out = |protocol: u8| Ip::new(WORKLOAD, NEIGHBOUR, protocol);
        let back = |protocol: u8| Ip::new(NEIGHBOUR, WORKLOAD, protocol);
        assert_eq!(nat.past(&out(17).udp(5_000, 53, b"x")), "firewall");
        assert_eq!(nat.past(&out(17).udp(5_000, 54, b"x")), "pass");
        assert_eq!(nat.towards(&back(17).udp(54, 5_000, b"y")), "pass", "its answer");
        assert_eq!(nat.towards(&back(17).udp(54, 5_001, b"y")), "firewall", "no answer to anything");
        assert_eq!(nat.towards(&back(17).udp(55, 5_000, b"y")), "firewall");
        // A neighbour opens what it may, and is answered although nothing may be opened to it.
        assert_eq!(nat.towards(&back(6).tcp(7_000, 23, SYN, b"", b"")), "firewall");
        assert_eq!(nat.towards(&back(6).tcp(7_000, 22, SYN, b"", b"")), "pass");
        assert_eq!(nat.past(&out(6).tcp(22, 7_000, SYN | ACK, b"", b"")), "pass");
        assert_eq!(nat.towards(&back(6).tcp(7_000, 22, ACK, b"", b"")), "pass");
        assert_eq!(nat.past(&out(6).tcp(5_000, 80, SYN, b"", b"")), "firewall");
        assert_eq!(nat.past(&out(6).tcp(22, 7_000, SYN, b"", b"")), "firewall", "opening is not answering");
        // Echo requests are openings, echo replies are answers.
        assert_eq!(nat.towards(&back(1).icmp(8, 1)), "firewall");
        assert_eq!(nat.past(&out(1).icmp(8, 1)), "pass");
        assert_eq!(nat.towards(&back(1).icmp(0, 1)), "pass");
        // The link's own business is nobody's rule.
        let dhcp = Ip::new(NEIGHBOUR, WORKLOAD, 17).udp(67, 68, b"offer");
        assert_eq!(nat.towards(&dhcp), "pass");
        let all = Ip::new(NEIGHBOUR, Ipv4Addr::new(224, 0, 0, 251), 17).udp(5_353, 5_353, b"mdns");
        assert_eq!(nat.towards(&all), "pass");
        assert_eq!(run_tc(nat.node.programs(), "to_workload", &ethernet(0x0806, &[0; 28]), Facts::default()).mark, 0);
    });
}

#[test]
fn later_fragments_follow_their_first() {
    let rules = ["deny egress - 17 53", "deny ingress - 17 53"];
    with_nat(&wish(&rules), |nat| {
        let cut = |whole: Vec<u8>| {
            let piece = |offset: usize, end: usize, more: u16| {
                let mut piece = [&whole[..20], &whole[20 + offset..20 + end]].concat();
                let length = piece.len() as u16;
                piece[2..4].copy_from_slice(&length.to_be_bytes());
                piece[4..6].copy_from_slice(&77_u16.to_be_bytes());
                piece[6..8].copy_from_slice(&((more << 13) | (offset as u16 / 8)).to_be_bytes());
                piece[10..12].copy_from_slice(&[0; 2]);
                let sum = super::frames::checksum(&piece[..20], 0);
                piece[10..12].copy_from_slice(&sum.to_be_bytes());
                piece
            };
            [piece(0, 48, 1), piece(48, whole.len() - 20, 0)]
        };
        let out = |port| cut(Ip::new(WORKLOAD, NEIGHBOUR, 17).udp(5_000, port, &[7; 80]));
        let back = |port| cut(Ip::new(NEIGHBOUR, WORKLOAD, 17).udp(5_000, port, &[7; 80]));
        assert_eq!(nat.past(&out(54)[1]), "firewall", "its first is not known");
        for (port, expected) in [(53, "firewall"), (54, "pass")] {
            assert_eq!(out(port).map(|piece| nat.past(&piece)), [expected; 2], "{port}");
            assert_eq!(back(port).map(|piece| nat.towards(&piece)), [expected; 2], "{port}");
        }
    });
}

#[test]
fn sets_are_shared_and_a_restart_changes_nothing() {
    with_nat(&wish(&["deny egress - 6 80"]), |nat| {
        let (worn, sets) = (nat.worn(), nat.sets());
        assert_eq!((worn.generation, sets.len()), (1, 1));
        nat.wear(&["deny egress - 6 80"]);
        assert_eq!((nat.worn(), nat.sets()), (worn, sets.clone()), "the same again");
        let web = (SERVER, 443);
        let port = nat.tcp_port(INNER_PORT, web, SYN).unwrap();
        nat.node = NodeDataplane::open(&nat.options).unwrap();
        assert_eq!(nat.tcp_port(INNER_PORT, (SERVER, 80), SYN), denied(), "before anything was applied");
        nat.wear(&["deny egress - 6 80"]);
        nat.node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        assert_eq!((nat.worn(), nat.sets()), (worn, sets), "another process finds what was there");
        assert_eq!(nat.tcp_port(INNER_PORT, web, ACK), Ok(port));
        nat.wear(&[]);
        assert_eq!((nat.worn().set_index_plus_one, nat.sets()), (0, vec![]), "nobody wears it");
        assert_eq!(nat.tcp_port(INNER_PORT, (SERVER, 80), SYN).map(drop), Ok(()));
    });
}

#[test]
fn more_rules_than_there_is_room_for_are_refused_whole() {
    with_nat(&Wish::default(), |nat| {
        let wish = Wish { firewall: vec![rule("deny egress"); 65], ..Wish::default() };
        let error = nat.node.apply(&wish.tables()).unwrap_err().to_string();
        assert!(error.contains("65 rules are too many"), "{error}");
        assert!(nat.tcp_port(INNER_PORT, (SERVER, 80), SYN).is_ok(), "what was in force is");
        assert_eq!(nat.sets(), [0; 0]);
    });
}
