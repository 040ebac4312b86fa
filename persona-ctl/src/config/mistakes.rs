//! Every mistake of a configuration file, not only the first: a key that cannot be read is taken out of what was parsed,
//! and the rest is read again, by the same types that the role reads it with.

use std::borrow::Cow;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// A file with more mistakes than this is no configuration.
const MISTAKE_COUNT_MAX: usize = 100;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The line, from 1. None: it is nowhere in the file, such as a key that is missing.
    pub line: Option<usize>,
    /// The key, with the sections that it is in, such as `workload[1].vlan`. None: the file as a whole.
    pub key: Option<String>,
    /// What is wrong, and what would be valid.
    pub message: String,
}

/// What a mistake is about that reading alone does not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A key, with the sections that it is in and dots between.
    Key(&'static str),
    /// The entry of a list that has this name: list, name.
    Entry(&'static str, String),
    /// No single key.
    File,
}

/// What was read, or why not.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Mistake>> {
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mistakes = errors.iter().take(MISTAKE_COUNT_MAX);
        return Err(in_order(mistakes.map(|error| mistake(text, error.span(), None, error.message())).collect()));
    }
    let mut mistakes = Vec::new();
    while mistakes.len() < MISTAKE_COUNT_MAX {
        let error = match T::deserialize(Deserializer::from(tree.clone())) {
            Ok(value) if mistakes.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let key = error.span().and_then(|span| take_out(tree.get_mut(), &span));
        let is_taken_out = key.is_some();
        mistakes.push(mistake(text, error.span(), key, error.message()));
        if !is_taken_out {
            break; // the rest cannot be read without it
        }
    }
    Err(in_order(mistakes))
}

fn in_order(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort_by_key(|mistake| mistake.line);
    mistakes
}

/// A mistake at a place in the file, where the file has it.
pub fn located(text: &str, place: &Place, message: String) -> Mistake {
    let tree = DeTable::parse_recoverable(text).0.into_inner();
    let (span, key) = match place {
        Place::File => (None, None),
        Place::Key(key) => (span_of(&tree, key), Some((*key).to_owned())),
        Place::Entry(list, name) => match entry(&tree, list, name) {
            Some((index, span)) => (Some(span), Some(format!("{list}[{}]", index + 1))),
            None => (None, Some((*list).to_owned())),
        },
    };
    Mistake { line: span.map(|span| line_of(text, &span)), key, message }
}

fn span_of(tree: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut parts = key.split('.');
    let outer = tree.get(parts.next()?)?;
    parts.try_fold(outer, |value, part| value.get_ref().as_table()?.get(part)).map(Spanned::span)
}

fn entry(tree: &DeTable<'_>, list: &str, name: &str) -> Option<(usize, Range<usize>)> {
    let entries = tree.get(list)?.get_ref().as_array()?;
    let is_named = |entry: &Spanned<DeValue<'_>>| {
        let found = entry.get_ref().as_table().and_then(|table| table.get("name"));
        found.and_then(|value| value.get_ref().as_str()) == Some(name)
    };
    let index = entries.iter().position(is_named)?;
    Some((index, entries[index].span()))
}

fn mistake(text: &str, span: Option<Range<usize>>, key: Option<String>, message: &str) -> Mistake {
    Mistake { line: span.map(|span| line_of(text, &span)), key, message: message.trim().replace('\n', ", ") }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = &text.as_bytes()[..span.start.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Takes the innermost key or entry at `span` out of the table, and returns its path. What is written under a header
/// lies outside of the header's span, so that insides are looked into first.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (key, value) in table.iter_mut() {
        if let Some(inside) = take_out_of_value(value.get_mut(), span) {
            return Some(format!("{}{inside}", key.get_ref()));
        }
    }
    let holds = |it: Range<usize>| it.start <= span.start && span.end <= it.end;
    let found = table.iter().find(|(key, value)| holds(key.span()) || holds(value.span()));
    let key: Spanned<Cow<'_, str>> = found.map(|(key, _)| key.clone())?;
    table.remove(&key);
    Some(key.into_inner().into_owned())
}

fn take_out_of_value(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => take_out(table, span).map(|inside| format!(".{inside}")),
        DeValue::Array(array) => take_out_of_array(array, span),
        _ => None,
    }
}

fn take_out_of_array(array: &mut DeArray<'_>, span: &Range<usize>) -> Option<String> {
    for (index, value) in array.iter_mut().enumerate() {
        if let Some(inside) = take_out_of_value(value.get_mut(), span) {
            return Some(format!("[{}]{inside}", index + 1));
        }
    }
    let holds = |it: Range<usize>| it.start <= span.start && span.end <= it.end;
    let gone = array.iter().position(|value| holds(value.span()))?;
    let rest = std::mem::replace(array, DeArray::new()).into_iter().enumerate().filter(|(index, _)| *index != gone);
    *array = rest.map(|(_, value)| value).collect();
    Some(format!("[{}]", gone + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentFile;

    fn found(text: &str) -> Vec<(Option<usize>, String)> {
        let mistakes = read::<AgentFile>(text).map(drop).expect_err("there are mistakes");
        mistakes.into_iter().map(|it| (it.line, it.key.unwrap_or_default())).collect()
    }

    #[test]
    fn every_mistake_is_found_with_line_and_key() {
        let text = "name = 'N 1'\nuplnk = 'eth0'\nadopt_secs = -1\nbypass = ['10.0.0.0/8', '10.0.0.1/8']\n\
                    [limits]\ndrift = 'mend'\nshrink_secs = 5\n[[workload]]\nname = 'a'\n\
                    [[workload]]\nname = 'b'\nvlan = 'x'\ncolour = 'red'\n[host]\ncgroup = 7\n";
        let expected = [
            (Some(1), "name"),
            (Some(2), "uplnk"),
            (Some(3), "adopt_secs"),
            (Some(4), "bypass[2]"),
            (Some(6), "limits.drift"),
            (Some(12), "workload[2].vlan"),
            (Some(13), "workload[2].colour"),
            (Some(15), "host.cgroup"),
        ];
        assert_eq!(found(text), expected.map(|(line, key)| (line, key.to_owned())));
    }

    #[test]
    fn a_section_that_lacks_a_key_is_named() {
        assert_eq!(found("name = 'a'\n[flow_export]\ndomain = 1\n"), [(Some(2), "flow_export".to_owned())]);
    }

    #[test]
    fn a_key_is_found_in_its_section() {
        let text = "listen = '127.0.0.1:1'\n[telemetry]\notlp = 'tcp://x'\n";
        for (key, line) in
            [("listen", Some(1)), ("telemetry.otlp", Some(3)), ("telemetry.other", None), ("other", None)]
        {
            assert_eq!(located(text, &Place::Key(key), String::new()).line, line, "{key}");
        }
    }

    #[test]
    fn what_is_no_toml_is_said_by_line() {
        let mistakes = found("name = 'n1'\nuplink = \n[labels\n");
        assert_eq!(mistakes.first().and_then(|(line, _)| *line), Some(2), "{mistakes:?}");
        assert!(mistakes.iter().any(|(line, _)| *line == Some(3)), "{mistakes:?}");
    }

    #[test]
    fn what_is_right_is_read() {
        let file: AgentFile = read("name = 'n1'\nuplink = 'eth0'\n").unwrap();
        assert_eq!(file.uplink.as_deref(), Some("eth0"));
    }

    #[test]
    fn an_entry_is_found_by_its_name() {
        let text = "[[workload]]\nname = 'a'\n\n[[workload]]\nname = 'b'\n";
        let place = |list, name: &str| located(text, &Place::Entry(list, name.to_owned()), String::new());
        assert_eq!(
            (place("workload", "b").line, place("workload", "b").key),
            (Some(4), Some("workload[2]".to_owned()))
        );
        assert_eq!(place("service", "b").line, None);
        assert_eq!(located(text, &Place::Key("uplink"), String::new()).line, None);
    }
}
