//! `persona-ctl node | edge | workload label`: labels that are bound on the manager, for selectors to rest on.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use persona_core::label_selector::LabelSelector;
use persona_core::wire::api::LabelsView;

use super::Session;
use super::print::table_of;

/// Which entries of a list are meant.
#[derive(Debug, Clone, Args)]
pub(super) struct SelectArgs {
    /// Only those with these labels, such as tier=gold,zone!=b,team,!old.
    #[arg(long = "selector", short = 'l', value_name = "LABELS")]
    pub selector: Option<LabelSelector>,
}

/// Labels to bind and to take away; none: only show them.
#[derive(Debug, Clone, Args)]
pub(super) struct LabelArgs {
    /// KEY=VALUE binds a label, KEY- takes away one that is bound. None: show who says what.
    #[arg(value_name = "KEY=VALUE|KEY-")]
    changes: Vec<LabelChange>,
}

/// One label to bind, or to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LabelChange {
    key: String,
    value: Option<String>,
}

impl FromStr for LabelChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.strip_suffix('-').unwrap_or_default(), None),
        };
        match key.is_empty() {
            true => Err(format!("{text:?} is no label: write KEY=VALUE to bind one, KEY- to take one away")),
            false => Ok(Self { key: key.to_owned(), value }),
        }
    }
}

impl LabelArgs {
    /// Binds them to `node/NAME`, `edge/NAME` or `workload/NODE/NAME`.
    pub(super) async fn run(self, session: &Session, of: &str) -> anyhow::Result<()> {
        let before = session.client.labels(of).await?;
        let view = match self.changes.is_empty() {
            true => before.value,
            false => {
                let labels = changed(&before.value.labels, &self.changes);
                session.client.set_labels(of, &before, labels).await?
            }
        };
        session.output.show(&view, tell)
    }
}

fn changed(before: &BTreeMap<String, String>, changes: &[LabelChange]) -> BTreeMap<String, String> {
    let mut labels = before.clone();
    for LabelChange { key, value } in changes {
        match value {
            Some(value) => _ = labels.insert(key.clone(), value.clone()),
            None => _ = labels.remove(key),
        }
    }
    labels
}

fn tell(view: &LabelsView) -> String {
    let of = |labels: &BTreeMap<String, String>, by: &str| -> Vec<[String; 3]> {
        labels.iter().map(|(key, value)| [key.clone(), value.clone(), by.to_owned()]).collect()
    };
    let is_over = |key: &String| view.labels.contains_key(key) || view.inherited.contains_key(key);
    let claimed: BTreeMap<_, _> = view.claimed.clone().into_iter().filter(|(key, _)| !is_over(key)).collect();
    let rows = of(&view.labels, "bound").into_iter().chain(of(&view.inherited, "bound to its node"));
    let rows = rows.chain(of(&claimed, "its own word"));
    table_of(&["LABEL", "VALUE", "BY"], rows, "no labels")
}

/// Labels in one line, those marked that only their holder says.
pub(super) fn line(all: &BTreeMap<String, String>, bound: &BTreeMap<String, String>) -> String {
    let told = |(key, value): (&String, &String)| match bound.get(key) == Some(value) {
        true => format!("{key}={value}"),
        false => format!("{key}={value} (its own word)"),
    };
    super::print::listed(all.iter().map(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bound_and_taken_away_by_one_word_each() {
        let parse = |text: &str| text.parse::<LabelChange>().ok().map(|it| (it.key, it.value));
        let cases = [
            ("tier=gold", Some(("tier", Some("gold")))),
            ("tier=", Some(("tier", Some("")))),
            ("a=b=c", Some(("a", Some("b=c")))),
            ("tier-", Some(("tier", None))),
            ("tier", None),
            ("-", None),
            ("=gold", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
            assert_eq!(parse(text), expected, "{text}");
        }
        let before = [("tier", "gold"), ("zone", "a")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let changes = ["tier-", "zone=b", "new=1"].map(|text| text.parse().unwrap());
        let after: Vec<(String, String)> = changed(&before, &changes).into_iter().collect();
        assert_eq!(after, [("new", "1"), ("zone", "b")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
