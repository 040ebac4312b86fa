//! The Rust compiler for eBPF: it must be able to build `core` for a target that has no ready-made one.
//!
//! Tried in order: what `PERSONA_EBPF_RUSTC` and `PERSONA_EBPF_CARGO` name, rustup's nightly with `rust-src`, Debian's
//! rustc with its library sources. The same order as in persona-ctl's build script.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::command::{cargo, find_program, output_of, quietly, workspace_root};
use crate::packages;

/// Packages of Debian (and its backports to stable) that hold a compiler with library sources.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];

/// A compiler that can build for eBPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Named by the environment.
    Named { rustc: PathBuf, cargo: PathBuf },
    /// rustup's nightly.
    Nightly,
    /// Debian's, in /usr/bin.
    Debian,
}

impl Toolchain {
    /// The first that is there.
    pub(crate) fn find() -> Option<Self> {
        Self::from_environment().or_else(|| nightly_has_source().then_some(Self::Nightly)).or_else(Self::debian)
    }

    fn from_environment() -> Option<Self> {
        let rustc = PathBuf::from(std::env::var_os("PERSONA_EBPF_RUSTC")?);
        let cargo = std::env::var_os("PERSONA_EBPF_CARGO").map_or_else(|| rustc.with_file_name("cargo"), PathBuf::from);
        (rustc.is_file() && cargo.is_file()).then_some(Self::Named { rustc, cargo })
    }

    fn debian() -> Option<Self> {
        let is_there = Path::new("/usr/bin/rustc").is_file()
            && Path::new("/usr/bin/cargo").is_file()
            && has_library_source(Path::new("/usr"));
        is_there.then_some(Self::Debian)
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Named { rustc, .. } => format!("{} (PERSONA_EBPF_RUSTC)", rustc.display()),
            Self::Nightly => "rustup's nightly with rust-src".to_owned(),
            Self::Debian => "Debian's rustc with its library sources".to_owned(),
        }
    }

    /// A cargo command of this toolchain, in the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Named { cargo, .. } => Command::new(cargo),
            Self::Nightly => Command::new("cargo"),
            Self::Debian => Command::new("/usr/bin/cargo"),
        };
        for inherited in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO", "RUSTC_WRAPPER"] {
            command.env_remove(inherited);
        }
        match self {
            Self::Named { rustc, .. } => command.env("RUSTC", rustc),
            Self::Nightly => command.arg("+nightly"),
            Self::Debian => command.env("RUSTC", "/usr/bin/rustc"),
        };
        command.env("RUSTC_BOOTSTRAP", "1").current_dir(workspace_root());
        command
    }

    /// Whether it brings a clippy of its own. The user's, found on PATH, would bring the user's compiler along.
    pub(crate) fn has_clippy(&self) -> bool {
        match self {
            Self::Named { rustc, .. } => rustc.with_file_name("clippy-driver").is_file(),
            Self::Nightly => {
                self.cargo().args(["clippy", "--version"]).output().is_ok_and(|output| output.status.success())
            }
            Self::Debian => Path::new("/usr/bin/clippy-driver").is_file(),
        }
    }
}

/// Gets a compiler: `rust-src` for the nightly if rustup can fetch it, else Debian's packages.
pub(crate) fn install() -> Result<()> {
    if find_program("rustup").is_some() {
        match fetch_nightly() {
            Ok(()) if nightly_has_source() => return Ok(()),
            Ok(()) => println!("  rustup's nightly has no library sources; trying Debian's packages"),
            Err(_) => println!("  rustup cannot fetch a nightly with rust-src here; trying Debian's packages"),
        }
    }
    packages::install(&DEBIAN_PACKAGES)?;
    Ok(())
}

fn fetch_nightly() -> Result<()> {
    let mut command = Command::new("rustup");
    if nightly_sysroot().is_some() {
        command.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
    } else {
        command.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
    }
    quietly("rustup-nightly", "fetching rustup's nightly with rust-src", &mut command).map(drop)
}

fn nightly_has_source() -> bool {
    nightly_sysroot().is_some_and(|sysroot| has_library_source(&sysroot))
}

/// Asks rustup where it keeps its toolchains, without letting it install one that is missing.
fn nightly_sysroot() -> Option<PathBuf> {
    let home = output_of(Command::new("rustup").args(["show", "home"]).stderr(Stdio::null())).ok()?;
    let folders = std::fs::read_dir(Path::new(&home).join("toolchains")).ok()?;
    let mut paths = folders.filter_map(|entry| entry.ok()).map(|entry| entry.path());
    let is_undated =
        |name: &str| name.strip_prefix("nightly-").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    paths.find(|path| path.file_name().is_some_and(|name| is_undated(&name.to_string_lossy())))
}

fn has_library_source(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    library.join("core/src/lib.rs").is_file() && library.join("Cargo.lock").is_file()
}

/// Whether the user's own toolchain has a component such as `clippy` or `fmt`.
pub(crate) fn has_host_component(name: &str) -> bool {
    cargo().args([name, "--version"]).output().is_ok_and(|output| output.status.success())
}
