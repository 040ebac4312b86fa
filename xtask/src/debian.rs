//! A Debian system in the cache, with systemd, OpenSSH and PostgreSQL: what hosts of the tests run, in containers and in a
//! guest. It is made once, of the machine's own release, so that programs that are built here run there. Nobody changes it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{as_root, cache_dir, find_program, output_of, quietly};
use crate::packages;

/// What is in it beside the essential packages.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,kmod,iproute2,iputils-ping,procps,openssl,curl,\
                        openssh-server,openssh-client,postgresql";

/// Documentation is left out here, not where packages are installed later; hosts get names of their own; PostgreSQL runs
/// where somebody starts it.
const MAKE: &str = r#"
set -e
rm -rf "$3"
mmdebstrap --mode=root --variant=minbase --include="$2" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -f "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/etc/hostname"' \
    --customize-hook='systemctl --root="$1" --quiet disable postgresql.service' \
    --customize-hook='systemctl --root="$1" --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service' \
    "$1" "$3"
rm -rf "$4" "$4.packages"
mv "$3" "$4"
printf %s "$2" > "$4.packages"
"#;

/// Where it is: `tests/src/hosts.rs` looks for it under the same name.
pub(crate) fn root() -> Result<PathBuf> {
    Ok(cache_dir()?.join("debian"))
}

/// Its release, if it is there with all of its packages and of this machine's release.
pub(crate) fn find() -> Option<String> {
    let packages = std::fs::read_to_string(root().ok()?.with_extension("packages")).ok()?;
    if packages != PACKAGES {
        return None;
    }
    let code = |file: PathBuf| std::fs::read_to_string(file).ok().and_then(|text| code_of(&text));
    let made = code(root().ok()?.join("etc/os-release"))?;
    (Some(&made) == code("/etc/os-release".into()).as_ref()).then_some(made)
}

/// Makes it beside its place, and moves it there when it is whole. Its files belong to root.
pub(crate) fn install() -> Result<()> {
    if !packages::has_apt() {
        bail!("a Debian system is made with mmdebstrap, and there is no apt-get here: run this on Debian or Ubuntu");
    }
    if find_program("mmdebstrap").is_none() {
        packages::install(&["mmdebstrap"])?;
    }
    let release = std::fs::read_to_string("/etc/os-release").context("/etc/os-release cannot be read")?;
    let code = code_of(&release).context("/etc/os-release has no VERSION_CODENAME")?;
    let place = root()?;
    output_of(Command::new("mkdir").arg("-p").arg(cache_dir()?))?;
    let mut command = as_root("sh")?;
    command.args(["-c", MAKE, "sh", &code, PACKAGES]).arg(place.with_extension("partial")).arg(&place);
    quietly("debian", &format!("making a {code} system in the cache (about a minute)"), &mut command).map(drop)
}

/// A release's code name, such as bookworm.
fn code_of(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_known_by_its_code_name() {
        for (text, expected) in [
            ("ID=debian\nVERSION_CODENAME=bookworm\n", Some("bookworm")),
            ("VERSION_CODENAME=\"noble\"", Some("noble")),
            ("ID=arch", None),
        ] {
            assert_eq!(code_of(text).as_deref(), expected, "{text}");
        }
    }
}
