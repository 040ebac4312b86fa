//! Values and the places they stand at: one reader per format, each giving JSON values and the line of every path.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser};

use super::parse::Format;

/// A place in a text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    pub(super) const START: Place = Place { line: 1, column: 1 };

    fn at_byte(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() as u32 + 1;
        Self { line, column }
    }
}

/// Where each path of one document stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<String, Place>);

impl Places {
    /// The place of `path`, or of the nearest enclosing part that has one.
    pub(super) fn nearest(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return *place;
            }
            if path.is_empty() {
                return Place::START;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }

    /// The places under `prefix`, without it.
    fn below(&self, prefix: &str) -> Self {
        let inside = |path: &String| path.strip_prefix(prefix).map(|rest| rest.trim_start_matches('.').to_owned());
        Self(self.0.iter().filter_map(|(path, place)| Some((inside(path)?, *place))).collect())
    }
}

/// One document as a value, and where its parts stand.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) value: Value,
    pub(super) places: Places,
}

/// Reads every document of a text, lists taken apart.
pub(super) fn read(text: &str, format: Format) -> Result<Vec<Source>, (Place, String)> {
    let roots = match format {
        Format::Yaml => read_yaml(text)?,
        Format::Json => vec![Source { value: read_json(text)?, places: yaml_places(text).pop().unwrap_or_default() }],
        Format::Toml => vec![read_toml(text)?],
    };
    Ok(roots.into_iter().flat_map(take_list_apart).collect())
}

fn take_list_apart(source: Source) -> Vec<Source> {
    let Value::Array(items) = source.value else {
        return vec![source];
    };
    let parts = items.into_iter().enumerate();
    parts.map(|(index, value)| Source { value, places: source.places.below(&format!("[{index}]")) }).collect()
}

fn read_yaml(text: &str) -> Result<Vec<Source>, (Place, String)> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let place =
            error.location().map_or(Place::START, |at| Place { line: at.line() as u32, column: at.column() as u32 });
        (place, format!("not valid YAML: {}", one_line(&error.without_snippet().to_string())))
    })?;
    let mut places = yaml_places(text).into_iter();
    let sources = values.into_iter().map(|value| Source { value, places: places.next().unwrap_or_default() });
    Ok(sources.filter(|source| !source.value.is_null()).collect())
}

fn read_json(text: &str) -> Result<Value, (Place, String)> {
    serde_json::from_str(text).map_err(|error| {
        let place = Place { line: error.line().max(1) as u32, column: error.column().max(1) as u32 };
        (place, format!("not valid JSON: {}", one_line(&error.to_string())))
    })
}

fn read_toml(text: &str) -> Result<Source, (Place, String)> {
    let wrong = |error: toml::de::Error| {
        let place = error.span().map_or(Place::START, |span| Place::at_byte(text, span.start));
        (place, format!("not valid TOML: {}", one_line(error.message())))
    };
    let value: Value = toml::from_str(text).map_err(wrong)?;
    let table = toml::de::DeTable::parse(text).map_err(wrong)?;
    let mut places = BTreeMap::from([(String::new(), Place::START)]);
    index_toml_table(text, table.get_ref(), "", &mut places);
    Ok(Source { value, places: Places(places) })
}

fn index_toml_table(text: &str, table: &toml::de::DeTable<'_>, path: &str, places: &mut BTreeMap<String, Place>) {
    for (key, value) in table.iter() {
        let inner = joined(path, key.get_ref());
        places.insert(inner.clone(), Place::at_byte(text, key.span().start));
        index_toml_value(text, value.get_ref(), &inner, places);
    }
}

fn index_toml_value(text: &str, value: &toml::de::DeValue<'_>, path: &str, places: &mut BTreeMap<String, Place>) {
    match value {
        toml::de::DeValue::Table(table) => index_toml_table(text, table, path, places),
        toml::de::DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let inner = format!("{path}[{index}]");
                places.insert(inner.clone(), Place::at_byte(text, item.span().start));
                index_toml_value(text, item.get_ref(), &inner, places);
            }
        }
        _ => {}
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The path of a key below a path.
pub(super) fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What the walk over YAML events is inside of.
enum Inside {
    /// An object: its path, and the key whose value comes next.
    Object(String, Option<String>),
    /// A list: its path, and the index of the item that comes next.
    List(String, usize),
}

/// The places of every document in a YAML (or JSON, which YAML holds) text. Where the text stops being YAML, so do they.
fn yaml_places(text: &str) -> Vec<Places> {
    let (mut documents, mut stack): (Vec<Places>, Vec<Inside>) = (Vec::new(), Vec::new());
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let place = Place { line: span.start.line() as u32, column: span.start.col() as u32 + 1 };
        if matches!(event, Event::DocumentStart(..)) {
            documents.push(Places::default());
        }
        let Some(Places(places)) = documents.last_mut() else { continue };
        match event {
            Event::MappingStart(..) => {
                let path = enter(&mut stack, place, places);
                stack.push(Inside::Object(path, None));
            }
            Event::SequenceStart(..) => {
                let path = enter(&mut stack, place, places);
                stack.push(Inside::List(path, 0));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
            }
            Event::Scalar(content, ..) => match stack.last_mut() {
                Some(Inside::Object(path, key @ None)) => {
                    places.entry(joined(path, &content)).or_insert(place);
                    *key = Some(content.into_owned());
                }
                _ => drop(enter(&mut stack, place, places)),
            },
            Event::Alias(_) => drop(enter(&mut stack, place, places)),
            _ => {}
        }
    }
    documents
}

/// The path of the value that begins here; an object's key is used up, a list's index moves on.
fn enter(stack: &mut [Inside], place: Place, places: &mut BTreeMap<String, Place>) -> String {
    let path = match stack.last_mut() {
        None => String::new(),
        Some(Inside::Object(path, key)) => joined(path, &key.take().unwrap_or_default()),
        Some(Inside::List(path, index)) => {
            *index += 1;
            format!("{path}[{}]", *index - 1)
        }
    };
    places.entry(path.clone()).or_insert(place);
    path
}

/// The steps of a path, read along `value` so that keys with points in them stay whole.
pub(super) fn steps_of(path: &str, value: &Value) -> Vec<String> {
    let (mut steps, mut rest, mut at) = (Vec::new(), path, Some(value));
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (step, length) = match at {
            Some(Value::Array(_)) => {
                let end = rest.find(']').unwrap_or(rest.len());
                (rest[..end].trim_start_matches('[').to_owned(), (end + 1).min(rest.len()))
            }
            Some(Value::Object(map)) => {
                let ends = |key: &&String| {
                    rest.strip_prefix(key.as_str())
                        .is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                };
                match map.keys().filter(ends).max_by_key(|key| key.len()) {
                    Some(key) => (key.clone(), key.len()),
                    None => return Vec::new(),
                }
            }
            _ => return Vec::new(),
        };
        at = match at {
            Some(Value::Array(items)) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            Some(Value::Object(map)) => map.get(&step),
            _ => None,
        };
        steps.push(step);
        rest = &rest[length..];
    }
    steps
}
