//! What all documents share: `apiVersion`, `kind`, `metadata`, canonical form, digest and JSON Schema.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::binding::BindingDocument;
use super::check_persona::persona_hints;
use super::parse::{DocumentError, read_document};
use super::persona::{PersonaDocument, Section};
use super::pool::PoolDocument;

/// The version of the document format.
pub const API_VERSION: &str = "persona/v1";

/// The key of a document's metadata that says from which stored version it was read.
pub const RESOURCE_VERSION: &str = "resourceVersion";

/// A document's name and what people hang on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata<Name> {
    /// Its name, unique per kind.
    pub name: Name,
    /// For selecting.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people and tools; nothing here looks at them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The stored version that this was read from, as `get` shows it: storing it is refused if there is a newer one.
    #[serde(default, rename = "resourceVersion", skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// What kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// [`PersonaDocument`].
    Persona,
    /// [`BindingDocument`].
    Binding,
    /// [`PoolDocument`].
    EgressPool,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Persona, Kind::Binding, Kind::EgressPool];

    /// Its word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Persona => "Persona",
            Self::Binding => "Binding",
            Self::EgressPool => "EgressPool",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A document that was read and checked.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "documents are few, and matching on them is what everyone does")]
pub enum Document {
    /// How a subject appears.
    Persona(PersonaDocument),
    /// Who may wear what.
    Binding(BindingDocument),
    /// Addresses to lease from.
    EgressPool(PoolDocument),
}

impl Document {
    /// Reads and checks a document that came as JSON; errors have paths but no file and line.
    pub fn from_json(value: Value) -> Result<Self, Vec<DocumentError>> {
        read_document(value).map_err(|problems| {
            let unplaced = |(path, message)| DocumentError { file: String::new(), line: 0, column: 0, path, message };
            problems.into_iter().map(unplaced).collect()
        })
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Persona(_) => Kind::Persona,
            Self::Binding(_) => Kind::Binding,
            Self::EgressPool(_) => Kind::EgressPool,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Persona(document) => document.metadata.name.as_str(),
            Self::Binding(document) => document.metadata.name.as_str(),
            Self::EgressPool(document) => document.metadata.name.as_str(),
        }
    }

    /// The stored version that it was read from, if it says so.
    pub fn resource_version(&self) -> Option<&str> {
        let version = match self {
            Self::Persona(document) => &document.metadata.resource_version,
            Self::Binding(document) => &document.metadata.resource_version,
            Self::EgressPool(document) => &document.metadata.resource_version,
        };
        version.as_deref()
    }

    /// The canonical form: keys sorted, units as short as they go, nothing that was not written, and not which version
    /// it was read from.
    pub fn to_json(&self) -> Value {
        let body = match self {
            Self::Persona(document) => serde_json::to_value(document),
            Self::Binding(document) => serde_json::to_value(document),
            Self::EgressPool(document) => serde_json::to_value(document),
        };
        let mut value = body.expect("a document has string keys and finite numbers");
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove(RESOURCE_VERSION);
        }
        value["apiVersion"] = API_VERSION.into();
        value["kind"] = self.kind().as_str().into();
        sorted(value)
    }

    /// SHA-256 of the canonical form, in hex.
    pub fn digest(&self) -> String {
        digest_of(&self.to_json())
    }

    /// What is stored but not done by this release, and other things worth knowing.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Self::Persona(persona) => {
                let stored = persona.spec.sections().filter(|section| !section.is_enforced());
                stored.map(warning_of).chain(persona_hints(&persona.spec)).collect()
            }
            Self::Binding(_) | Self::EgressPool(_) => Vec::new(),
        }
    }
}

fn warning_of(section: Section) -> String {
    match section {
        Section::Software => {
            "spec.software is installed inside guests that permit it; elsewhere what differs is told, and nothing is installed"
                .to_owned()
        }
        other => format!("spec.{other} is stored, but this release does not enforce it"),
    }
}

/// SHA-256 of a canonical JSON value, in hex.
pub(crate) fn digest_of(value: &Value) -> String {
    crate::hex::encode(&Sha256::digest(value.to_string()))
}

/// The value with the keys of every object in ascending order.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The JSON Schema (draft 2020-12) of every kind of document.
pub fn json_schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let bodies = [
        (Kind::Persona, generator.subschema_for::<PersonaDocument>()),
        (Kind::Binding, generator.subschema_for::<BindingDocument>()),
        (Kind::EgressPool, generator.subschema_for::<PoolDocument>()),
    ];
    let mut definitions = Value::Object(generator.take_definitions(true));
    for (kind, body) in &bodies {
        let name = body.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
        let name = name.expect("a document's schema is a reference to its definition").to_owned();
        close_envelope(&mut definitions[&name], *kind);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.invalid/persona/v1.schema.json",
        "title": "Persona documents, persona/v1",
        "oneOf": bodies.iter().map(|(_, body)| body.as_value().clone()).collect::<Vec<_>>(),
        "$defs": definitions,
    })
}

/// Adds `apiVersion` and `kind`, which are no fields of the document types, to a document's schema.
fn close_envelope(schema: &mut Value, kind: Kind) {
    schema["properties"]["apiVersion"] = json!({ "const": API_VERSION });
    schema["properties"]["kind"] = json!({ "const": kind.as_str() });
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_every_kind_and_closes_every_object() {
        let schema = json_schema();
        assert_eq!(schema["oneOf"].as_array().unwrap().len(), Kind::ALL.len());
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, definition) in definitions.iter().filter(|(_, value)| value.get("properties").is_some()) {
            assert_eq!(definition["additionalProperties"], false, "{name}");
        }
        assert_eq!(schema["$defs"]["PersonaDocument"]["properties"]["kind"]["const"], "Persona");
    }
}
