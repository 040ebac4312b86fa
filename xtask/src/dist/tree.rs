//! The tree of files that is packed: each by its source, its place and its mode.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{output_of, workspace_root};

/// Completion scripts: shell, place.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/persona-ctl"),
    ("zsh", "share/zsh/vendor-completions/_persona-ctl"),
    ("fish", "share/fish/vendor_completions.d/persona-ctl.fish"),
];

/// Folders of packaging that are packed whole: source, place.
const FOLDERS: [(&str, &str); 5] = [
    ("persona-ctl/packaging/systemd", "lib/systemd/system"),
    ("persona-ctl/packaging/sysusers.d", "lib/sysusers.d"),
    ("persona-ctl/packaging/tmpfiles.d", "lib/tmpfiles.d"),
    ("persona-ctl/packaging/examples", "share/doc/persona/examples"),
    ("persona-ctl/packaging/monitoring", "share/persona/monitoring"),
];

/// Texts that come along.
const TEXTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Fills `prefix` (as `/usr` would be) anew. Whatever is there goes.
pub(super) fn fill(prefix: &Path, program: &Path) -> Result<()> {
    put(program, &prefix.join("bin/persona-ctl"), 0o755)?;
    for (folder, place) in FOLDERS {
        put_folder(&workspace_root().join(folder), &prefix.join(place))?;
    }
    for text in TEXTS {
        put(&workspace_root().join(text), &prefix.join("share/doc/persona").join(text), 0o644)?;
    }
    for page in tracked("docs", ".md")? {
        put(&workspace_root().join(&page), &prefix.join("share/doc/persona").join(&page), 0o644)?;
    }
    for (shell, place) in COMPLETIONS {
        let script = output_of(Command::new(program).args(["completions", shell]))?;
        write(&prefix.join(place), &(script + "\n"), 0o644)?;
    }
    Ok(())
}

/// Removes what an earlier run left, and makes the folder.
pub(super) fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    make_folder(folder)
}

/// Copies a file to its place.
pub(super) fn put(source: &Path, place: &Path, mode: u32) -> Result<()> {
    make_folder(place.parent().unwrap_or(place))?;
    std::fs::copy(source, place).with_context(|| format!("{} cannot be copied", source.display()))?;
    set_mode(place, mode)
}

/// Writes a file.
pub(super) fn write(place: &Path, text: &str, mode: u32) -> Result<()> {
    make_folder(place.parent().unwrap_or(place))?;
    std::fs::write(place, text).with_context(|| format!("{} cannot be written", place.display()))?;
    set_mode(place, mode)
}

fn put_folder(source: &Path, place: &Path) -> Result<()> {
    let entries = std::fs::read_dir(source).with_context(|| format!("{} cannot be read", source.display()))?;
    for entry in entries {
        let entry = entry?;
        put(&entry.path(), &place.join(entry.file_name()), 0o644)?;
    }
    Ok(())
}

/// Files that belong to the tree: what lies about on somebody's machine is not packed.
fn tracked(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard", folder]).current_dir(workspace_root());
    let text = output_of(&mut command)?;
    Ok(text.lines().filter(|line| line.ends_with(ending)).map(PathBuf::from).collect())
}

/// Makes a folder and those above it, readable by all whatever the umask is.
fn make_folder(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    missing.iter().try_for_each(|folder| set_mode(folder, 0o755))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).with_context(|| format!("the mode of {} cannot be set", path.display()))
}
