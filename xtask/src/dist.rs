//! `cargo xtask dist`: a tarball and a Debian package of the release build, with checksums, the same bytes every time.
//!
//! The program links against the machine's glibc and needs that version or a later one where it runs; everything else,
//! SQLite and the kernel programs included, is inside. Packages are made by dpkg-deb on a tree of our own: every file
//! in it is named here, and no other tool has to be built first.

mod package;
mod tree;
mod trial;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binaries;
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
    /// Pack this persona-ctl, which was built before, instead of building one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
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
    let (mut program, mut packed) = (PathBuf::new(), Vec::new());
    let is_ready = stages
        .run("setup", || if args.program.is_none() { setup::ensure(&[Purpose::Build, Purpose::Page]) } else { Ok(()) })
        && (args.program.is_some() || stages.run("page", ui::build))
        && stages.run("release build", || {
            program = args.program.clone().map_or_else(binaries::build_release, Ok)?;
            Ok(())
        })
        && stages.run("packing", || {
            packed = pack(&program, &release, &out)?;
            Ok(())
        });
    if is_ready {
        for file in &packed {
            stages.run(&format!("trying {}", name_of(file)), || trial::run(file, &release, trial::Program::Real));
        }
    }
    stages.finish()?;
    println!("\nlinked against glibc {}; what was made:", package::glibc_needed(&program)?);
    print!("{}", std::fs::read_to_string(out.join(SUMS))?);
    Ok(())
}

/// The file of checksums.
const SUMS: &str = "SHA256SUMS";

/// Packs a program into `out` and returns the files. A machine without dpkg-deb gets the tarball alone.
fn pack(program: &Path, release: &Release, out: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let mut packed = vec![package::tarball(program, release, out)?];
    match find_program("dpkg-deb") {
        Some(_) => packed.push(package::debian(program, release, out, Compression::Xz)?),
        None => println!("  no dpkg-deb here, so no Debian package"),
    }
    let mut sums = Command::new("sha256sum");
    sums.current_dir(out).args(packed.iter().map(|file| name_of(file)));
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

    #[test]
    fn packing_twice_gives_the_same_bytes_and_all_that_belongs_in_them() {
        let folder = workspace_root().join(format!("target/xtask/dist-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let release = Release { version: "0.1.0".to_owned(), architecture: "amd64", epoch: 1_700_000_000 };
        let program = stand_in(&folder);
        let first = pack(&program, &release, &folder.join("first")).unwrap();
        // Times and the order of what is on disk differ now.
        let program = stand_in(&folder);
        pack(&program, &release, &folder.join("second")).unwrap();
        let sums = |which: &str| std::fs::read_to_string(folder.join(which).join(SUMS)).unwrap();
        assert_eq!(sums("first"), sums("second"));
        assert_eq!(sums("first").lines().count(), first.len());
        for file in &first {
            trial::run(file, &release, trial::Program::StandIn).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
