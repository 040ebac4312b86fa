//! Documents from files and standard input: read, checked, and refused together with everything that is wrong.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use persona_core::document::{Document, DocumentError, Format, parse_documents};

/// Files with documents.
#[derive(Debug, Clone, Args)]
pub(super) struct Files {
    /// YAML, JSON or TOML by its ending (YAML otherwise); `-` is standard input. May be given several times.
    #[arg(long = "file", short = 'f', value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
}

/// Documents with mistakes; a line each.
#[derive(Debug)]
pub(super) struct RefusedDocuments(Vec<DocumentError>);

impl fmt::Display for RefusedDocuments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(formatter, "{count} {} in the documents", if count == 1 { "mistake" } else { "mistakes" })?;
        self.0.iter().try_for_each(|error| write!(formatter, "\n  {error}"))
    }
}

impl std::error::Error for RefusedDocuments {}

impl RefusedDocuments {
    /// Mistakes in documents that came from elsewhere than a file.
    pub(super) fn new(mistakes: Vec<DocumentError>) -> Self {
        Self(mistakes)
    }
}

impl Files {
    /// Reads all files; all mistakes of all of them are told at once.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Document>> {
        read_files(&self.files)
    }
}

/// Reads files; all mistakes of all of them are told at once.
pub(super) fn read_files(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let (mut documents, mut mistakes) = (Vec::new(), Vec::new());
    for path in files {
        let (text, name) = read_text(path)?;
        let (text, format) = match shown_document(&text) {
            Some(document) => (document, Format::Yaml),
            None => (text, Format::from_path(path)),
        };
        match parse_documents(&text, format, &name) {
            Ok(found) => documents.extend(found),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() { Ok(documents) } else { Err(RefusedDocuments(mistakes).into()) }
}

/// The document in what `get -o yaml` or `get -o json` printed, if the text is that.
fn shown_document(text: &str) -> Option<String> {
    // What is no single value, or has an envelope of its own, is read where its lines are known.
    let view: serde_json::Value = serde_saphyr::from_str(text).ok()?;
    let document = view.get("document").filter(|_| view.get("apiVersion").is_none() && view.get("name").is_some())?;
    serde_saphyr::to_string(document).ok()
}

/// A file's text, or that of standard input, and what messages call it.
pub(super) fn read_text(path: &Path) -> anyhow::Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok((text, "standard input".to_owned()));
    }
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    Ok((text, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_get_printed_is_read_as_the_document_in_it() {
        let document = json!({ "apiVersion": "persona/v1", "kind": "Persona",
            "metadata": { "name": "eu", "resourceVersion": "3-ab" }, "spec": { "qos": { "egressRate": "20mbit" } } });
        let view = json!({ "name": "eu", "version": 3, "document": document });
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("view.yaml", serde_saphyr::to_string(&view).unwrap()),
            ("view.json", view.to_string()),
            ("document.yaml", serde_saphyr::to_string(&document).unwrap()),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let documents = read_files(&[path]).unwrap();
            assert_eq!(documents.len(), 1, "{name}");
            assert_eq!((documents[0].name(), documents[0].resource_version()), ("eu", Some("3-ab")), "{name}");
        }
    }

    #[test]
    fn mistakes_of_all_files_are_told_together() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let one =
            write("one.yaml", "apiVersion: persona/v1\nkind: Persona\nmetadata: {name: a}\nspec: {qos: {dspc: 1}}\n");
        let two = write("two.json", "{");
        let error = read_files(&[one, two]).unwrap_err().to_string();
        assert!(error.starts_with("2 mistakes") && error.contains("one.yaml:4:14: spec.qos.dspc"), "{error}");
        assert!(error.contains("two.json:1:1: not valid JSON"), "{error}");
    }
}
