//! `persona-ctl persona apply`, `validate` and `diff`: what works on files.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use persona_core::document::{Change, Document, Kind, RESOURCE_VERSION, diff};
use persona_core::label_selector::LabelSelector;
use persona_core::wire::api::{Applied, Apply};
use serde_json::Value;

use super::documents::{Files, read_files};
use super::persona::NameAtVersion;
use super::print::table_of;
use super::{Output, Session};
use crate::client::{Applying, ClientError};

/// Arguments of `persona apply`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  persona-ctl persona apply -f personas.yaml -f pools.toml\n  persona-ctl persona apply -f shop.yaml --prune -l app=shop   deletes what has the label and is in no file\n  generate | persona-ctl persona apply -f - --dry-run\n  persona-ctl persona get eu -o yaml > eu.yaml        then edit it; apply refuses it if others changed eu meanwhile"
)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    files: Files,
    /// Say what would happen, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Go over what others have changed since the documents were read (their `metadata.resourceVersion`).
    #[arg(long)]
    force_conflicts: bool,
    /// Delete all documents with the labels of --selector that are not in the files, in the same transaction; asks first.
    #[arg(long, requires = "selector")]
    prune: bool,
    /// The labels of what --prune is about, such as app=shop.
    #[arg(long, short = 'l', value_name = "LABELS", requires = "prune")]
    selector: Option<LabelSelector>,
    /// Do not ask before documents are deleted.
    #[arg(long, requires = "prune")]
    yes: bool,
}

/// Arguments of `persona diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing differs, 1 something does, above 1 it could not be compared.\n\nExamples:\n  persona-ctl persona diff eu@3 eu@4\n  persona-ctl persona diff eu@3              against the newest version\n  persona-ctl persona diff -f personas.yaml  what apply would change"
)]
pub(super) struct DiffArgs {
    /// NAME@VERSION before.
    #[arg(required_unless_present = "files")]
    before: Option<NameAtVersion>,
    /// NAME@VERSION after; the newest version of the same persona otherwise.
    after: Option<NameAtVersion>,
    /// Compare the documents in this file with what is stored.
    #[arg(long = "file", short = 'f', value_name = "FILE", conflicts_with_all = ["before", "after"])]
    files: Vec<PathBuf>,
}

impl ApplyArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let documents = self.files.read()?;
        let (dry_run, force_conflicts) = (self.dry_run, self.force_conflicts);
        let how = Applying { dry_run, force_conflicts, prune: self.selector.clone(), prune_count: None };
        if self.prune && !dry_run {
            let prune_count = Some(self.confirmed(session, &documents, &how).await?);
            return apply(session, &documents, Applying { prune_count, ..how }).await;
        }
        apply(session, &documents, how).await
    }

    /// How many documents are to be deleted: shown, and asked for unless nobody needs to be.
    async fn confirmed(&self, session: &Session, documents: &[Document], how: &Applying) -> anyhow::Result<usize> {
        let apply = Apply { documents: documents.iter().map(as_read).collect() };
        let tried = session.client.apply(&apply, Applying { dry_run: true, ..how.clone() }).await?;
        let gone = tried.results.iter().filter(|result| result.outcome == "deleted");
        let gone: Vec<String> = gone.map(|result| format!("{} {}", result.kind, result.name)).collect();
        if gone.is_empty() || self.yes {
            return Ok(gone.len());
        }
        eprintln!("{} documents are deleted: {}", gone.len(), gone.join(", "));
        anyhow::ensure!(std::io::stdin().is_terminal(), "nothing was changed: say --yes to delete them");
        eprint!("delete them? [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        anyhow::ensure!(matches!(answer.trim(), "y" | "yes"), "nothing was changed");
        Ok(gone.len())
    }
}

/// Stores documents and says what became of each; warnings go to standard error.
pub(super) async fn apply(session: &Session, documents: &[Document], how: Applying) -> anyhow::Result<()> {
    let apply = Apply { documents: documents.iter().map(as_read).collect() };
    let dry_run = how.dry_run;
    let applied = session.client.apply(&apply, how).await?;
    session.output.show(&applied, |applied| tell_applied(applied, dry_run))?;
    if session.output == Output::Table {
        for result in &applied.results {
            result.warnings.iter().for_each(|warning| eprintln!("warning: {} {}: {warning}", result.kind, result.name));
        }
    }
    Ok(())
}

/// A document with the stored version that it was read from, if it says so.
pub(super) fn as_read(document: &Document) -> Value {
    let mut value = document.to_json();
    if let Some(version) = document.resource_version() {
        value["metadata"][RESOURCE_VERSION] = version.into();
    }
    value
}

fn tell_applied(applied: &Applied, dry_run: bool) -> String {
    let rows = applied.results.iter().map(|result| {
        let outcome = if dry_run { format!("{} (dry run)", result.outcome) } else { result.outcome.clone() };
        [result.kind.clone(), result.name.clone(), outcome, result.version.to_string()]
    });
    table_of(&["KIND", "NAME", "OUTCOME", "VERSION"], rows, "no documents")
}

/// Arguments of `persona validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    files: Files,
    /// Ask the manager too whether there is room: ports, prefixes, classes, table sizes, the MTU budget.
    #[arg(long)]
    against_fleet: bool,
}

impl ValidateArgs {
    /// Whether it needs the manager.
    pub(super) fn is_against_fleet(&self) -> bool {
        self.against_fleet
    }

    /// Checks files without a manager.
    pub(super) fn run_offline(&self, output: Output) -> anyhow::Result<()> {
        validate(&self.files, output)
    }

    /// Checks files by what apply would refuse or warn of; nothing is stored.
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        apply(session, &self.files.read()?, Applying { dry_run: true, force_conflicts: true, ..Applying::default() })
            .await
    }
}

/// Checks files without a manager.
fn validate(files: &Files, output: Output) -> anyhow::Result<()> {
    let documents = files.read()?;
    let findings: Vec<Value> = documents.iter().map(finding).collect();
    output.show(&findings, |_| {
        let rows =
            documents.iter().map(|document| [document.kind().to_string(), document.name().to_owned(), "valid".into()]);
        table_of(&["KIND", "NAME", "RESULT"], rows, "no documents")
    })?;
    if output == Output::Table {
        for document in &documents {
            let name = document.name();
            document.warnings().iter().for_each(|warning| eprintln!("warning: {} {name}: {warning}", document.kind()));
        }
    }
    Ok(())
}

fn finding(document: &Document) -> Value {
    serde_json::json!({
        "kind": document.kind().as_str(),
        "name": document.name(),
        "digest": document.digest(),
        "warnings": document.warnings(),
    })
}

/// What differs in one document.
#[derive(Debug, serde::Serialize)]
struct Difference {
    before: String,
    after: String,
    changes: Vec<Change>,
}

/// Documents differ: what was asked was answered, and the exit code says how.
#[derive(Debug, thiserror::Error)]
#[error("documents differ")]
pub(super) struct Differing;

impl DiffArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let differences = match self.before {
            Some(before) => vec![diff_versions(session, before, self.after).await?],
            None => diff_files(session, &self.files).await?,
        };
        let told =
            |differences: &Vec<Difference>| differences.iter().map(tell_difference).collect::<Vec<_>>().join("\n\n");
        session.output.show(&differences, told)?;
        match differences.iter().all(|difference| difference.changes.is_empty()) {
            true => Ok(()),
            false => Err(Differing.into()),
        }
    }
}

async fn diff_versions(
    session: &Session,
    before: NameAtVersion,
    after: Option<NameAtVersion>,
) -> Result<Difference, ClientError> {
    let after = after.unwrap_or_else(|| NameAtVersion { name: before.name.clone(), version: None });
    let old = session.client.persona(before.name.as_str(), before.version).await?;
    let new = session.client.persona(after.name.as_str(), after.version).await?;
    Ok(Difference {
        before: format!("{}@{}", old.name, old.version),
        after: format!("{}@{}", new.name, new.version),
        changes: diff(&old.document, &new.document),
    })
}

async fn diff_files(session: &Session, files: &[PathBuf]) -> anyhow::Result<Vec<Difference>> {
    let mut differences = Vec::new();
    for document in read_files(files)? {
        let stored = stored(session, &document).await?;
        let name = format!("{}/{}", document.kind(), document.name());
        differences.push(Difference {
            before: if stored.is_some() { format!("{name} as stored") } else { format!("{name} (not stored)") },
            after: format!("{name} in the file"),
            changes: diff(&stored.unwrap_or_else(|| Value::Object(Default::default())), &document.to_json()),
        });
    }
    Ok(differences)
}

/// The stored document of the same kind and name, if there is one.
async fn stored(session: &Session, document: &Document) -> Result<Option<Value>, ClientError> {
    let name = document.name();
    let found = match document.kind() {
        Kind::Persona => session.client.persona(name, None).await.map(|view| view.document),
        Kind::Binding => session.client.binding(name).await.map(|view| view.document),
        Kind::EgressPool => session.client.egress_pool(name).await.map(|view| view.document),
    };
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.problem().is_some_and(|problem| problem.status == 404) => Ok(None),
        Err(error) => Err(error),
    }
}

fn tell_difference(difference: &Difference) -> String {
    let Difference { before, after, changes } = difference;
    if changes.is_empty() {
        return format!("{before} and {after} say the same");
    }
    let told = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
    let rows = changes.iter().map(|change| [change.path.clone(), told(&change.before), told(&change.after)]);
    format!("{before} -> {after}\n{}", table_of(&["PATH", "BEFORE", "AFTER"], rows, ""))
}
