//! `persona-ctl activation replay`: a history of signals through personas' rules.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use persona_core::activate::{PersonaStory, RuleSet};
use persona_core::document::{BindingDocument, Document, FlapBudget, PersonaDocument};
use persona_core::ids::BindingName;
use persona_core::units::Span;

use super::Output;
use super::documents::Files;
use super::print::{listed, short_time, table_of, utc};
use crate::replay::{Question, Replay, ReplayedChange, replay};
use crate::trace::{read_rows, time_of};

/// Arguments of `activation replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "A trace is CSV with the header time,signal,value[,lifetime], or JSON lines with these keys; .gz is unpacked.\nTimes are RFC 3339, or seconds or milliseconds since 1970. A row with a lifetime is pushed, others are measured.\n\nExamples:\n  persona-ctl activation replay --trace monday.csv -f personas.yaml -f binding.yaml\n  persona-ctl activation replay --trace monday.jsonl.gz -f web.yaml --explain-at 2026-03-02T09:00:00Z"
)]
pub(super) struct ReplayArgs {
    /// The history of one subject's signals; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    #[command(flatten)]
    files: Files,
    /// The binding whose list gives the order, where the files have several. Without any: the order of the files.
    #[arg(long, value_name = "NAME")]
    binding: Option<BindingName>,
    /// A signal without a row for so long is unknown. Default: three usual intervals of the trace, 15s at least.
    #[arg(long, value_name = "TIME")]
    stale_after: Option<Span>,
    /// Tell every rule with what it saw at this time, instead of at the end.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    explain_at: Option<u64>,
    /// Tell every rule, at the end of the trace.
    #[arg(long)]
    explain: bool,
}

impl ReplayArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let documents = self.files.read()?;
        let (personas, budget) = in_order(&documents, self.binding.as_ref())?;
        let named = personas.iter().map(|persona| (persona.metadata.name.clone(), 1, &persona.spec));
        let rules = RuleSet::new(named)?;
        if rules.personas().is_empty() {
            bail!(
                "none of these personas has rules: give one a section activation, such as [{{ when: 'cpu.utilisation > 0.8' }}]"
            );
        }
        let rows = read_rows(&self.trace)?;
        let stale_after_ms = self.stale_after.map(|span| span.0);
        let question = Question { rules, budget, stale_after_ms, explain_at_ms: self.explain_at };
        let trace = self.trace.display();
        let replay = replay(&rows, question)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("{trace} cannot be replayed"))?;
        let with_story = self.explain || self.explain_at.is_some();
        output.show(&replay, |replay| tell(replay, with_story))?;
        if output == Output::Table {
            warn(&replay);
        }
        Ok(())
    }
}

/// The personas in the order of the binding, or of the files.
fn in_order<'a>(
    documents: &'a [Document],
    name: Option<&BindingName>,
) -> anyhow::Result<(Vec<&'a PersonaDocument>, FlapBudget)> {
    let persona_of = |document: &'a Document| match document {
        Document::Persona(persona) => Some(persona),
        _ => None,
    };
    let personas: Vec<&PersonaDocument> = documents.iter().filter_map(persona_of).collect();
    let Some(binding) = binding_of(documents, name)? else {
        return Ok((personas, FlapBudget::default()));
    };
    let find = |name: &persona_core::ids::PersonaName| {
        let found = personas.iter().find(|persona| persona.metadata.name == *name).copied();
        found.with_context(|| format!("{} names the persona {name}, which is not in the files", binding.metadata.name))
    };
    let ordered: anyhow::Result<Vec<&PersonaDocument>> = binding.spec.personas.iter().map(find).collect();
    Ok((ordered?, binding.spec.flap_budget.unwrap_or_default()))
}

fn binding_of<'a>(
    documents: &'a [Document],
    name: Option<&BindingName>,
) -> anyhow::Result<Option<&'a BindingDocument>> {
    let bindings: Vec<&BindingDocument> = documents
        .iter()
        .filter_map(|document| match document {
            Document::Binding(binding) => Some(binding),
            _ => None,
        })
        .collect();
    let names = || listed(bindings.iter().map(|binding| &binding.metadata.name));
    match (name, bindings.as_slice()) {
        (Some(name), _) => {
            let found = bindings.iter().find(|binding| binding.metadata.name == *name).copied();
            Ok(Some(found.with_context(|| format!("no binding {name} in the files; there are: {}", names()))?))
        }
        (None, []) => Ok(None),
        (None, [one]) => Ok(Some(one)),
        (None, _) => bail!("the files have several bindings: choose one with --binding, of {}", names()),
    }
}

fn tell(replay: &Replay, with_story: bool) -> String {
    let rows = replay.decisions.iter().map(|decision| {
        let (before, after) = sides(&decision.changes);
        let sections = listed(decision.changes.iter().map(|change| change.section));
        [utc(decision.time_ms), decision.outcome.to_owned(), sections, before, after, decision.reason.clone()]
    });
    let switches =
        table_of(&["TIME", "OUTCOME", "SECTIONS", "BEFORE", "AFTER", "WHY"], rows, "nothing would have switched");
    let length_ms = replay.to_ms.saturating_sub(replay.from_ms);
    let count = replay.decisions.iter().filter(|decision| decision.outcome == "switched").count();
    let share = |worn_ms: u64| 100.0 * worn_ms as f64 / length_ms.max(1) as f64;
    let worn = replay
        .worn_ms
        .iter()
        .map(|(persona, worn_ms)| format!("{persona} {} ({:.1} %)", short_time(*worn_ms), share(*worn_ms)));
    let summary = format!("{count} switches in {}; worn: {}", short_time(length_ms), listed(worn));
    let story = replay.story.as_ref().filter(|_| with_story).map(|story| tell_story(&story.personas));
    format!("{switches}\n\n{summary}{}", story.map(|story| format!("\n\n{story}")).unwrap_or_default())
}

fn sides(changes: &[ReplayedChange]) -> (String, String) {
    let side = |of: fn(&ReplayedChange) -> &Option<String>| {
        let mut names: Vec<&str> = changes.iter().map(|change| of(change).as_deref().unwrap_or("-")).collect();
        names.dedup();
        names.join(", ")
    };
    (side(|change| &change.before), side(|change| &change.after))
}

/// Every rule with its verdict and what it saw.
pub(super) fn tell_story(personas: &[PersonaStory]) -> String {
    let rows = personas.iter().flat_map(|persona| {
        persona.rules.iter().map(|rule| {
            let seen = rule.seen.iter().map(|seen| format!("{} ({})", seen.comparison, seen.value));
            let worn = listed(&persona.worn);
            [persona.persona.clone(), worn, rule.when.clone(), rule.verdict.clone(), listed(seen)]
        })
    });
    table_of(&["PERSONA", "WORN", "WHEN", "VERDICT", "SEEN"], rows, "no rules")
}

fn warn(replay: &Replay) {
    if !replay.never_known.is_empty() {
        eprintln!("warning: the trace never gave a value to {}", listed(&replay.never_known));
    }
    if !replay.unread.is_empty() {
        eprintln!("note: no rule reads {}", listed(&replay.unread));
    }
    if replay.backward_count > 0 {
        eprintln!(
            "warning: the trace goes back in time {} times; holds and cooldowns waited meanwhile",
            replay.backward_count
        );
    }
}
