//! `persona-ctl persona`: the library of personas.

use std::str::FromStr;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use persona_core::document::json_schema;
use persona_core::ids::PersonaName;
use persona_core::wire::api::{PersonaView, Rollback};

use super::labels::SelectArgs;
use super::persona_file::{ApplyArgs, DiffArgs, ValidateArgs};
use super::print::{ago, now_ms, show_done, table_of};
use super::{Output, Session};

/// What to do with personas.
#[derive(Debug, Subcommand)]
pub(super) enum PersonaCommand {
    /// Store documents (personas, bindings, egress pools), all or none.
    Apply(ApplyArgs),
    /// Show a persona: its newest version, or the one given.
    Get(GetArgs),
    /// List personas.
    List(SelectArgs),
    /// Check documents without a manager, or with it against what the fleet has room for.
    Validate(ValidateArgs),
    /// Say what differs between two versions, or between files and what is stored.
    Diff(DiffArgs),
    /// List a persona's versions.
    History(NameArgs),
    /// Make an old version's content the newest version.
    Rollback(RollbackArgs),
    /// Delete a persona that nobody wears.
    Delete(NameArgs),
    /// Print the JSON Schema of all documents.
    Schema,
}

/// A persona's name.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The persona.
    name: PersonaName,
}

/// Arguments of `persona get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  persona-ctl persona get eu-low-latency\n  persona-ctl persona get eu-low-latency@3 --document > eu.yaml"
)]
pub(super) struct GetArgs {
    /// NAME, or NAME@VERSION.
    persona: NameAtVersion,
    /// Print only the document, as it can be edited and applied again.
    #[arg(long)]
    document: bool,
}

/// Arguments of `persona rollback`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The persona.
    name: PersonaName,
    /// The version whose content becomes a new version; the one before the newest otherwise.
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
}

/// A persona, in its newest version or a given one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameAtVersion {
    pub(super) name: PersonaName,
    pub(super) version: Option<u32>,
}

impl FromStr for NameAtVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let name = name.parse().map_err(|error: persona_core::ids::InvalidName| error.to_string())?;
        let number = |version: &str| version.parse().ok().filter(|version| *version > 0);
        let version =
            version.map(|version| number(version).ok_or_else(|| format!("{version:?} is no version: write NAME@3")));
        Ok(Self { name, version: version.transpose()? })
    }
}

impl PersonaCommand {
    /// Whether it works without a manager.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self, Self::Schema) || matches!(self, Self::Validate(args) if !args.is_against_fleet())
    }

    /// Commands that need no manager.
    pub(super) fn run_offline(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Validate(args) => args.run_offline(output),
            _ => show_schema(output),
        }
    }

    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Apply(args) => args.run(session).await,
            Self::Get(args) => args.run(session).await,
            Self::List(args) => {
                let all = session.client.personas_with(args.selector.as_ref()).await?;
                session.output.show(&all, |personas| list(personas))
            }
            Self::Diff(args) => args.run(session).await,
            Self::History(args) => {
                let versions = session.client.persona_versions(args.name.as_str()).await?;
                session.output.show(&versions, |versions| history(versions))
            }
            Self::Rollback(args) => args.run(session).await,
            Self::Delete(args) => {
                session.client.delete_persona(args.name.as_str()).await?;
                show_done(session.output, "persona", &args.name, "deleted")
            }
            Self::Validate(args) => args.run(session).await,
            Self::Schema => show_schema(session.output),
        }
    }
}

/// The schema is JSON for people too.
fn show_schema(output: Output) -> anyhow::Result<()> {
    let output = if output == Output::Table { Output::Json } else { output };
    output.show(&json_schema(), |_| String::new())
}

impl GetArgs {
    async fn run(self, session: &Session) -> anyhow::Result<()> {
        let view = session.client.persona(self.persona.name.as_str(), self.persona.version).await?;
        if self.document {
            let output = if session.output == Output::Table { Output::Yaml } else { session.output };
            return output.show(&view.document, |_| String::new());
        }
        session
            .output
            .show(&view, |view| format!("{}\n\n{}", list(std::slice::from_ref(view)), as_yaml(&view.document)))
    }
}

impl RollbackArgs {
    async fn run(self, session: &Session) -> anyhow::Result<()> {
        let view = session.client.rollback_persona(self.name.as_str(), &Rollback { to: self.to }).await?;
        session.output.show(&view, |view| {
            let from = self.to.map_or_else(|| "the version before".to_owned(), |to| format!("version {to}"));
            format!("persona {} is at version {}, which says what {from} said", view.name, view.version)
        })
    }
}

/// A document as people like to read it.
pub(super) fn as_yaml(document: &serde_json::Value) -> String {
    serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string())
}

fn list(personas: &[PersonaView]) -> String {
    let now = now_ms();
    let rows = personas.iter().map(|persona| {
        let sections = persona.document["spec"].as_object().into_iter().flat_map(|spec| spec.keys());
        let sections = sections.filter(|key| *key != "capabilities");
        let capabilities = persona.document["spec"]["capabilities"].as_array().into_iter().flatten();
        [
            Cell::new(&persona.name),
            Cell::new(version_of(persona)),
            Cell::new(persona.vni),
            Cell::new(persona.wearers),
            Cell::new(super::print::listed(sections)),
            Cell::new(super::print::listed(capabilities.filter_map(|name| name.as_str()))),
            Cell::new(ago(persona.created_ms, now)),
        ]
    });
    let header = ["PERSONA", "VERSION", "VNI", "WEARERS", "SECTIONS", "CAPABILITIES", "STORED"];
    table_of(&header, rows, "no personas; store some with persona-ctl persona apply -f FILE")
}

fn version_of(persona: &PersonaView) -> String {
    if persona.version == persona.latest_version {
        persona.version.to_string()
    } else {
        format!("{} of {}", persona.version, persona.latest_version)
    }
}

fn history(versions: &[PersonaView]) -> String {
    let now = now_ms();
    let rows = versions
        .iter()
        .map(|view| [view.version.to_string(), ago(view.created_ms, now), view.digest.chars().take(12).collect()]);
    table_of(&["VERSION", "STORED", "DIGEST"], rows, "no versions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persona_may_be_named_with_its_version() {
        let cases =
            [("eu", Some(None)), ("eu@3", Some(Some(3))), ("eu@0", None), ("eu@", None), ("@3", None), ("e u", None)];
        for (text, expected) in cases {
            assert_eq!(text.parse::<NameAtVersion>().ok().map(|parsed| parsed.version), expected, "{text}");
        }
    }
}
