//! Personas that are criteria and little else.

use anyhow::{Result, bail};
use persona_core::activate::RuleSet;
use persona_core::document::{Document, Format, parse_documents};

/// The rules of personas with these names and criteria, in this order.
pub(super) fn rule_set(personas: &[(String, String)]) -> Result<RuleSet> {
    let mut documents = Vec::new();
    for (name, when) in personas {
        let text = format!(
            "{{apiVersion: persona/v1, kind: Persona, metadata: {{name: {name}}}, spec: {{resources: {{pids: 5}}, activation: [{{when: '{when}'}}]}}}}"
        );
        match parse_documents(&text, Format::Yaml, "bench") {
            Ok(parsed) => documents.extend(parsed),
            Err(errors) => bail!("{errors:?}"),
        }
    }
    let named = documents.iter().filter_map(|document| match document {
        Document::Persona(persona) => Some((persona.metadata.name.clone(), 1, &persona.spec)),
        _ => None,
    });
    Ok(RuleSet::new(named)?)
}
