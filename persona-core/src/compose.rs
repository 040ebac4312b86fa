//! Composition: which persona a subject wears in each section, and where every field of the result comes from.
//!
//! ```text
//!   node default  <  binding  <  activation  <  request  <  manual switch
//! ```
//! A subject wears at most one persona per section. A persona without a section leaves the lower layer's in force.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{PersonaSpec, Section, Selector, SelectorKind};
use crate::document::{digest_of, sorted};
use crate::ids::{PersonaName, SubjectId};
use crate::wire::api::EffectiveField;

/// Who decided that a persona is worn, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    /// What the subject's node wears.
    NodeDefault,
    /// A binding's default.
    Binding,
    /// An activation criterion.
    Activation,
    /// An application asked for capabilities.
    Request,
    /// A person switched.
    Manual,
}

impl Layer {
    /// Its word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeDefault => "nodeDefault",
            Self::Binding => "binding",
            Self::Activation => "activation",
            Self::Request => "request",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A persona that one layer puts on a subject.
#[derive(Debug, Clone)]
pub struct LayeredPersona<'a> {
    /// Who decided.
    pub layer: Layer,
    /// Only this section of it. Absent: every section it has.
    pub only: Option<Section>,
    /// Its name.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// What it says.
    pub spec: &'a PersonaSpec,
}

/// Where a section comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The persona.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Who decided.
    pub layer: Layer,
}

/// What a subject wears, all layers taken together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effective {
    /// The sections in force. Its capabilities are those of every persona that is worn in some section.
    pub sections: PersonaSpec,
    /// Where each section comes from.
    pub origins: BTreeMap<Section, Origin>,
}

/// Puts layers together. The order of the list matters only within a layer, where the first that has a section wins.
pub fn compose(layers: &[LayeredPersona<'_>]) -> Effective {
    let mut effective = Effective::default();
    for section in Section::ALL {
        let wears = |worn: &&LayeredPersona<'_>| worn.spec.has(section) && worn.only.is_none_or(|only| only == section);
        let strongest =
            layers.iter().filter(wears).reduce(|best, next| if next.layer > best.layer { next } else { best });
        let Some(worn) = strongest else { continue };
        copy_section(section, worn.spec, &mut effective.sections);
        effective.sections.capabilities.extend(worn.spec.capabilities.iter().cloned());
        let origin = Origin { persona: worn.persona.clone(), version: worn.version, layer: worn.layer };
        effective.origins.insert(section, origin);
    }
    effective.sections.capabilities.sort();
    effective.sections.capabilities.dedup();
    effective
}

fn copy_section(section: Section, from: &PersonaSpec, to: &mut PersonaSpec) {
    match section {
        Section::Network => to.network.clone_from(&from.network),
        Section::Qos => to.qos.clone_from(&from.qos),
        Section::Resources => to.resources.clone_from(&from.resources),
        Section::Security => to.security.clone_from(&from.security),
        Section::Software => to.software.clone_from(&from.software),
        Section::Monitoring => to.monitoring.clone_from(&from.monitoring),
        Section::Activation => to.activation.clone_from(&from.activation),
    }
}

impl Effective {
    /// Every field in force with its origin, in the order of the sections.
    pub fn fields(&self) -> Vec<EffectiveField> {
        let spec = serde_json::to_value(&self.sections).expect("a spec has string keys and finite numbers");
        let mut fields = Vec::new();
        for (section, origin) in &self.origins {
            collect_leaves(section.as_str(), &spec[section.as_str()], &mut |path, value| {
                fields.push(EffectiveField {
                    path: path.to_owned(),
                    value: value.clone(),
                    persona: format!("{}@{}", origin.persona, origin.version),
                    layer: origin.layer.to_string(),
                });
            });
        }
        fields
    }

    /// SHA-256 of the canonical form of sections and origins' personas, in hex. Which layer decided does not count.
    pub fn digest(&self) -> String {
        let worn = |origin: &Origin| Value::from(format!("{}@{}", origin.persona, origin.version));
        let origins = self.origins.iter().map(|(section, origin)| (section.to_string(), worn(origin)));
        let sections = serde_json::to_value(&self.sections).expect("a spec has string keys and finite numbers");
        digest_of(&sorted(serde_json::json!({ "sections": sections, "worn": Value::Object(origins.collect()) })))
    }
}

/// Calls `found` with every leaf; lists and empty objects are leaves.
fn collect_leaves(path: &str, value: &Value, found: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, inner)| collect_leaves(&format!("{path}.{key}"), inner, found));
        }
        leaf => found(path, leaf),
    }
}

/// The labels of a subject, by whose word they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// What the manager holds true of it: of join tokens, or bound by people.
    pub bound: BTreeMap<String, String>,
    /// What its node says of it.
    pub claimed: BTreeMap<String, String>,
}

impl Labels {
    /// All of them, what is bound above what is claimed.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.claimed.iter().chain(&self.bound).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Whether it has a label by anybody's word. What is bound stands above what is claimed.
    fn says(&self, (key, value): (&String, &String)) -> bool {
        self.bound.get(key).or_else(|| self.claimed.get(key)) == Some(value)
    }
}

/// Labels that would have to be bound for a selector to be for this subject, which claims them already. None: it is for the
/// subject as it is, or would not be even then.
pub fn unbound_labels<'a>(
    selector: &'a Selector,
    subject: &SubjectId,
    labels: &Labels,
) -> Option<Vec<(&'a String, &'a String)>> {
    let is_unbound = |(key, value): &(&String, &String)| labels.bound.get(*key) != Some(*value);
    let unbound: Vec<_> = selector.labels.iter().filter(is_unbound).collect();
    let are_claimed = unbound.iter().all(|(key, value)| labels.claimed.get(*key) == Some(*value));
    let rest = Selector { labels: BTreeMap::new(), ..selector.clone() };
    (!unbound.is_empty() && are_claimed && selector_matches(&rest, subject, labels)).then_some(unbound)
}

/// Whether a binding's selector is for this subject.
pub fn selector_matches(selector: &Selector, subject: &SubjectId, labels: &Labels) -> bool {
    let kind_matches = match subject {
        SubjectId::Node(_) => selector.kind == SelectorKind::Node,
        SubjectId::Workload(..) => selector.kind == SelectorKind::Workload,
    };
    let id = subject.to_string();
    kind_matches
        && (selector.names.is_empty() || selector.names.iter().any(|glob| glob_matches(glob.as_bytes(), id.as_bytes())))
        && selector.labels.iter().all(|(key, value)| labels.bound.get(key) == Some(value))
        && selector.claimed_labels.iter().all(|label| labels.says(label))
}

/// `*` is any run and `?` any one of the characters but `/`.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    // One row per prefix of the glob; whether it matches each prefix of the text.
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for wanted in glob {
        let mut diagonal = row[0];
        row[0] &= *wanted == b'*';
        for (index, byte) in text.iter().enumerate() {
            let above = row[index + 1];
            row[index + 1] = match wanted {
                b'*' => above || (row[index] && *byte != b'/'),
                b'?' => diagonal && *byte != b'/',
                exact => diagonal && exact == byte,
            };
            diagonal = above;
        }
    }
    row[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Format, parse_documents};

    fn spec(text: &str) -> PersonaSpec {
        let text = format!("{{apiVersion: persona/v1, kind: Persona, metadata: {{name: x}}, spec: {{{text}}}}}");
        match parse_documents(&text, Format::Yaml, "test").unwrap().remove(0) {
            Document::Persona(persona) => persona.spec,
            other => panic!("{other:?}"),
        }
    }

    fn worn<'a>(layer: Layer, name: &str, spec: &'a PersonaSpec) -> LayeredPersona<'a> {
        LayeredPersona { layer, only: None, persona: name.parse().unwrap(), version: 1, spec }
    }

    #[test]
    fn an_absent_section_leaves_the_lower_layer_in_force() {
        let frankfurt = spec("capabilities: [a], network: {egress: {pools: [fra]}}, qos: {egressRate: 1mbit}");
        let backup = spec("capabilities: [b], resources: {pids: 5}, qos: {egressRate: 2mbit}");
        let layers = [worn(Layer::Manual, "backup", &backup), worn(Layer::Binding, "frankfurt", &frankfurt)];
        let effective = compose(&layers);
        assert_eq!(effective.sections.network, frankfurt.network);
        assert_eq!(effective.sections.qos, backup.qos);
        let fields: Vec<_> = effective.fields().into_iter().map(|f| (f.path, f.persona, f.layer)).collect();
        let field = |path: &str, persona: &str, layer: &str| (path.to_owned(), persona.to_owned(), layer.to_owned());
        assert_eq!(fields[0], field("network.egress.pools", "frankfurt@1", "binding"));
        assert_eq!(fields[1], field("qos.egressRate", "backup@1", "manual"));
        assert_eq!(fields[2], field("resources.pids", "backup@1", "manual"));
        assert_eq!(effective.sections.capabilities.len(), 2);
    }

    #[test]
    fn the_order_of_layers_and_not_of_the_list_decides() {
        let (one, two) = (spec("qos: {egressRate: 1mbit}"), spec("qos: {egressRate: 2mbit}"));
        let (low, high) = (worn(Layer::Binding, "one", &one), worn(Layer::Request, "two", &two));
        let (up, down) = (compose(&[low.clone(), high.clone()]), compose(&[high.clone(), low.clone()]));
        assert_eq!(up, down);
        assert_eq!(up.digest(), down.digest());
        assert_ne!(up.digest(), compose(&[low]).digest());
    }

    #[test]
    fn selectors_match_by_kind_name_and_label() {
        let web: SubjectId = "workload/n1/web".parse().unwrap();
        let labels = Labels { bound: texts(&[("tier", "gold")]), claimed: BTreeMap::new() };
        let cases = [
            (SelectorKind::Workload, vec![], vec![], true),
            (SelectorKind::Node, vec![], vec![], false),
            (SelectorKind::Workload, vec!["workload/n1/*"], vec![], true),
            (SelectorKind::Workload, vec!["workload/*/w?b"], vec![("tier", "gold")], true),
            (SelectorKind::Workload, vec!["workload/*"], vec![], false),
            (SelectorKind::Workload, vec!["workload/n2/*", "workload/n1/web"], vec![], true),
            (SelectorKind::Workload, vec![], vec![("tier", "silver")], false),
        ];
        for (kind, names, wanted, expected) in cases {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let selector = Selector { kind, names, labels: texts(&wanted), claimed_labels: BTreeMap::new() };
            assert_eq!(selector_matches(&selector, &web, &labels), expected, "{selector:?}");
        }
    }

    fn texts(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_node_says_counts_only_where_a_selector_asks_for_its_word() {
        let web: SubjectId = "workload/n1/web".parse().unwrap();
        let labels =
            Labels { bound: texts(&[("tier", "silver")]), claimed: texts(&[("tier", "gold"), ("role", "proxy")]) };
        for (bound, claimed, expected, unbound) in [
            (vec![("tier", "silver")], vec![], true, None),
            (vec![("tier", "gold")], vec![], false, Some(vec!["tier"])),
            (vec![("role", "proxy")], vec![], false, Some(vec!["role"])),
            (vec![("role", "cache")], vec![], false, None),
            (vec![], vec![("role", "proxy")], true, None),
            (vec![], vec![("tier", "silver")], true, None),
            (vec![], vec![("tier", "gold")], false, None),
            (vec![("tier", "silver")], vec![("role", "proxy")], true, None),
            (vec![("tier", "silver"), ("role", "proxy")], vec![], false, Some(vec!["role"])),
            (vec![("role", "proxy")], vec![("zone", "a")], false, None),
        ] {
            let (labels_wanted, claimed_labels) = (texts(&bound), texts(&claimed));
            let kind = SelectorKind::Workload;
            let selector = Selector { kind, names: Vec::new(), labels: labels_wanted, claimed_labels };
            assert_eq!(selector_matches(&selector, &web, &labels), expected, "{selector:?}");
            let keys = unbound_labels(&selector, &web, &labels);
            let keys = keys.map(|labels| labels.into_iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
            assert_eq!(keys, unbound, "{selector:?}");
        }
    }
}
