//! What edges state is never given twice, whoever comes and goes.

use super::*;

#[test]
fn edges_that_can_hold_no_more_leases_refuse_newcomers_and_keep_holders() {
    let mut world = world();
    let fra = world.groups.get_mut(&"fra".parse().unwrap()).unwrap();
    (fra.lease_capacity, fra.lease_count) = (Some((10, "f2".parse().unwrap())), 9);
    assert_eq!(picked(&answer(&world, Ask::default())), "fra", "the tenth");
    world.groups.get_mut(&"fra".parse().unwrap()).unwrap().lease_count = 10;
    let eleventh = answer(&world, Ask::default());
    assert_eq!(picked(&eleventh), "tyo");
    let (refusal, hint) = told(&eleventh, "fra");
    assert!(
        refusal.contains("edge f2 of group fra can hold 10 leases and there are 10: 1 more are needed"),
        "{refusal}"
    );
    assert!(hint.contains("raise capacity.lease_count of edge f2"), "{hint}");
    assert_eq!(picked(&answer(&world, Ask { worn: Some("fra"), ..Ask::default() })), "fra");
    let manual = answer(&world, Ask { manual: Some("fra"), ..Ask::default() });
    assert_eq!(picked(&manual), "tyo", "nor by hand");
    // A pool of another group takes it.
    world.specs[0] = Some(spec("network: {egress: {pools: [fra, tyo]}}"));
    let pick = answer(&world, Ask::default()).pick.unwrap();
    assert_eq!((pick.persona.as_str(), pick.pool.as_str()), ("fra", "tyo"));
}

#[test]
fn two_families_take_two_leases_and_the_nearest_that_there_is_room_for_is_told() {
    let mut world = world();
    world.specs = vec![Some(spec("network: {egress: {pools: [fra], family: prefer-ipv6}}")), None, None, None];
    let pool = world.pools.get_mut(&"fra".parse::<PoolName>().unwrap()).unwrap();
    (pool.prefix_count, pool.free_prefixes) = (16, 16);
    let fra = world.groups.get_mut(&"fra".parse().unwrap()).unwrap();
    (fra.lease_capacity, fra.lease_count) = (Some((10, "f1".parse().unwrap())), 9);
    let decision = answer(&world, Ask::default());
    let (refusal, hint) = told(&decision, "fra");
    assert!(decision.pick.is_none() && refusal.contains("2 more are needed"), "{refusal}");
    assert!(hint.contains("ask for at most 1 (one address family needs one)"), "{hint}");
}

#[test]
fn guarantees_are_reserved_beside_each_other_and_no_ceiling_is() {
    let mut world = world();
    let text = "network: {egress: {pools: [fra]}}, qos: {guaranteedRate: 40mbit, shared: {egressRate: 9gbit}}";
    world.specs[0] = Some(spec(text));
    let fra = world.groups.get_mut(&"fra".parse().unwrap()).unwrap();
    fra.bits_per_sec_capacity = Some(100_000_000);
    let seat = |bps| Some(Seat { group: "fra".parse().unwrap(), guaranteed_bps: bps });
    world.ledger.seat(&subject("other"), &Labels::new(), seat(60_000_000));
    assert_eq!(picked(&answer(&world, Ask::default())), "fra");
    world.ledger.seat(&subject("third"), &Labels::new(), seat(1_000_000));
    let decision = answer(&world, Ask::default());
    assert_eq!(picked(&decision), "tyo");
    let (refusal, hint) = told(&decision, "fra");
    assert!(refusal.contains("can carry 100mbit, of which 61mbit are guaranteed to others: 40mbit more"), "{refusal}");
    assert!(hint.contains("lower qos.guaranteedRate of fra to at most 39mbit"), "{hint}");
    // What it holds it keeps; who left holds nothing; where an edge does not say what it carries, nothing is counted.
    world.ledger.seat(&subject("web"), &Labels::new(), seat(40_000_000));
    assert_eq!(picked(&answer(&world, Ask::default())), "fra");
    world.ledger.seat(&subject("web"), &Labels::new(), None);
    world.groups.get_mut(&"fra".parse().unwrap()).unwrap().unstated_count = 1;
    assert_eq!(picked(&answer(&world, Ask::default())), "fra");
    world.groups.get_mut(&"fra".parse().unwrap()).unwrap().unstated_count = 0;
    world.specs[0] = Some(spec("network: {egress: {pools: [fra]}}, qos: {egressRate: 5gbit}"));
    assert_eq!(picked(&answer(&world, Ask::default())), "fra", "a ceiling reserves nothing");
}

mod crowds {
    use proptest::prelude::*;

    use super::*;

    /// One who comes to a world of two groups and asks for the first or the second persona, or one who leaves.
    #[derive(Debug, Clone, Copy)]
    struct Step {
        who: u8,
        leaves: bool,
        prefers_tyo: bool,
        guaranteed_mbit: u64,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..20_u8, any::<bool>(), any::<bool>(), 1..5_u64).prop_map(|(who, leaves, prefers_tyo, mbit)| {
            Step { who, leaves: leaves && who % 3 == 0, prefers_tyo, guaranteed_mbit: mbit }
        });
        prop::collection::vec(step, 1..80)
    }

    /// Personas of both pools by what they guarantee, from 1 Mbit/s up.
    fn specs() -> [Vec<PersonaSpec>; 2] {
        let asking = |pool: &str, mbit: u64| {
            spec(&format!(
                "network: {{egress: {{pools: [{pool}]}}}}, qos: {{guaranteedRate: {mbit}mbit, shared: {{egressRate: 9gbit}}}}"
            ))
        };
        ["fra", "tyo"].map(|pool| (1..5).map(|mbit| asking(pool, mbit)).collect())
    }

    proptest! {
        /// Whoever comes in whatever order: no edge holds more leases and no group guarantees more than is stated.
        #[test]
        fn no_order_of_coming_and_going_overbooks_a_group(steps in steps(), leases in 1..8_u64, mbit in 1..12_u64) {
            let (mut world, specs) = (world(), specs());
            for (name, edge) in [("fra", "f1"), ("tyo", "t1")] {
                let group = world.groups.get_mut(&name.parse().unwrap()).unwrap();
                group.lease_capacity = Some((leases, edge.parse().unwrap()));
                group.bits_per_sec_capacity = Some(mbit * 1_000_000);
            }
            let mut there: BTreeMap<u8, Seat> = BTreeMap::new();
            for step in steps {
                if let Some(seat) = there.get(&step.who).cloned() {
                    if step.leaves {
                        there.remove(&step.who);
                        world.ledger.seat(&subject(&format!("w{}", step.who)), &Labels::new(), None);
                        world.groups.get_mut(&seat.group).unwrap().lease_count -= 1;
                    }
                    continue;
                }
                let asked = |pool: usize| specs[pool][step.guaranteed_mbit as usize - 1].clone();
                (world.specs[0], world.specs[1]) = (Some(asked(0)), Some(asked(1)));
                let decision = answer(&world, Ask { manual: step.prefers_tyo.then_some("tyo"), ..Ask::default() });
                let Some(pick) = decision.pick else { continue };
                let seat = Seat { group: pick.group.clone(), guaranteed_bps: step.guaranteed_mbit * 1_000_000 };
                world.ledger.seat(&subject(&format!("w{}", step.who)), &Labels::new(), Some(seat.clone()));
                world.groups.get_mut(&pick.group).unwrap().lease_count += 1;
                there.insert(step.who, seat);
                for (name, group) in &world.groups {
                    let guaranteed: u64 =
                        there.values().filter(|seat| seat.group == *name).map(|seat| seat.guaranteed_bps).sum();
                    prop_assert!(group.lease_count <= leases, "{name}: {} leases", group.lease_count);
                    prop_assert!(guaranteed <= mbit * 1_000_000, "{name}: {guaranteed} guaranteed");
                }
            }
        }
    }
}
