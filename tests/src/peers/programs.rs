//! Finding the programs that `cargo xtask setup` unpacked into the cache, or the machine's own, and running them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::netns::Namespace;

/// A program, with the folders of its libraries if it lies in the cache.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    root: Option<PathBuf>,
}

impl Program {
    /// Finds one by its bundle's name and its path there, such as `knot` and `usr/sbin/knotd`: in the cache, where it
    /// lies unless the machine has the whole bundle itself, else on PATH.
    pub fn find(bundle: &str, program: &str) -> Result<Self> {
        let root = cache_dir()?.join(bundle);
        let cached = root.join(program);
        if cached.is_file() {
            return Ok(Self { path: cached, root: Some(root) });
        }
        let name = Path::new(program).file_name().context("a program's path has a file name")?;
        match folders().map(|folder| folder.join(name)).find(|path| path.is_file()) {
            Some(path) => Ok(Self { path, root: None }),
            None => bail!("{} is neither on PATH nor {}: run `cargo xtask setup`", name.display(), cached.display()),
        }
    }

    /// A command that will run inside a namespace; what it starts finds the same bundle's programs and libraries first.
    pub fn command(&self, inside: &Namespace) -> Result<Command> {
        let mut command = inside.command(&self.path.display().to_string())?;
        self.set_environment(&mut command);
        Ok(command)
    }

    /// Gives a command, which runs this program by way of another, what the program needs to start.
    pub fn set_environment(&self, command: &mut Command) {
        let Some(root) = &self.root else { return };
        let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = ["usr/lib", "lib"].map(|folder| root.join(folder).join(&machine));
        let own = ["usr/sbin", "usr/bin", "sbin", "bin"].map(|folder| root.join(folder));
        let libraries = libraries.clone().into_iter().chain([libraries[0].join("frr")]);
        command.env("LD_LIBRARY_PATH", joined(libraries)).env("PATH", joined(own.into_iter().chain(folders())));
    }
}

/// Where `cargo xtask setup` keeps what is only ours.
pub fn cache_dir() -> Result<PathBuf> {
    match (std::env::var_os("PERSONA_CACHE"), std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _, _) => Ok(PathBuf::from(cache)),
        (None, Some(base), _) if !base.is_empty() => Ok(PathBuf::from(base).join("persona")),
        (None, _, Some(home)) => Ok(PathBuf::from(home).join(".cache/persona")),
        _ => bail!("neither PERSONA_CACHE nor HOME says where the cache is"),
    }
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    found.into_iter()
}

fn joined(folders: impl IntoIterator<Item = PathBuf>) -> OsString {
    std::env::join_paths(folders).expect("no folder's path has a colon")
}
