//! What the first process of an instance was started with (proc(5)); the folder is an argument, so that a made one serves in
//! tests.

use std::path::Path;

use persona_core::security::Seen;

/// Looks at a process.
///
/// # Errors
/// It does not run.
pub(crate) fn look(proc: &Path, pid: u32) -> Result<Seen, String> {
    let folder = proc.join(pid.to_string());
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let status = read("status").map_err(|error| format!("process {pid}: {error}"))?;
    let row = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let profile = read("attr/apparmor/current").or_else(|_| read("attr/current")).ok();
    Ok(Seen {
        bounding: row("CapBnd:").and_then(|text| u64::from_str_radix(text, 16).ok()),
        no_new_privileges: row("NoNewPrivs:").map(|text| text == "1"),
        // 1 is the strict mode, in which hardly anything is left; 2 is a filter.
        is_filtered: row("Seccomp:").map(|text| text != "0"),
        is_root_read_only: read("mountinfo").ok().and_then(|text| is_root_read_only(&text)),
        apparmor: profile.as_deref().and_then(profile_of),
    })
}

/// The last mount on the root: its own options, and those of its file system.
fn is_root_read_only(text: &str) -> Option<bool> {
    let line = text.lines().rfind(|line| line.split_whitespace().nth(4) == Some("/"))?;
    let own = line.split_whitespace().nth(5)?;
    let of_system = line.rsplit(' ').next().unwrap_or_default();
    Some([own, of_system].iter().any(|options| options.split(',').any(|option| option == "ro")))
}

/// `docker-default (enforce)`.
fn profile_of(text: &str) -> Option<String> {
    let name = text.trim_end_matches(['\0', '\n']).rsplit_once(" (").map_or(text.trim(), |(name, _)| name);
    (!name.is_empty()).then(|| name.trim_end_matches(['\0', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shows_what_it_was_started_with() {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("7");
        std::fs::create_dir_all(folder.join("attr")).unwrap();
        let mounts = "20 1 0:9 / / rw,relatime - ext4 /dev/vda rw\n30 20 0:9 / /proc rw - proc proc rw\n40 1 0:8 / / ro,relatime - overlay overlay rw,lowerdir=/x\n";
        for (name, text) in [
            ("status", "Name:\tx\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
            ("mountinfo", mounts),
            ("attr/current", "docker-default (enforce)\n"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let expected = Seen {
            bounding: Some(0xa804_25fb),
            no_new_privileges: Some(true),
            is_filtered: Some(true),
            is_root_read_only: Some(true),
            apparmor: Some("docker-default".to_owned()),
        };
        assert_eq!(look(proc.path(), 7).unwrap(), expected);
        assert!(look(proc.path(), 8).unwrap_err().contains("process 8"));
        assert_eq!(profile_of("unconfined\n").as_deref(), Some("unconfined"));
        let own = look(Path::new("/proc"), std::process::id()).unwrap();
        assert!(own.bounding.is_some() && own.is_root_read_only.is_some(), "{own:?}");
    }
}
