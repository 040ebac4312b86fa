//! `cargo xtask ui`: builds the page that the manager serves, which the next build of it embeds. Also its checks and its tests:
//! types and style, functions, and all of it in headless Chromium against a manager with a fleet.
//!
//! Node is the npm package `node`, of one version, in the cache: what the machine has may be too old. Neither it nor the page's
//! packages are needed to build or to run anything else.

mod browser;
mod node;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::binaries::TESTED;
use crate::command::{cargo, show, workspace_root};
use crate::setup::{self, Purpose};
use crate::stages::Stages;

pub(crate) use browser::{find as find_browser, install as install_browser};
pub(crate) use node::{find as find_node, find_packages, install as install_node, install_packages};

/// Where the manager's build script looks for the page.
const EMBEDDED: &str = "dist/page";

/// Where it is built first.
const BUILT: &str = "node_modules/.persona/page";

/// What to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write src/api/schema.ts anew from the manager's OpenAPI document, after the API or what the page asks has changed.
    #[arg(long)]
    types: bool,
}

/// Builds the page, or its types.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    if args.types {
        let _ = stages.run("setup", || setup::ensure(&[Purpose::Build, Purpose::Page]))
            && stages.run("types", || test_in_manager("page::the_page_fits", &[("PERSONA_KEEP_TYPES", "1".into())]));
    } else {
        let _ = stages.run("setup", || setup::ensure(&[Purpose::Page])) && stages.run("page", build);
    }
    stages.finish()
}

/// The page's folder.
fn folder() -> PathBuf {
    workspace_root().join("persona-manager/ui")
}

/// Builds the page. What comes out the same is left alone, so that the manager is not built anew for nothing.
pub(crate) fn build() -> Result<()> {
    let mut vite = tool("vite/bin/vite.js")?;
    show("building the page", vite.args(["build", "--logLevel", "warn", "--outDir", BUILT]))?;
    let (built, embedded) = (folder().join(BUILT), folder().join(EMBEDDED));
    let files = read_all(&built)?;
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    println!("page: {} files, {} kB", files.len(), bytes / 1_000);
    if embedded.is_dir() && read_all(&embedded)? == files {
        println!("page: as it was; the manager has it, or its next build embeds it");
        return Ok(());
    }
    if embedded.exists() {
        std::fs::remove_dir_all(&embedded).with_context(|| format!("{} cannot be replaced", embedded.display()))?;
    }
    for (name, content) in files {
        let file = embedded.join(name);
        let folder = file.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        std::fs::write(&file, content).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    println!("page: the manager's next build embeds it");
    Ok(())
}

/// Types and style.
pub(crate) fn check() -> Result<()> {
    show("the page's types", tool("typescript/bin/tsc")?.arg("--noEmit"))?;
    show("the page's style", tool("@biomejs/biome/bin/biome")?.args(["check", "--error-on-warnings", "."]))
}

/// The page's functions.
pub(crate) fn test_functions() -> Result<()> {
    show("the page's unit tests", tool("vitest/vitest.mjs")?.args(["run", "--reporter=dot"]))
}

/// The page in a browser, beside a manager with a fleet, and its types against the API as it is.
pub(crate) fn test_in_browser() -> Result<()> {
    let chromium = browser::program().context("no Chromium: run `cargo xtask setup --for browser`")?;
    let pictures = workspace_root().join("target/xtask/page");
    test_in_manager("page::", &[("PERSONA_CHROMIUM", chromium), ("PERSONA_PICTURES", pictures)])?;
    println!("page: pictures of every view are in target/xtask/page");
    Ok(())
}

/// Tests of the manager whose name contains `filter`, with Node at hand.
fn test_in_manager(filter: &str, variables: &[(&str, PathBuf)]) -> Result<()> {
    let mut command = cargo();
    command.arg("test").args(TESTED).args(["--test", "manager", "--", "--nocapture", "--test-threads=1", filter]);
    command.env("PERSONA_NODE", node::program()?).envs(variables.iter().map(|(name, value)| (name, value)));
    show("the page's tests", &mut command)
}

/// A tool among the page's packages, run by our Node in the page's folder.
fn tool(script: &str) -> Result<Command> {
    let mut command = Command::new(node::program()?);
    command.current_dir(folder()).arg(Path::new("node_modules").join(script));
    Ok(command)
}

/// Every file under a folder with its content, by its path from there, ascending.
fn read_all(root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            files.push((path.strip_prefix(root)?.to_owned(), content));
        }
    }
    files.sort();
    Ok(files)
}
