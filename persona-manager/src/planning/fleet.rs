//! The live fleet as planning and `simulate` read it. Pure: the same snapshot and reports give the same fleet.

use std::collections::{BTreeMap, BTreeSet};

use persona_core::content::{ContentPlace, ContentSource};
use persona_core::document::{Location, Network, PathNeeds};
use persona_core::ids::{EdgeName, GroupName, NodeName, PersonaName, SubjectId};
use persona_core::plan::{
    Capacity, Content, Demand, Fleet, FleetEdge, FleetNode, FleetPersona, FleetPolicy, FleetSubject, Path, PathLimits,
    Rule, Service, estimated_rtt_ms,
};
use persona_core::units::{BitRate, Share, Span};
use persona_core::wire::agent::{EdgeCapacity, EdgeHealth};
use persona_core::wire::planning::PlanSettings;

use super::processor::{self, Reading};
use crate::store::{AgentId, AgentRecord, EdgeDetails, EdgeState, LeaseRecord, Snapshot, SubjectRecord};
use crate::tasks::reports::{Reports, UNHEARD_MS_MAX};
use crate::tasks::wear::labels_of;

/// The longest round trip that a fleet can have, milliseconds.
const PATH_MS_MAX: f64 = 60_000.0;

/// Less than so many bits per second are none: what keeps connections open shall not make plans.
const RATE_MIN: u64 = 64_000;

/// Less than so many packets per second are none.
const PACKETS_MIN: u64 = 50;

/// The live fleet: edges, nodes, and every subject that holds a lease in force.
pub(crate) fn fleet_of(snapshot: &Snapshot, reports: &Reports, settings: &PlanSettings) -> Fleet {
    let subjects = subjects_of(snapshot, reports);
    let personas = personas_of(snapshot, &subjects);
    let room = processor::room(&readings_of(snapshot, reports));
    let sources = sources_of(snapshot);
    let edges = snapshot.agents.values().filter_map(|agent| edge_of(agent, &room, &sources));
    let nodes = snapshot.agents.values().filter_map(|agent| node_of(agent, reports));
    let mut nodes: BTreeMap<NodeName, FleetNode> = nodes.map(|node| (node.name.clone(), node)).collect();
    for (id, subject) in subjects {
        if let Some(node) = nodes.get_mut(id.node()) {
            node.subjects.push(subject);
        }
    }
    nodes.values_mut().for_each(|node| node.subjects.sort_by(|one, other| one.workload.cmp(&other.workload)));
    let edges: Vec<FleetEdge> = edges.collect();
    // A group that is no more holds nobody; a policy about it shall not keep everybody from being planned.
    let is_known = |policy: &&FleetPolicy| match &policy.rule {
        Rule::MaxGroupShare(rule) => {
            rule.group.as_ref().is_none_or(|group| edges.iter().any(|edge| edge.group == *group))
        }
        _ => true,
    };
    let policies = settings.policies.iter().filter(is_known).cloned().collect();
    Fleet {
        personas,
        edges,
        nodes: nodes.into_values().collect(),
        contents: contents_of(settings, &sources),
        policies,
        planning: settings.planning,
    }
}

/// The leases under which a subject's new flows leave, all of one group.
fn leases_of<'a>(snapshot: &'a Snapshot, record: &SubjectRecord) -> Vec<&'a LeaseRecord> {
    let ids = record.target.iter().flat_map(|target| target.leases());
    ids.filter_map(|id| snapshot.leases.get(&id).map(AsRef::as_ref)).collect()
}

fn subjects_of(snapshot: &Snapshot, reports: &Reports) -> Vec<(SubjectId, FleetSubject)> {
    let subject = |record: &SubjectRecord| {
        let leases = leases_of(snapshot, record);
        let (target, first) = (record.target.as_ref()?, leases.first()?);
        let workload = match &record.subject {
            SubjectId::Workload(_, workload) => Some(workload.clone()),
            SubjectId::Node(_) => None,
        };
        let subject = FleetSubject {
            workload,
            personas: vec![target.persona.clone()],
            group: Some(first.group.clone()),
            demand: demand_of(&record.subject, &leases, reports),
            requires: Vec::new(),
            prefers: Vec::new(),
            content: record.wanted_content().map(ContentSource::to_string),
            labels: labels_of(snapshot, &record.subject).bound,
        };
        Some((record.subject.clone(), subject))
    };
    snapshot.subjects.values().filter_map(|record| subject(record)).collect()
}

/// What a subject carried of late, its flows and its leases.
fn demand_of(subject: &SubjectId, leases: &[&LeaseRecord], reports: &Reports) -> Demand {
    let node = reports.get(&AgentId::node(subject.node()));
    let rate = node.and_then(|node| node.rates.subjects.get(subject)).copied().unwrap_or_default();
    let uses = leases.iter().filter_map(|lease| node?.leases.get(&lease.id));
    Demand {
        rate: BitRate(rounded_up(rate.bits_per_sec, RATE_MIN)),
        packets_per_sec: rounded_up(rate.packets_per_sec, PACKETS_MIN),
        flows: rounded_up(uses.map(|it| u64::from(it.live_slot_count)).sum(), 1),
        leases: leases.len() as u64,
    }
}

/// The next higher of steps that are an eighth apart, so that what hardly changes does not change; below `least`, none.
fn rounded_up(measured: u64, least: u64) -> u64 {
    if measured < least {
        return 0;
    }
    let step = 1 << measured.ilog2().saturating_sub(3);
    measured.div_ceil(step) * step
}

/// Every persona with a way out, and the groups that can carry it: those of its pools, and where leases under it are.
fn personas_of(snapshot: &Snapshot, subjects: &[(SubjectId, FleetSubject)]) -> Vec<FleetPersona> {
    let pools: BTreeMap<_, _> = snapshot.pools().map(|pool| (&pool.metadata.name, &pool.spec.group)).collect();
    let networks =
        snapshot.personas().filter_map(|it| Some((&it.document.metadata.name, it.document.spec.network.as_ref()?)));
    let networks: BTreeMap<&PersonaName, &Network> = networks.collect();
    let mut groups: BTreeMap<PersonaName, BTreeSet<GroupName>> = BTreeMap::new();
    for entry in snapshot.personas() {
        let network = entry.document.spec.network.iter();
        let known = network.clone().flat_map(|it| &it.egress.pools).filter_map(|pool| pools.get(pool).copied());
        let asked = entry.document.spec.network.as_ref().and_then(|network| network.group());
        let known = known.filter(|group| asked.is_none_or(|asked| asked == *group)).cloned();
        groups.entry(entry.document.metadata.name.clone()).or_default().extend(known);
    }
    for (_, subject) in subjects {
        let persona = subject.personas.first().expect("a subject wears a persona").clone();
        groups.entry(persona).or_default().extend(subject.group.clone());
    }
    let personas = groups.into_iter().filter(|(_, groups)| !groups.is_empty()).map(|(name, groups)| {
        let network = networks.get(&name);
        FleetPersona {
            groups: groups.into_iter().collect(),
            requires: network.map(|it| it.edges_require().to_vec()).unwrap_or_default(),
            prefers: network.map(|it| it.edges_prefer().to_vec()).unwrap_or_default(),
            content: network.and_then(|it| it.content()).map(ContentSource::to_string),
            path: network.and_then(|it| it.path()).map(limits_of),
            name,
        }
    });
    personas.collect()
}

fn limits_of(path: PathNeeds) -> PathLimits {
    let ms = |span: Span| span.0 as f64;
    PathLimits { rtt_ms_max: path.latency.map(ms), loss_max: path.loss, jitter_ms_max: path.jitter.map(ms) }
}

/// What edges measured that say how much of their processor may be in use.
fn readings_of(snapshot: &Snapshot, reports: &Reports) -> BTreeMap<EdgeName, Reading> {
    let reading = |agent: &AgentRecord| {
        let (edge, live) = (agent.edge()?, reports.get(&agent.id)?);
        let (percent, used) = (edge.capacity.as_ref()?.cpu_percent?, live.rates.processor?);
        let reading = Reading {
            group: edge.group.clone(),
            most: f64::from(percent) / 100.0,
            busy: used.busy,
            packet_path: used.packet_path,
            packets_per_sec: used.packets_per_sec,
        };
        Some((agent.id.name.parse().ok()?, reading))
    };
    snapshot.agents.values().filter_map(|agent| reading(agent)).collect()
}

/// What personas and requests want to be close to, each once.
fn sources_of(snapshot: &Snapshot) -> BTreeMap<String, ContentSource> {
    let of_personas = snapshot.personas().filter_map(|entry| entry.document.spec.network.as_ref()?.content());
    let of_requests = snapshot.subjects.values().filter_map(|record| record.wanted_content());
    of_personas.chain(of_requests).map(|source| (source.to_string(), source.clone())).collect()
}

/// Those, and what the settings add under other names.
fn contents_of(settings: &PlanSettings, sources: &BTreeMap<String, ContentSource>) -> Vec<Content> {
    let added = settings.contents.iter().filter(|content| !sources.contains_key(&content.name)).cloned();
    sources.keys().map(|name| Content { name: name.clone(), location: None }).chain(added).collect()
}

/// What an edge measured of contents; of places, what the distance says.
fn content_rtt_ms(
    agent: &AgentRecord,
    edge: &EdgeDetails,
    sources: &BTreeMap<String, ContentSource>,
) -> BTreeMap<String, f64> {
    let own = place_of(agent);
    let rtt_ms = |(name, source): (&String, &ContentSource)| {
        let rtt_ms = match source {
            ContentSource::Place(place) => estimated_rtt_ms(own?, *place),
            ContentSource::Prefix(_) | ContentSource::Name(_) => f64::from(*edge.content_rtt_us.get(name)?) / 1_000.0,
        };
        Some((name.clone(), rtt_ms))
    };
    sources.iter().filter_map(rtt_ms).collect()
}

fn edge_of(
    agent: &AgentRecord,
    room: &BTreeMap<EdgeName, u64>,
    sources: &BTreeMap<String, ContentSource>,
) -> Option<FleetEdge> {
    let edge = agent.edge()?;
    let service = match edge.state {
        _ if edge.maintenance.is_some() => Service::Maintenance,
        EdgeState::Down | EdgeState::New => Service::Down,
        EdgeState::Up if edge.is_leaving || carries_nothing(edge.capacity.as_ref()) => Service::Maintenance,
        EdgeState::Up if edge.draining => Service::Draining,
        EdgeState::Up if edge.is_degraded => Service::Degraded,
        EdgeState::Up => Service::Serving,
    };
    let name: EdgeName = agent.id.name.parse().ok()?;
    let processor_packets_per_sec = room.get(&name).copied();
    let stated = edge.capacity.as_ref().map(capacity_of);
    Some(FleetEdge {
        name,
        group: edge.group.clone(),
        location: bound_location_of(agent),
        capacity: stated.map(|stated| Capacity { processor_packets_per_sec, ..stated }).unwrap_or_default(),
        service,
        capabilities: agent.bound_capabilities(),
        labels: agent.bound_labels.clone(),
        content_rtt_ms: content_rtt_ms(agent, edge, sources),
    })
}

/// A capacity with a 0 in it, which no configuration has but that of an earlier release.
fn carries_nothing(capacity: Option<&EdgeCapacity>) -> bool {
    let has_zero = |it: &EdgeCapacity| {
        it.bits_per_sec == 0 || it.lease_count == 0 || it.packets_per_sec == Some(0) || it.flow_count == Some(0)
    };
    capacity.is_some_and(has_zero)
}

fn capacity_of(capacity: &EdgeCapacity) -> Capacity {
    let stated = |figure: u64| Some(figure).filter(|figure| *figure > 0);
    Capacity {
        rate: stated(capacity.bits_per_sec).map(BitRate),
        packets_per_sec: capacity.packets_per_sec.and_then(stated),
        processor_packets_per_sec: None,
        flows: capacity.flow_count.and_then(stated),
        leases: stated(capacity.lease_count.into()),
    }
}

fn node_of(agent: &AgentRecord, reports: &Reports) -> Option<FleetNode> {
    agent.node()?;
    let heard = reports.get(&agent.id).into_iter().flat_map(|live| live.edges.values());
    let path = |(health, since): &(EdgeHealth, u64)| {
        Some((health.edge.clone(), path_of(health, reports.now().saturating_sub(*since))?))
    };
    let paths = heard.filter_map(path);
    Some(FleetNode {
        name: agent.id.name.parse().ok()?,
        location: location_of(&agent.all_labels()),
        labels: agent.bound_labels.clone(),
        paths: paths.collect::<BTreeMap<EdgeName, Path>>(),
        subjects: Vec::new(),
    })
}

/// What a node measured of the way to an edge, of which it has said for so long whether it hears it. One that it does not hear, for
/// longer than a blink, loses everything. None: it has no answer yet.
fn path_of(health: &EdgeHealth, for_ms: u64) -> Option<Path> {
    if !health.alive && for_ms > UNHEARD_MS_MAX {
        return Some(Path { rtt_ms: PATH_MS_MAX, loss: Share::from_millionths(Share::WHOLE), jitter_ms: 0.0 });
    }
    let ms = |us: u32| (f64::from(us) / 1_000.0).min(PATH_MS_MAX);
    let loss = (f64::from(health.loss).clamp(0.0, 1.0) * f64::from(Share::WHOLE)) as u32;
    Some(Path {
        rtt_ms: ms(health.rtt_us?),
        loss: Share::from_millionths(loss),
        jitter_ms: ms(health.jitter_us.unwrap_or(0)),
    })
}

/// Where an edge stands, once its `country` is bound: residency rests on it, and an edge's own word satisfies no policy.
pub(crate) fn bound_location_of(edge: &AgentRecord) -> Option<Location> {
    if edge.bound_labels.contains_key("country") { location_of(&edge.all_labels()) } else { None }
}

/// The point where an edge stands, by anybody's word: closeness decides what is better, never what is allowed.
pub(crate) fn place_of(edge: &AgentRecord) -> Option<ContentPlace> {
    let label = |key: &str| edge.bound_labels.get(key).or_else(|| edge.labels.get(key));
    let degrees = |key: &str, most: f64| label(key)?.parse::<f64>().ok().filter(|degrees| degrees.abs() <= most);
    Some(ContentPlace { latitude: degrees("latitude", 90.0)?, longitude: degrees("longitude", 180.0)? })
}

/// Where labels say that something stands: `country`, with `latitude` and `longitude`. What is impossible is not said.
fn location_of(labels: &BTreeMap<String, String>) -> Option<Location> {
    let country =
        labels.get("country").filter(|it| it.len() == 2 && it.bytes().all(|byte| byte.is_ascii_uppercase()))?;
    let degrees = |key: &str, most: f64| {
        labels.get(key).and_then(|text| text.parse::<f64>().ok()).filter(|degrees| degrees.abs() <= most)
    };
    let (latitude, longitude) = (degrees("latitude", 90.0), degrees("longitude", 180.0));
    Some(Location { country: country.clone(), region: None, city: labels.get("city").cloned(), latitude, longitude })
}

#[cfg(test)]
mod tests {
    use persona_core::ids::EdgeNumber;
    use persona_core::wire::api::Maintenance;

    use super::*;
    use crate::store::{AgentDetails, EdgeDetails};

    #[test]
    fn what_is_measured_is_reserved_in_steps_and_never_less() {
        for (measured, expected) in [(0, 0), (63_999, 0), (64_000, 65_536), (65_536, 65_536), (65_537, 73_728)] {
            assert_eq!(rounded_up(measured, RATE_MIN), expected, "{measured}");
        }
        for measured in (1..2_000).chain([u64::from(u32::MAX), 40_000_000_000]) {
            let reserved = rounded_up(measured, 1);
            assert!(reserved >= measured && reserved as f64 <= measured as f64 * 1.125 + 1.0, "{measured} {reserved}");
        }
    }

    /// An edge that serves and states what it can carry.
    fn agent(change: impl FnOnce(&mut EdgeDetails)) -> AgentRecord {
        let capacity = EdgeCapacity {
            bits_per_sec: 1_000,
            lease_count: 5,
            packets_per_sec: None,
            flow_count: Some(7),
            cpu_percent: None,
        };
        let mut edge = EdgeDetails {
            number: EdgeNumber(1),
            group: "fra".parse().unwrap(),
            capacity: Some(capacity),
            state: EdgeState::Up,
            reason: String::new(),
            weight: 100,
            draining: false,
            maintenance: None,
            is_leaving: false,
            hold: Default::default(),
            flags: Vec::new(),
            is_lifeline: false,
            is_degraded: false,
            content_rtt_us: BTreeMap::new(),
        };
        change(&mut edge);
        AgentRecord {
            id: AgentId::edge("f1"),
            public_key: String::new(),
            registration_count: 1,
            certificate_expires_ms: 0,
            certificate_issuer: None,
            address: [10, 0, 0, 1].into(),
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            bound_labels: BTreeMap::new(),
            tunnel: None,
            version: String::new(),
            details: AgentDetails::Edge(edge),
        }
    }

    #[test]
    fn an_edge_serves_as_its_record_says() {
        type Change = fn(&mut EdgeDetails);
        let cases: [(Change, Service); 10] = [
            (|_| (), Service::Serving),
            (|edge| edge.flags = vec!["n1 cannot reach it".to_owned()], Service::Serving),
            (|edge| edge.is_degraded = true, Service::Degraded),
            (|edge| edge.draining = true, Service::Draining),
            (|edge| edge.state = EdgeState::Down, Service::Down),
            (|edge| edge.state = EdgeState::New, Service::Down),
            (|edge| (edge.draining, edge.state) = (true, EdgeState::Down), Service::Down),
            (|edge| edge.is_leaving = true, Service::Maintenance),
            (|edge| edge.maintenance = Some(Maintenance { reason: None, since_ms: 0 }), Service::Maintenance),
            (|edge| edge.capacity.as_mut().unwrap().lease_count = 0, Service::Maintenance),
        ];
        for (at, (change, service)) in cases.into_iter().enumerate() {
            assert_eq!(
                edge_of(&agent(change), &BTreeMap::new(), &BTreeMap::new()).unwrap().service,
                service,
                "case {at}"
            );
        }
        let stated = edge_of(&agent(|_| ()), &BTreeMap::new(), &BTreeMap::new()).unwrap().capacity;
        let (rate, flows, leases) = (Some(BitRate(1_000)), Some(7), Some(5));
        assert_eq!(stated, Capacity { rate, flows, leases, ..Capacity::default() });
        assert_eq!(
            edge_of(&agent(|edge| edge.capacity = None), &BTreeMap::new(), &BTreeMap::new()).unwrap().capacity,
            Capacity::default()
        );
    }

    #[test]
    fn a_path_on_which_nothing_is_heard_loses_everything_and_one_without_an_answer_yet_is_unmeasured() {
        let health = |alive, rtt_us| EdgeHealth {
            edge: "f1".parse().unwrap(),
            alive,
            rtt_us,
            jitter_us: Some(500),
            loss: 0.25,
            generation: Default::default(),
        };
        for unknown in [(health(true, None), u64::MAX), (health(false, None), UNHEARD_MS_MAX)] {
            assert_eq!(path_of(&unknown.0, unknown.1), None, "{unknown:?}");
        }
        for rtt_us in [None, Some(5)] {
            let lost = path_of(&health(false, rtt_us), UNHEARD_MS_MAX + 1).unwrap();
            assert_eq!((lost.rtt_ms, lost.loss.millionths()), (PATH_MS_MAX, Share::WHOLE));
        }
        assert_eq!(
            path_of(&health(false, Some(2_500)), UNHEARD_MS_MAX),
            path_of(&health(true, Some(2_500)), 0),
            "a blink"
        );
        let path = path_of(&health(true, Some(2_500)), 0).unwrap();
        assert_eq!((path.rtt_ms, path.jitter_ms, path.loss), (2.5, 0.5, "25%".parse().unwrap()));
        assert_eq!(path_of(&health(true, Some(u32::MAX)), 0).unwrap().rtt_ms, PATH_MS_MAX);
    }

    #[test]
    fn a_place_is_told_by_labels_and_what_is_impossible_is_left_out() {
        let labels = |pairs: &[(&str, &str)]| {
            location_of(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(labels(&[("city", "Berlin")]), None);
        assert_eq!(labels(&[("country", "Germany")]), None);
        let place = labels(&[("country", "DE"), ("latitude", "52.5"), ("longitude", "190")]).unwrap();
        assert_eq!((place.country.as_str(), place.latitude, place.longitude), ("DE", Some(52.5), None));
    }
}
