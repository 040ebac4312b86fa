//! From text to checked documents.
//!
//! Text becomes JSON values and an index of places ([`super::place`]); each value becomes a typed document. Reading
//! goes on after an error by taking the wrong part out, so that one run names every mistake.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::{self, Problem};
use super::envelope::{API_VERSION, Document, Kind};
use super::place::{self, Place, Source, joined};
use crate::nearest::nearest;

/// A run names at most this many mistakes per document.
const ERROR_COUNT_MAX: usize = 50;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML: any number of documents, each an object or a list of objects.
    Yaml,
    /// JSON: an object or an array of objects.
    Json,
    /// TOML: one document.
    Toml,
}

impl Format {
    /// The format that a file name's ending says; YAML for an unknown one, which also reads most JSON.
    pub fn from_path(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Self::Json,
            Some("toml") => Self::Toml,
            _ => Self::Yaml,
        }
    }
}

/// Something wrong in a document: where, what, and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The file, or empty.
    pub file: String,
    /// From 1; 0 where the document did not come as text.
    pub line: u32,
    /// From 1; 0 where the document did not come as text.
    pub column: u32,
    /// Such as `spec.network.mtu`, or empty.
    pub path: String,
    /// What is wrong and what would be valid.
    pub message: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(formatter, "{}:{}:{}: ", self.file, self.line, self.column)?;
        } else if !self.file.is_empty() {
            write!(formatter, "{}: ", self.file)?;
        }
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Reads and checks every document in `text`; `file` is only for messages. All errors of all documents, or all
/// documents.
pub fn parse_documents(text: &str, format: Format, file: &str) -> Result<Vec<Document>, Vec<DocumentError>> {
    let at = |place: Place, path: String, message: String| DocumentError {
        file: file.to_owned(),
        line: place.line,
        column: place.column,
        path,
        message,
    };
    let sources = place::read(text, format).map_err(|(place, message)| vec![at(place, String::new(), message)])?;
    if sources.is_empty() {
        let message = "no document here: write apiVersion, kind, metadata and spec".to_owned();
        return Err(vec![at(Place::START, String::new(), message)]);
    }
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for source in sources {
        let Source { value, places } = source;
        match read_document(value) {
            Ok(document) => documents.push(document),
            Err(problems) => {
                errors.extend(problems.into_iter().map(|(path, message)| at(places.nearest(&path), path, message)))
            }
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// Reads one document from JSON and checks it.
pub(super) fn read_document(mut value: Value) -> Result<Document, Vec<Problem>> {
    let kind = take_kind(&mut value)?;
    let document = match kind {
        Kind::Persona => read_typed(value).map(Document::Persona),
        Kind::Binding => read_typed(value).map(Document::Binding),
        Kind::EgressPool => read_typed(value).map(Document::EgressPool),
    }?;
    let problems = check::problems_of(&document);
    if problems.is_empty() { Ok(document) } else { Err(problems) }
}

/// Takes `apiVersion` and `kind` out of a document and judges them.
fn take_kind(value: &mut Value) -> Result<Kind, Vec<Problem>> {
    let Some(object) = value.as_object_mut() else {
        return Err(vec![problem("", "a document is an object with apiVersion, kind, metadata and spec")]);
    };
    let mut problems = Vec::new();
    match object.shift_remove("apiVersion") {
        Some(Value::String(version)) if version == API_VERSION => {}
        Some(other) => problems.push(problem("apiVersion", format!("{other} is not known: write {API_VERSION}"))),
        None => problems.push(problem("", format!("apiVersion is missing: write apiVersion: {API_VERSION}"))),
    }
    let kinds = Kind::ALL.map(Kind::as_str).join(", ");
    let kind = match object.shift_remove("kind") {
        Some(given) => {
            let known = Kind::ALL.into_iter().find(|kind| given.as_str() == Some(kind.as_str()));
            known.ok_or_else(|| problem("kind", format!("{given} is not known: write one of {kinds}")))
        }
        None => Err(problem("", format!("kind is missing: write one of {kinds}"))),
    };
    match kind {
        Ok(kind) if problems.is_empty() => Ok(kind),
        Ok(_) => Err(problems),
        Err(wrong) => Err(problems.into_iter().chain([wrong]).collect()),
    }
}

fn problem(path: &str, message: impl Into<String>) -> Problem {
    (path.to_owned(), message.into())
}

/// Reads a typed body. After an error the wrong part is taken out and the rest is read again.
fn read_typed<T: DeserializeOwned>(mut value: Value) -> Result<T, Vec<Problem>> {
    let (mut problems, mut removed): (Vec<Problem>, Vec<String>) = (Vec::new(), Vec::new());
    for _ in 0..ERROR_COUNT_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(body) if problems.is_empty() => return Ok(body),
            Ok(_) => break,
            Err(error) => error,
        };
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        let text = error.inner().to_string();
        match missing_field(&text) {
            // A field that was taken out because it was wrong has been named already.
            Some(field) if removed.contains(&joined(&path, field)) => {}
            Some(field) => problems.push((path.clone(), format!("{field} is missing"))),
            None => problems.push((path.clone(), explain(&path, &text))),
        }
        // The later items of a list would move, so a list with a wrong item goes as a whole.
        let part = path.trim_end_matches(|char: char| char == ']' || char.is_ascii_digit());
        let part = part.strip_suffix('[').unwrap_or(&path);
        if !take_out(&mut value, part) {
            break;
        }
        removed.push(part.to_owned());
    }
    Err(problems)
}

/// Takes a wrong part out; a wrong name becomes some name, because nothing can be read without one.
fn take_out(value: &mut Value, path: &str) -> bool {
    match value.pointer_mut("/metadata/name") {
        Some(name) if path == "metadata.name" && *name != NAME_PLACEHOLDER => {
            *name = NAME_PLACEHOLDER.into();
            true
        }
        _ => remove_at(value, path),
    }
}

/// Stands for a wrong name while the rest is read.
const NAME_PLACEHOLDER: &str = "x";

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// Sections of later releases, which a document of this one must not have.
const LATER_SECTIONS: [&str; 3] = ["provisioning", "application", "resolution"];

/// Turns serde's message into one that says what would be valid.
fn explain(path: &str, message: &str) -> String {
    let unknown = message.strip_prefix("unknown field `").map(|rest| ("key", rest));
    let unknown = unknown.or_else(|| message.strip_prefix("unknown variant `").map(|rest| ("value", rest)));
    let Some((what, rest)) = unknown else {
        return message.to_owned();
    };
    let quoted: Vec<&str> = rest.split('`').step_by(2).collect();
    let Some((given, valid)) = quoted.split_first() else {
        return message.to_owned();
    };
    let mut valid: Vec<&str> = valid.iter().copied().filter(|name| !name.is_empty()).collect();
    valid.sort_unstable();
    if path.starts_with("spec.") && LATER_SECTIONS.contains(given) && what == "key" {
        return format!("section {given} is not known to this release; valid keys: {}", valid.join(", "));
    }
    let meant = nearest(given, valid.iter().copied());
    let hint = meant.map(|name| format!("did you mean {name}? ")).unwrap_or_default();
    format!("unknown {what} {given}; {hint}valid {what}s: {}", valid.join(", "))
}

/// Takes the value at `path` out; false if there is nothing to take out.
fn remove_at(value: &mut Value, path: &str) -> bool {
    let mut at = value;
    let mut steps = place::steps_of(path, at).into_iter().peekable();
    while let Some(step) = steps.next() {
        let is_last = steps.peek().is_none();
        match at {
            Value::Object(map) if is_last => return map.shift_remove(&step).is_some(),
            Value::Object(map) => match map.get_mut(&step) {
                Some(next) => at = next,
                None => return false,
            },
            Value::Array(items) => match step.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                Some(next) if !is_last => at = next,
                _ => return false,
            },
            _ => return false,
        }
    }
    false
}
