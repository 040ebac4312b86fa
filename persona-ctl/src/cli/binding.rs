//! `persona-ctl binding`: which subjects may wear which personas.

use clap::Subcommand;
use persona_core::ids::BindingName;
use persona_core::wire::api::DocumentView;
use serde_json::Value;

use super::Session;
use super::labels::SelectArgs;
use super::persona::as_yaml;
use super::print::{ago, listed, now_ms, show_done, table_of};

/// What to do with bindings. They are stored with `persona apply`.
#[derive(Debug, Subcommand)]
pub(super) enum BindingCommand {
    /// List bindings.
    List(SelectArgs),
    /// Show a binding.
    Get {
        /// The binding.
        name: BindingName,
    },
    /// Delete a binding; who wears something only by it wears it no longer.
    Delete {
        /// The binding.
        name: BindingName,
    },
}

impl BindingCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List(args) => {
                let all = session.client.bindings_with(args.selector.as_ref()).await?;
                session.output.show(&all, |bindings| list(bindings))
            }
            Self::Get { name } => {
                let view = session.client.binding(name.as_str()).await?;
                session.output.show(&view, |view| as_yaml(&view.document))
            }
            Self::Delete { name } => {
                session.client.delete_binding(name.as_str()).await?;
                show_done(session.output, "binding", &name, "deleted")
            }
        }
    }
}

fn list(bindings: &[DocumentView]) -> String {
    let now = now_ms();
    let rows = bindings.iter().map(|binding| {
        let spec = &binding.document["spec"];
        let names = |key: &str| spec[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        [
            binding.name.clone(),
            selector_of(&spec["selector"]),
            listed(names("personas")),
            spec["default"].as_str().unwrap_or("-").to_owned(),
            listed(names("requires")),
            ago(binding.created_ms, now),
        ]
    });
    let header = ["BINDING", "FOR", "PERSONAS", "DEFAULT", "REQUIRES", "STORED"];
    table_of(&header, rows, "no bindings; store some with persona-ctl persona apply -f FILE")
}

/// A selector in one cell: `workload names=a labels tier=gold`.
fn selector_of(selector: &Value) -> String {
    let kind = selector["kind"].as_str().unwrap_or("-");
    let names = selector["names"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let labels = selector["labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let claimed = selector["claimedLabels"].as_object().into_iter().flatten();
    let claimed = claimed.map(|(key, value)| format!("claimed {key}={}", value.as_str().unwrap_or_default()));
    let parts: Vec<String> = names.chain(labels).chain(claimed).collect();
    if parts.is_empty() { format!("every {kind}") } else { format!("{kind}s {}", parts.join(" ")) }
}
