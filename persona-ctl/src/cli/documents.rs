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
        match parse_documents(&text, Format::from_path(path), &name) {
            Ok(found) => documents.extend(found),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() { Ok(documents) } else { Err(RefusedDocuments(mistakes).into()) }
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
