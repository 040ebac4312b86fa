//! What is laid over a fleet: entries of its lists by name, in the fleet's own format.
//!
//! It is done on values, before anything is checked, so that what comes out is refused with the same words as a whole fleet.

use std::path::Path;

use anyhow::Context;
use persona_core::document::Format;
use persona_core::plan::{Fleet, FleetError, parse_fleet};
use serde_json::{Map, Value};

use super::documents::read_text;
use super::simulate::RefusedFleet;

/// The fleet with a file laid over it.
pub(super) fn changed(fleet: &Fleet, path: &Path) -> anyhow::Result<Fleet> {
    let (text, file) = read_text(path)?;
    let refused = |path: &str, message: String| RefusedFleet {
        file: file.clone(),
        errors: vec![FleetError { path: path.to_owned(), message }],
    };
    let changes: Value = match Format::from_path(path) {
        Format::Yaml => serde_saphyr::from_str(&text).with_context(|| format!("{file} is not valid YAML"))?,
        Format::Json => serde_json::from_str(&text).with_context(|| format!("{file} is not valid JSON"))?,
        Format::Toml => toml::from_str(&text).with_context(|| format!("{file} is not valid TOML"))?,
    };
    let Value::Object(changes) = changes else {
        return Err(refused("", "changes are an object with lists as in a fleet".to_owned()).into());
    };
    let mut whole = serde_json::to_value(fleet)?;
    let fields = whole.as_object_mut().expect("a fleet is an object");
    for (key, change) in changes {
        lay_over(fields, &key, change).map_err(|(path, message)| refused(&path, message))?;
    }
    Ok(parse_fleet(&whole.to_string(), Format::Json).map_err(|errors| RefusedFleet { file, errors })?)
}

/// Puts one key's change in. An entry without a name is refused with its path.
fn lay_over(fields: &mut Map<String, Value>, key: &str, change: Value) -> Result<(), (String, String)> {
    match (change, fields.get_mut(key)) {
        (Value::Array(entries), Some(Value::Array(known))) => {
            for (index, entry) in entries.into_iter().enumerate() {
                let missing = || (format!("{key}[{index}].name"), format!("{key}[{index}].name is missing"));
                let name = entry.get("name").and_then(Value::as_str).ok_or_else(missing)?.to_owned();
                let old = known.iter_mut().find(|old| old.get("name").and_then(Value::as_str) == Some(&name));
                match (old, entry) {
                    (Some(Value::Object(old)), Value::Object(entry)) => old.extend(entry),
                    (_, entry) => known.push(entry),
                }
            }
        }
        (Value::Object(entry), Some(Value::Object(known))) => known.extend(entry),
        // What the fleet lacks, or has in another shape, is for the reader to take or to refuse.
        (change, _) => drop(fields.insert(key.to_owned(), change)),
    }
    Ok(())
}
