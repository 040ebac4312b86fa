//! Debian and Ubuntu packages, installed without starting any service.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{as_root, find_program, output_of, quietly};

/// Installs packages. The script keeps services from starting by a temporary `policy-rc.d` (invoke-rc.d asks it; 101
/// means "forbidden"), puts back what was there however it ends, and refreshes the lists only if installing fails.
const INSTALL_SCRIPT: &str = r#"
set -u
policy=/usr/sbin/policy-rc.d
kept=
restore() { rm -f "$policy"; if [ -n "$kept" ]; then mv "$kept" "$policy"; fi; }
if [ -e "$policy" ] && grep -q 'persona xtask' "$policy"; then rm -f "$policy"; fi
if [ -e "$policy" ]; then kept="$policy.before-persona"; mv "$policy" "$kept"; fi
trap restore EXIT
trap 'exit 130' INT TERM HUP
printf '#!/bin/sh\n# persona xtask: no service starts while packages are installed\nexit 101\n' > "$policy"
chmod 755 "$policy"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"; }
if [ "$update" = yes ]; then apt-get update; install "$@"; exit; fi
install "$@" || { apt-get update && install "$@"; }
"#;

/// Whether packages can be installed here at all.
pub(crate) fn has_apt() -> bool {
    find_program("apt-get").is_some() && find_program("dpkg-deb").is_some()
}

/// Whether the lists know a version of the package that could be installed.
pub(crate) fn is_available(package: &str) -> bool {
    let policy = output_of(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C")).unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)"))
}

/// Whether the machine has the package.
pub(crate) fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    output_of(query.args(["--show", "--showformat=${db:Status-Status}", package])).is_ok_and(|text| text == "installed")
}

/// Installs packages, refreshing the lists first only where they do not know one.
pub(crate) fn install(packages: &[&str]) -> Result<Duration> {
    let list = packages.join(" ");
    if !has_apt() {
        bail!("{list} cannot be installed: there is no apt-get here; install what provides them and run this again");
    }
    let update = if packages.iter().all(|package| is_available(package)) { "no" } else { "yes" };
    let script = format!("update={update}\n{INSTALL_SCRIPT}");
    let mut command = as_root("sh")?;
    command.args(["-c", &script, "sh"]).args(packages);
    quietly("apt-install", &format!("installing {list}"), &mut command)
        .with_context(|| format!("packages {list} cannot be installed; by hand: apt-get install {list}"))
}

/// Refreshes the package lists.
pub(crate) fn update() -> Result<Duration> {
    quietly("apt-update", "refreshing the package lists", as_root("apt-get")?.arg("update"))
}
