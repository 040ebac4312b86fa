//! The tarball and the Debian package, made of the tree so that nothing of this machine or moment is in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Release, tree};
use crate::command::{output_of, quietly, workspace_root};

/// What becomes of maintainers' scripts.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// The one configuration that holds as it is: the manager's defaults. Those of other roles name devices and hosts, so that
/// they are examples only.
const CONFIGURATION: (&str, &str) = ("persona-ctl/packaging/examples/manager.toml", "etc/persona/manager.toml");

/// `persona-VERSION-ARCH.tar.gz`: one folder, laid out as `/usr/local` is.
pub(super) fn tarball(program: &Path, release: &Release, out: &Path) -> Result<PathBuf> {
    let name = format!("persona-{}-{}", release.version, release.architecture);
    let staging = out.join("staging");
    tree::empty(&staging)?;
    tree::fill(&staging.join(&name), program)?;
    let file = out.join(format!("{name}.tar.gz"));
    let script = "set -eu; tar --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \"--mtime=@$1\" \
                  --directory \"$2\" \"$3\" | gzip --no-name -9 > \"$4\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &release.epoch.to_string()]).arg(&staging).arg(&name).arg(&file);
    quietly("dist-tarball", &format!("packing {name}.tar.gz"), &mut command)?;
    tree::empty(&staging)?;
    Ok(file)
}

/// How much work goes into making the package small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// As much as there is.
    Xz,
    /// None, for who installs it at once.
    None,
}

/// `persona_VERSION_ARCH.deb`.
pub(super) fn debian(program: &Path, release: &Release, out: &Path, compression: Compression) -> Result<PathBuf> {
    let name = format!("persona_{}_{}.deb", release.version, release.architecture);
    let staging = out.join("staging");
    tree::empty(&staging)?;
    tree::fill(&staging.join("usr"), program)?;
    let packaging = workspace_root().join("persona-ctl/packaging/debian");
    tree::put(&packaging.join("copyright"), &staging.join("usr/share/doc/persona/copyright"), 0o644)?;
    tree::put(&workspace_root().join(CONFIGURATION.0), &staging.join(CONFIGURATION.1), 0o644)?;
    for script in SCRIPTS {
        tree::put(&packaging.join(script), &staging.join("DEBIAN").join(script), 0o755)?;
    }
    tree::write(&staging.join("DEBIAN/conffiles"), &format!("/{}\n", CONFIGURATION.1), 0o644)?;
    let size =
        output_of(Command::new("du").args(["--apparent-size", "--summarize", "--block-size=1024"]).arg(&staging))?;
    let size = size.split_whitespace().next().context("du says no size")?;
    tree::write(&staging.join("DEBIAN/control"), &control(release, &glibc_needed(program)?, size), 0o644)?;
    let file = out.join(&name);
    let mut command = Command::new("dpkg-deb");
    let method = if compression == Compression::Xz { "-Zxz" } else { "-Znone" };
    command.args(["--build", "--root-owner-group", method]).arg(&staging).arg(&file);
    command.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    quietly("dist-deb", &format!("packing {name}"), &mut command)?;
    tree::empty(&staging)?;
    Ok(file)
}

fn control(release: &Release, glibc: &str, size: &str) -> String {
    let Release { version, architecture, .. } = release;
    format!(
        "Package: persona\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The Persona contributors <persona@example.invalid>\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {glibc}), libgcc-s1\n\
         Recommends: ca-certificates, iproute2\n\
         Section: net\n\
         Priority: optional\n\
         Description: how machines, VMs and containers appear on the network\n \
         A manager decides which persona a subject wears: its egress address, its rates\n \
         and its limits. Agents make that true on nodes, edges own the addresses, and\n \
         eBPF programs enforce it on each packet. One program is all of them.\n"
    )
}

/// The newest version of glibc's symbols that the program asks for.
pub(super) fn glibc_needed(program: &Path) -> Result<String> {
    let bytes = std::fs::read(program).with_context(|| format!("{} cannot be read", program.display()))?;
    let mark = b"GLIBC_2.";
    let minor = |rest: &[u8]| {
        let digits: String =
            rest.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
        digits.parse::<u32>().ok()
    };
    let found = bytes.windows(mark.len()).enumerate().filter(|(_, window)| window == mark);
    let newest = found.filter_map(|(at, _)| minor(&bytes[at + mark.len()..])).max();
    newest.map(|minor| format!("2.{minor}")).with_context(|| format!("{} names no glibc", program.display()))
}
