//! `cargo xtask test --boot`: the package in a guest that systemd boots, twice: units, mounts, what a restart and a kill lose,
//! a watchdog, and a trial of the agent's own way that a reboot interrupts.
//!
//! The disk is made of the Debian system in the cache. What is tested comes with the initial file system, which puts it
//! onto the disk before systemd starts; `boot/trial.sh` looks, and speaks as the tests of the other guests do.

mod files;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use super::guest::Guest;
use super::image::modules_archive;
use super::kernel::KERNELS;
use crate::binaries::Tests;
use crate::command::{as_root, cache_dir, quietly, workspace_root};
use crate::{debian, dist, unpacked};
use files::{FILES, LINKS};

/// How long one boot with all that is looked at may take.
const BOOT_TIME_MAX: Duration = Duration::from_secs(900);

/// The disk: some 500 MB of system, and room.
const DISK_SIZE: &str = "2G";

/// What `trial.sh` says before the guest is switched off for its reboot.
const REBOOTS: &str = "guest: reboots";

/// Boots the guest, has it reboot, and fails unless everything that was looked for was there.
pub(crate) fn run() -> Result<()> {
    let package = dist::package_for_tests(&Tests::build()?.persona_ctl)?;
    let kernel = KERNELS.last().context("there is a kernel")?;
    let kernel_files = kernel.files()?;
    let folder = workspace_root().join("target/xtask/vm");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let disk = make_disk(&folder)?;
    let modules = modules_archive(&cache_dir()?.join("vm"), kernel, &kernel_files)?;
    let image = make_image(&folder, &modules, &package)?;
    let guest = Guest { name: "boot", kernel: &kernel_files.image, image: &image, disk: Some(&disk) };
    let start = Instant::now();
    let first = guest.run(BOOT_TIME_MAX)?;
    ensure!(first.lines.iter().any(|line| line == REBOOTS), "the guest ended before it was to reboot");
    let second = guest.run(BOOT_TIME_MAX)?;
    second.check()?;
    println!("guest: {} looked at in two boots, {:.0} s", second.passed, start.elapsed().as_secs_f64());
    fs::remove_file(&disk).with_context(|| format!("{} cannot be removed", disk.display()))
}

/// A file system with the system in it. Its files are root's, and some are for root's eyes only.
fn make_disk(folder: &Path) -> Result<PathBuf> {
    let disk = folder.join("boot.disk");
    let script = "set -e; rm -f \"$2\"; mke2fs -q -t ext4 -m 0 -E lazy_itable_init=0 -d \"$1\" \"$2\" \"$3\"; \
                  chown \"$4\" \"$2\"";
    let owner = "--reference=".to_owned() + &folder.display().to_string();
    let mut command = as_root("sh")?;
    command.args(["-c", script, "sh"]).arg(debian::root()?).arg(&disk).args([DISK_SIZE, &owner]);
    quietly("boot-disk", "making the guest's disk", &mut command)?;
    Ok(disk)
}

/// The initial file system: modules, busybox, and what goes onto the disk.
fn make_image(folder: &Path, modules: &Path, package: &Path) -> Result<PathBuf> {
    let busybox = unpacked::busybox().context("there is no busybox without libraries: cargo xtask setup")?;
    let trial = folder.join("boot.cpio");
    let write = || {
        let mut archive = Archive::create(&trial)?;
        for path in ["proc", "sys", "dev", "system"] {
            archive.directory(path)?;
        }
        archive.device("dev/console", (5, 1))?;
        archive.file("init", 0o755, include_bytes!("boot/init.sh"))?;
        archive.copy("bin/busybox", &busybox)?;
        archive.copy("trial/opt/trial/persona.deb", package)?;
        for (path, mode, text) in FILES {
            archive.file(&format!("trial/{path}"), mode, text.as_bytes())?;
        }
        for (path, target) in LINKS {
            archive.symlink(&format!("trial/{path}"), target)?;
        }
        archive.finish()
    };
    write().with_context(|| format!("archive {} cannot be written", trial.display()))?;
    let image = folder.join("boot.image");
    let mut output = File::create(&image).with_context(|| format!("{} cannot be written", image.display()))?;
    for part in [modules, &trial] {
        io::copy(&mut File::open(part)?, &mut output)
            .with_context(|| format!("{} cannot be copied", part.display()))?;
    }
    Ok(image)
}
