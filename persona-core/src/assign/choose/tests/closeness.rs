//! Closeness to a source of content: which of a persona's groups carries it, and what that is worth among personas.

use super::*;
use crate::content::ContentPlace;

/// A world whose first persona may lease from both pools and wants to be close to something.
fn close_to(content: &str) -> World {
    let mut world = world();
    let text = format!("network: {{egress: {{pools: [fra, tyo]}}, edges: {{content: {content}}}}}");
    world.specs = vec![Some(spec(&text)), None, None, None];
    world
}

fn measure(world: &mut World, group: &str, content: &str, ms: u32) {
    let group = world.groups.get_mut(&group.parse().unwrap()).unwrap();
    group.content_rtt_us.insert(content.to_owned(), ms * 1_000);
}

fn stand(world: &mut World, group: &str, latitude: f64, longitude: f64) {
    let group = world.groups.get_mut(&group.parse().unwrap()).unwrap();
    group.places.push(ContentPlace { latitude, longitude });
}

/// The pool that is leased from, and the points that its group's distance costs.
fn found(world: &World, ask: Ask<'_>) -> (String, f64) {
    let decision = answer(world, ask);
    let first = &decision.considered[0];
    let points = first.scores.get("content").copied().unwrap_or(0.0);
    (decision.pick.map_or("none".to_owned(), |pick| pick.pool.to_string()), points)
}

#[test]
fn of_the_groups_with_room_the_closest_carries_it() {
    let mut world = close_to("{name: cdn.example.com}");
    assert_eq!(found(&world, Ask::default()), ("fra".into(), -10.0), "nobody measured it: the order of pools");
    measure(&mut world, "fra", "cdn.example.com", 60);
    measure(&mut world, "tyo", "cdn.example.com", 20);
    assert_eq!(found(&world, Ask::default()), ("tyo".into(), -2.0));
    world.pools.get_mut(&"tyo".parse::<PoolName>().unwrap()).unwrap().best_free = 0;
    assert_eq!(found(&world, Ask::default()), ("fra".into(), -6.0), "a full pool carries nobody");
    measure(&mut world, "fra", "cdn.example.com", 900);
    assert_eq!(found(&world, Ask::default()).1, -20.0, "so much and no more");
}

#[test]
fn what_is_leased_stays_unless_another_group_is_clearly_closer() {
    for (ms_of_other, expected) in [(10, "fra"), (21, "fra"), (9, "tyo")] {
        let mut world = close_to("{prefix: 198.51.100.0/24}");
        measure(&mut world, "fra", "198.51.100.0/24", 50);
        measure(&mut world, "tyo", "198.51.100.0/24", ms_of_other);
        let worn = Ask { worn: Some("fra"), ..Ask::default() };
        assert_eq!(found(&world, worn).0, expected, "{ms_of_other} ms");
    }
}

#[test]
fn a_place_is_judged_by_distance_and_a_group_that_does_not_say_where_it_is_counts_as_far() {
    let mut world = close_to("{place: {latitude: 52.52, longitude: 13.4}}");
    stand(&mut world, "tyo", 35.68, 139.69);
    let (pool, points) = found(&world, Ask::default());
    assert!(pool == "fra" && points == -10.0, "Tokyo is farther than 100 ms: {pool} {points}");
    stand(&mut world, "fra", 50.11, 8.68);
    let (pool, points) = found(&world, Ask::default());
    assert!(pool == "fra" && (-0.7..-0.6).contains(&points), "424 km are 6.4 ms: {points}");
}

#[test]
fn what_a_request_names_goes_before_what_the_persona_names() {
    let mut world = close_to("{name: cdn.example.com}");
    for (group, of_persona, of_request) in [("fra", 1, 50), ("tyo", 50, 1)] {
        measure(&mut world, group, "cdn.example.com", of_persona);
        measure(&mut world, group, "files.example.com", of_request);
    }
    assert_eq!(found(&world, Ask::default()).0, "fra");
    assert_eq!(found(&world, Ask { content: Some("files.example.com"), ..Ask::default() }).0, "tyo");
}

#[test]
fn who_asks_for_no_content_is_judged_as_before() {
    let mut world = world();
    measure(&mut world, "fra", "cdn.example.com", 900);
    let decision = answer(&world, Ask::default());
    assert!(decision.considered.iter().all(|it| !it.scores.contains_key("content")), "{decision:?}");
    assert_eq!(picked(&decision), "fra");
}

#[test]
fn where_ipv6_is_preferred_closeness_decides_among_pools_that_have_it() {
    let mut world = world();
    let text = "network: {egress: {pools: [fra, tyo], family: prefer-ipv6}, edges: {content: {name: cdn.example.com}}}";
    world.specs = vec![Some(spec(text)), None, None, None];
    let tyo = world.pools.get_mut(&"tyo".parse::<PoolName>().unwrap()).unwrap();
    (tyo.prefix_count, tyo.free_prefixes) = (16, 16);
    measure(&mut world, "fra", "cdn.example.com", 1);
    measure(&mut world, "tyo", "cdn.example.com", 90);
    assert_eq!(found(&world, Ask::default()).0, "tyo");
}
