//! The text format of Prometheus: what a selection adds up to in it.
//!
//! Only lines of selected names are read further than their name, so that a page of a thousand series costs little. What is
//! not of the format is left out: whoever wrote the page must not decide about the rest of it.

use std::borrow::Cow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest selection, bytes.
const SELECTION_LENGTH_MAX: usize = 500;

/// Which series of a page make a signal, and how: `NAME{label="value"}` as they are, `rate(…)` as their growth per second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selection {
    name: String,
    /// Labels that a series must have, with these values; others it may have.
    labels: Vec<(String, String)>,
    is_rate: bool,
}

/// A text that selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} selects no series: write NAME, NAME{{label=\"value\"}} or rate(NAME{{label=\"value\"}})")]
pub struct InvalidSelection {
    given: String,
}

impl Selection {
    /// Whether the signal is what the series grow by in a second.
    pub(super) fn is_rate(&self) -> bool {
        self.is_rate
    }

    fn selects(&self, labels: &[(&str, Cow<'_, str>)]) -> bool {
        let has = |(name, value): &(String, String)| labels.iter().any(|(known, it)| known == name && it == value);
        self.labels.iter().all(has)
    }
}

impl FromStr for Selection {
    type Err = InvalidSelection;
    fn from_str(text: &str) -> Result<Self, InvalidSelection> {
        let invalid = || InvalidSelection { given: text.chars().take(SELECTION_LENGTH_MAX).collect() };
        let inner = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')'));
        let (name, rest) = name_of(inner.unwrap_or(text)).ok_or_else(invalid)?;
        let (labels, rest) = labels_of(rest).ok_or_else(invalid)?;
        if !rest.is_empty() || text.len() > SELECTION_LENGTH_MAX {
            return Err(invalid());
        }
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
        Ok(Self { name: name.to_owned(), labels, is_rate: inner.is_some() })
    }
}

impl TryFrom<String> for Selection {
    type Error = InvalidSelection;
    fn try_from(text: String) -> Result<Self, InvalidSelection> {
        text.parse()
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> Self {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            selection.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let series = format!("{}{labels}", selection.name);
        if selection.is_rate { format!("rate({series})") } else { series }
    }
}

/// What each selection adds up to on a page. None: no series of it is there with a finite value.
pub(super) fn sums<'a>(page: &str, selections: impl Iterator<Item = &'a Selection>) -> Vec<Option<f64>> {
    let mut sums: Vec<(&Selection, Option<f64>)> = selections.map(|selection| (selection, None)).collect();
    for line in page.lines() {
        let Some((name, rest)) = name_of(line) else { continue };
        if !sums.iter().any(|(selection, _)| selection.name == name) {
            continue;
        }
        let Some((labels, rest)) = labels_of(rest) else { continue };
        let value = rest.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        let Some(value) = value.filter(|value| value.is_finite()) else { continue };
        for (selection, sum) in &mut sums {
            if selection.name == name && selection.selects(&labels) {
                *sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
    }
    sums.into_iter().map(|(_, sum)| sum).collect()
}

/// A name at the beginning, and what follows it.
fn name_of(text: &str) -> Option<(&str, &str)> {
    let is_first = |char: char| char.is_ascii_alphabetic() || char == '_' || char == ':';
    let length = text.find(|char: char| !is_first(char) && !char.is_ascii_digit()).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    name.starts_with(is_first).then_some((name, rest))
}

/// Labels, with their values as they are meant.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Labels in braces at the beginning, if there are any, and what follows them.
fn labels_of(text: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    let Some(mut rest) = text.trim_start().strip_prefix('{') else { return Some((labels, text)) };
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = name_of(rest)?;
        let quoted = after.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        let (value, after) = quoted_value(quoted)?;
        labels.push((name, value));
        let after = after.trim_start();
        rest = after.strip_prefix(',').unwrap_or(after);
        if !after.starts_with([',', '}']) {
            return None;
        }
    }
}

/// A value up to its closing quote, and what follows that.
fn quoted_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })?;
    let (value, rest) = (&text[..end], &text[end + 1..]);
    Some((if value.contains('\\') { unescaped(value).into() } else { value.into() }, rest))
}

fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="get", code="200",} 3
http_requests_total{method="post",code="500"}  7
http_requests_total_created 5
queue_length 42
path_seconds{path="C:\\DIR\\",say="\"hi\"\n"} 0.5
broken{path="x} 9
broken 2 # {trace="a"} 1
temperature NaN
temperature{at="a"} -1.5e0
load +Inf
 leading_space 4
http_requests_total{code="200"
"#;

    fn sum(selection: &str) -> Option<f64> {
        sums(PAGE, [&selection.parse().unwrap()].into_iter())[0]
    }

    #[test]
    fn series_are_selected_by_name_and_labels_and_added_up() {
        for (selection, expected) in [
            ("queue_length", Some(42.0)),
            ("http_requests_total", Some(1_037.0)),
            (r#"http_requests_total{code="200"}"#, Some(1_030.0)),
            (r#"rate(http_requests_total{code="200", method="get"})"#, Some(3.0)),
            (r#"http_requests_total{code="404"}"#, None),
            (r#"path_seconds{path="C:\\DIR\\",say="\"hi\"\n"}"#, Some(0.5)),
            ("broken", Some(2.0)),
            ("temperature", Some(-1.5)),
            ("load", None),
            ("leading_space", None),
            ("http_requests", None),
        ] {
            assert_eq!(sum(selection), expected, "{selection}");
        }
    }

    #[test]
    fn a_selection_is_written_as_it_was_read_or_refused() {
        for text in ["up", r#"rate(a:b{c="d"})"#, r#"a{b="\\\"\n"}"#] {
            assert_eq!(String::from(text.parse::<Selection>().unwrap()), text);
        }
        for text in ["", "rate(up", "up)", "9up", "up{", "up{a=b}", r#"up{a="b"} x"#, "up{a=\"b\" c=\"d\"}", "up > 5"] {
            let error = text.parse::<Selection>().unwrap_err().to_string();
            assert!(error.contains("rate(NAME"), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_page_stops_it(page in "[ -~\\n\\\\\"é]{0,300}") {
            let all = [&"a".parse().unwrap(), &"rate(b{c=\"d\"})".parse().unwrap()];
            let page = format!("a{{{page}\na 1\n");
            proptest::prop_assert!(sums(&page, all.into_iter())[0].is_some());
        }
    }
}
