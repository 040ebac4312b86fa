//! Fleets and plans from text, and everything that can be wrong with them: where, what, and what would be valid.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fleet::{Capacity, Fleet, FleetEdge, FleetNode, FleetPersona};
use super::outcome::Plan;
use super::policy::Rule;
use super::tables::{CAPABILITY_COUNT_MAX, EDGE_COUNT_MAX, POLICY_COUNT_MAX, capacity_of};
use crate::document::{Format, Location};
use crate::ids::{GroupName, PersonaName};
use crate::nearest::nearest;

/// Personas that a subject may name.
const PERSONA_COUNT_MAX: usize = 255;

/// Longest round trip and jitter, milliseconds.
const PATH_MS_MAX: f64 = 60_000.0;

/// Something wrong with a fleet or a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FleetError {
    /// Such as `edges[2].capacity.rate`, or empty.
    pub path: String,
    /// What is wrong and what would be valid.
    pub message: String,
}

impl fmt::Display for FleetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Reads and checks a fleet.
pub fn parse_fleet(text: &str, format: Format) -> Result<Fleet, Vec<FleetError>> {
    let fleet: Fleet = parse(text, format, "a fleet is an object with personas, edges and nodes")?;
    let errors = check_fleet(&fleet);
    if errors.is_empty() { Ok(fleet) } else { Err(errors) }
}

/// Reads a plan, as `simulate --save-plan` writes it.
pub fn parse_plan(text: &str, format: Format) -> Result<Plan, Vec<FleetError>> {
    parse(text, format, "a plan is an object with edges and subjects")
}

fn parse<T: DeserializeOwned>(text: &str, format: Format, shape: &str) -> Result<T, Vec<FleetError>> {
    let at_root = |message: String| vec![FleetError { path: String::new(), message }];
    let value: Value = match format {
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| {
            let message = error.without_snippet().to_string();
            at_root(format!("not valid YAML: {}", message.split_whitespace().collect::<Vec<_>>().join(" ")))
        })?,
        Format::Json => serde_json::from_str(text).map_err(|error| at_root(format!("not valid JSON: {error}")))?,
        Format::Toml => {
            toml::from_str(text).map_err(|error| at_root(format!("not valid TOML: {}", error.message())))?
        }
    };
    if !value.is_object() {
        return Err(at_root(shape.to_owned()));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        vec![FleetError { path, message: explain(&error.inner().to_string()) }]
    })
}

/// Turns serde's message about a key or a word into one that says which was meant.
fn explain(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (Some((given, valid)), true) = (quoted.split_first(), message.starts_with("unknown ")) else {
        return message.replace('`', "");
    };
    let hint = nearest(given, valid.iter().copied()).map(|name| format!("did you mean {name}? ")).unwrap_or_default();
    let what = if message.starts_with("unknown field") { "key" } else { "word" };
    format!("{what} {given} is not known; {hint}valid: {}", valid.join(", "))
}

/// Everything wrong with a fleet.
pub(super) fn check_fleet(fleet: &Fleet) -> Vec<FleetError> {
    let mut check = Check { fleet, errors: Vec::new() };
    check.limits();
    check.unique("personas", fleet.personas.iter().map(|it| it.name.as_str()));
    check.unique("edges", fleet.edges.iter().map(|it| it.name.as_str()));
    check.unique("nodes", fleet.nodes.iter().map(|it| it.name.as_str()));
    check.unique("contents", fleet.contents.iter().map(|it| it.name.as_str()));
    check.unique("policies", fleet.policies.iter().map(|it| it.name.as_str()));
    fleet.personas.iter().enumerate().for_each(|(index, persona)| check.persona(index, persona));
    fleet.edges.iter().enumerate().for_each(|(index, edge)| check.edge(index, edge));
    let personas: BTreeSet<&PersonaName> = fleet.personas.iter().map(|persona| &persona.name).collect();
    for (index, node) in fleet.nodes.iter().enumerate() {
        check.node(format_args!("nodes[{index}]"), node, &personas);
    }
    for (index, content) in fleet.contents.iter().enumerate() {
        check.location(format_args!("contents[{index}]"), content.location.as_ref());
    }
    check.policies();
    check.errors
}

/// Everything wrong with a node that comes to a fleet.
pub(super) fn check_node(fleet: &Fleet, node: &FleetNode) -> Vec<FleetError> {
    let mut check = Check { fleet, errors: Vec::new() };
    let personas: BTreeSet<&PersonaName> = fleet.personas.iter().map(|persona| &persona.name).collect();
    check.node(format_args!("node {}", node.name), node, &personas);
    check.errors
}

/// Everything wrong with an edge's capacity; `path` names the edge.
pub(super) fn check_capacity(path: &str, capacity: &Capacity) -> Vec<FleetError> {
    let message = "0 is no capacity: leave out what has no limit, or write service: maintenance".to_owned();
    let is_wrong = capacity_of(capacity).contains(&0);
    is_wrong.then(|| FleetError { path: format!("{path}.capacity"), message }).into_iter().collect()
}

struct Check<'a> {
    fleet: &'a Fleet,
    errors: Vec<FleetError>,
}

impl Check<'_> {
    fn refuse_if(&mut self, wrong: bool, path: impl fmt::Display, message: impl FnOnce() -> String) {
        if wrong {
            self.errors.push(FleetError { path: path.to_string(), message: message() });
        }
    }

    fn limits(&mut self) {
        let fleet = self.fleet;
        let offered: BTreeSet<_> = fleet.edges.iter().flat_map(|edge| &edge.capabilities).collect();
        let counts = [
            ("edges", fleet.edges.len(), EDGE_COUNT_MAX, "edges"),
            ("policies", fleet.policies.len(), POLICY_COUNT_MAX, "policies"),
            ("edges", offered.len(), CAPABILITY_COUNT_MAX, "different capabilities"),
        ];
        for (path, count, most, what) in counts {
            self.refuse_if(count > most, path, || format!("{count} {what} are too many: at most {most}"));
        }
        let stickiness = fleet.planning.stickiness;
        self.refuse_if(!(0.0..=1_000.0).contains(&stickiness), "planning.stickiness", || {
            format!("{stickiness} is impossible: write 0 to 1000 points")
        });
        self.refuse_if(fleet.planning.pace.every.0 == 0, "planning.pace.every", || {
            "0 is impossible: write a length of time, such as 1s".to_owned()
        });
    }

    fn unique<'n>(&mut self, path: &str, names: impl Iterator<Item = &'n str> + Clone) {
        if names.clone().is_sorted_by(|one, other| one < other) {
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            self.refuse_if(!seen.insert(name), format_args!("{path}[{index}].name"), || {
                format!("{name} is there twice: give each a name of its own")
            });
        }
    }

    fn persona(&mut self, index: usize, persona: &FleetPersona) {
        let path = format!("personas[{index}]");
        self.refuse_if(persona.groups.is_empty(), format!("{path}.groups"), || "name at least one edge group".into());
        if let Some(content) = &persona.content {
            self.content(&format!("{path}.content"), content);
        }
        let limits = persona.path.unwrap_or_default();
        self.ms(format_args!("{path}.path.rttMsMax"), limits.rtt_ms_max);
        self.ms(format_args!("{path}.path.jitterMsMax"), limits.jitter_ms_max);
    }

    fn content(&mut self, path: &str, content: &str) {
        let names: Vec<&str> = self.fleet.contents.iter().map(|content| content.name.as_str()).collect();
        self.known(path, "content", content, &names);
    }

    fn edge(&mut self, index: usize, edge: &FleetEdge) {
        let path = format!("edges[{index}]");
        self.errors.extend(check_capacity(&path, &edge.capacity));
        self.location(&path, edge.location.as_ref());
        for (content, rtt_ms) in &edge.content_rtt_ms {
            self.ms(format_args!("{path}.contentRttMs.{content}"), Some(*rtt_ms));
        }
    }

    fn node(&mut self, path: fmt::Arguments<'_>, node: &FleetNode, personas: &BTreeSet<&PersonaName>) {
        self.location(path, node.location.as_ref());
        for (edge, measured) in &node.paths {
            self.ms(format_args!("{path}.paths.{edge}.rttMs"), Some(measured.rtt_ms));
            self.ms(format_args!("{path}.paths.{edge}.jitterMs"), Some(measured.jitter_ms));
        }
        let mut seen = BTreeSet::new();
        for (index, subject) in node.subjects.iter().enumerate() {
            let subject_path = format_args!("{path}.subjects[{index}]");
            let is_new = node.subjects.len() == 1 || seen.insert(&subject.workload);
            self.refuse_if(!is_new, format_args!("{subject_path}.workload"), || {
                "this subject is there twice: give each workload a name of its own".to_owned()
            });
            let count = subject.personas.len();
            self.refuse_if(!(1..=PERSONA_COUNT_MAX).contains(&count), format_args!("{subject_path}.personas"), || {
                format!("{count} personas are impossible: name 1 to {PERSONA_COUNT_MAX}")
            });
            if let Some(content) = &subject.content {
                self.content(&format!("{subject_path}.content"), content);
            }
            for (index, persona) in subject.personas.iter().enumerate() {
                if !personas.contains(persona) {
                    let names: Vec<&str> = personas.iter().map(|name| name.as_str()).collect();
                    self.known(&format!("{subject_path}.personas[{index}]"), "persona", persona.as_str(), &names);
                }
            }
        }
    }

    fn policies(&mut self) {
        let groups: BTreeSet<&GroupName> = self.fleet.edges.iter().map(|edge| &edge.group).collect();
        let groups: Vec<&str> = groups.into_iter().map(GroupName::as_str).collect();
        for (index, policy) in self.fleet.policies.iter().enumerate() {
            let path = format!("policies[{index}].rule");
            match &policy.rule {
                Rule::Residency(countries) => {
                    self.refuse_if(countries.is_empty(), format!("{path}.residency"), || {
                        "name at least one country".to_owned()
                    });
                    countries.iter().for_each(|country| self.country(format_args!("{path}.residency"), country));
                }
                Rule::MaxGroupShare(rule) => {
                    if let Some(group) = &rule.group {
                        self.known(&format!("{path}.maxGroupShare.group"), "group", group.as_str(), &groups);
                    }
                }
                Rule::Apart(rule) => self.refuse_if(rule.per_edge == 0, format!("{path}.apart.perEdge"), || {
                    "0 would let nobody in: write 1 or more".to_owned()
                }),
                Rule::Allow(_) | Rule::Deny(_) => {}
            }
        }
    }

    fn known(&mut self, path: &str, what: &str, name: &str, valid: &[&str]) {
        self.refuse_if(!valid.contains(&name), path, || {
            let hint = nearest(name, valid.iter().copied());
            let hint = hint.map(|name| format!("did you mean {name}? ")).unwrap_or_default();
            format!("there is no {what} {name}; {hint}there are: {}", valid.join(", "))
        });
    }

    fn ms(&mut self, path: fmt::Arguments<'_>, ms: Option<f64>) {
        let Some(ms) = ms else { return };
        self.refuse_if(!(0.0..=PATH_MS_MAX).contains(&ms), path, || {
            format!("{ms} is impossible: write milliseconds from 0 to {PATH_MS_MAX}")
        });
    }

    fn location(&mut self, path: impl fmt::Display, location: Option<&Location>) {
        let Some(location) = location else { return };
        self.country(format_args!("{path}.location.country"), &location.country);
        let (latitude, longitude) = (location.latitude.unwrap_or(0.0), location.longitude.unwrap_or(0.0));
        self.refuse_if(!(-90.0..=90.0).contains(&latitude), format_args!("{path}.location.latitude"), || {
            format!("{latitude} is impossible: write degrees from -90 to 90")
        });
        self.refuse_if(!(-180.0..=180.0).contains(&longitude), format_args!("{path}.location.longitude"), || {
            format!("{longitude} is impossible: write degrees from -180 to 180")
        });
    }

    fn country(&mut self, path: impl fmt::Display, country: &str) {
        let is_code = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        self.refuse_if(!is_code, path, || {
            format!("{country:?} is no country: write its ISO 3166-1 alpha-2 code, such as DE")
        });
    }
}
