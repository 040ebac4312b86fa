//! `cargo xtask dist`: a tarball and a Debian package of the release build, with checksums, the same bytes every time.
//!
//! The tarball's program is linked statically with musl and runs wherever there is a kernel; the package's links against
//! glibc, which looks names up as the host is configured, and needs this machine's version or a later one. Everything else,
//! SQLite and the kernel programs included, is inside. Packages are made by dpkg-deb on a tree of our own: every file in it
//! is named here, and no other tool has to be built first.

mod bare;
mod package;
mod tree;
mod trial;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::binaries::{self, Linkage};
use crate::command::{find_program, output_of, workspace_root};
use crate::setup::{self, Purpose};
use crate::stages::Stages;
use crate::ui;
use package::Compression;

/// What to pack.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results go.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dist")]
    out: PathBuf,
    /// Only this. Absent: both.
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// Put this persona-ctl, which was built before, into the Debian package instead of building one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Put this one, which is linked statically, into the tarball instead of building one.
    #[arg(long, value_name = "FILE")]
    static_program: Option<PathBuf>,
    /// Cargo's profile: `dev` takes less time, and is not for others.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A tarball for any distribution.
    Tarball,
    /// A Debian package.
    Package,
}

/// What is the same for everything that is packed.
struct Release {
    version: String,
    /// As Debian names it.
    architecture: &'static str,
    /// Every file's time, seconds since 1970.
    epoch: u64,
}

/// Builds, packs, and tries what was packed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    let out = workspace_root().join(&args.out);
    let release = Release::of_this_commit()?;
    let kinds = args.kinds();
    let is_built = kinds.iter().any(|kind| args.given(*kind).is_none());
    let (mut programs, mut packed) = (Vec::new(), Vec::new());
    let is_ready = stages.run("setup", || setup::ensure(&args.purposes(&kinds)))
        && (!is_built || stages.run("page", ui::build))
        && kinds.iter().all(|kind| {
            stages.run(kind.build_stage(), || {
                programs.push((*kind, args.program_of(*kind)?));
                Ok(())
            })
        })
        && stages.run("packing", || {
            packed = pack(&programs, &release, &out)?;
            Ok(())
        });
    for (kind, file) in packed.iter().filter(|_| is_ready) {
        stages.run(&format!("trying {}", name_of(file)), || trial::run(*kind, file, &release, trial::Program::Real));
    }
    stages.finish()?;
    println!();
    for (_, program) in programs.iter().filter(|(kind, _)| *kind == Kind::Package) {
        println!("the package needs glibc {} or later", package::glibc_needed(program)?);
    }
    print!("{}", std::fs::read_to_string(out.join(SUMS))?);
    Ok(())
}

impl Args {
    /// A machine without dpkg-deb gets the tarball alone.
    fn kinds(&self) -> Vec<Kind> {
        let wanted = self.only.map_or_else(|| Kind::value_variants().to_vec(), |only| vec![only]);
        let can_be = |kind: &Kind| *kind == Kind::Tarball || find_program("dpkg-deb").is_some();
        if !wanted.iter().all(can_be) {
            println!("no dpkg-deb here, so no Debian package");
        }
        wanted.into_iter().filter(can_be).collect()
    }

    fn given(&self, kind: Kind) -> Option<&PathBuf> {
        match kind {
            Kind::Tarball => self.static_program.as_ref(),
            Kind::Package => self.program.as_ref(),
        }
    }

    fn program_of(&self, kind: Kind) -> Result<PathBuf> {
        let build = || binaries::build_for_others(kind.linkage(), &self.profile);
        self.given(kind).map_or_else(build, |given| Ok(given.clone()))
    }

    fn purposes(&self, kinds: &[Kind]) -> Vec<Purpose> {
        let is_built = |kind: &&Kind| self.given(**kind).is_none();
        let of = |kind: &Kind| match kind {
            Kind::Tarball => vec![Purpose::Build, Purpose::Page, Purpose::Static],
            Kind::Package => vec![Purpose::Build, Purpose::Page],
        };
        kinds.iter().filter(is_built).flat_map(of).collect()
    }
}

impl Kind {
    fn linkage(self) -> Linkage {
        match self {
            Self::Tarball => Linkage::Static,
            Self::Package => Linkage::Shared,
        }
    }

    fn build_stage(self) -> &'static str {
        match self {
            Self::Tarball => "static build",
            Self::Package => "build for Debian",
        }
    }
}

/// The file of checksums.
const SUMS: &str = "SHA256SUMS";

/// Packs programs into `out` and returns the files.
fn pack(programs: &[(Kind, PathBuf)], release: &Release, out: &Path) -> Result<Vec<(Kind, PathBuf)>> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let mut packed = Vec::new();
    for (kind, program) in programs {
        let file = match kind {
            Kind::Tarball => package::tarball(program, release, out)?,
            Kind::Package => package::debian(program, release, out, Compression::Xz)?,
        };
        packed.push((*kind, file));
    }
    let mut sums = Command::new("sha256sum");
    sums.current_dir(out).args(packed.iter().map(|(_, file)| name_of(file)));
    let text = output_of(&mut sums)? + "\n";
    std::fs::write(out.join(SUMS), text).context("checksums cannot be written")?;
    Ok(packed)
}

/// The Debian package of a program that was built for tests, without its debug information: what hosts of tests install.
pub(crate) fn package_for_tests(program: &Path) -> Result<PathBuf> {
    let out = workspace_root().join("target/xtask/package");
    std::fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let stripped = out.join("persona-ctl");
    output_of(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(program))?;
    package::debian(&stripped, &Release::of_this_commit()?, &out, Compression::None)
}

fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Release {
    fn of_this_commit() -> Result<Self> {
        let mut time = Command::new("git");
        time.args(["log", "-1", "--format=%ct"]).current_dir(workspace_root());
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(given) => given,
            Err(_) => output_of(&mut time).context("SOURCE_DATE_EPOCH is not set, and there is no commit to ask")?,
        };
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => bail!("packages are made for x86_64 and aarch64, not for {other}"),
        };
        let epoch = epoch.trim().parse().with_context(|| format!("{epoch} is no number of seconds since 1970"))?;
        Ok(Self { version: env!("CARGO_PKG_VERSION").to_owned(), architecture, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in little: what is packed around it is the same.
    fn stand_in(folder: &Path) -> PathBuf {
        let path = folder.join("persona-ctl");
        std::fs::write(&path, "#!/bin/sh\n# GLIBC_2.36\necho persona-ctl 0.1.0\n").unwrap();
        output_of(Command::new("chmod").arg("755").arg(&path)).unwrap();
        path
    }

    fn has_dpkg_deb() -> bool {
        find_program("dpkg-deb").is_some()
    }

    #[test]
    fn packing_twice_gives_the_same_bytes_and_all_that_belongs_in_them() {
        let folder = workspace_root().join(format!("target/xtask/dist-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let release = Release { version: "0.1.0".to_owned(), architecture: "amd64", epoch: 1_700_000_000 };
        let packed_into = |out: &str| {
            // Times and the order of what is on disk differ each time.
            let program = stand_in(&folder);
            let kinds = Kind::value_variants().iter().filter(|kind| **kind == Kind::Tarball || has_dpkg_deb());
            let programs: Vec<(Kind, PathBuf)> = kinds.map(|kind| (*kind, program.clone())).collect();
            pack(&programs, &release, &folder.join(out)).unwrap()
        };
        let first = packed_into("first");
        packed_into("second");
        let sums = |which: &str| std::fs::read_to_string(folder.join(which).join(SUMS)).unwrap();
        assert_eq!(sums("first"), sums("second"));
        assert_eq!(sums("first").lines().count(), first.len());
        for (kind, file) in &first {
            trial::run(*kind, file, &release, trial::Program::StandIn).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
