//! `prefer-ipv6` where names are resolved: glibc's policy table (gai.conf(5), RFC 6724 §2.1).
//!
//! A subject whose inner IPv6 address is unique local (RFC 4193) would choose IPv4 for every destination outside, for
//! its label differs from theirs (rule 5). The block that Persona keeps in the file gives its prefix their label. glibc
//! drops its built-in labels as soon as a file names one, so the block repeats them unless the file has some already.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::path::Path;

const BEGIN: &str = "# BEGIN persona: kept by persona-ctl agent, do not edit";
const END: &str = "# END persona";

/// glibc's own labels (sysdeps/posix/getaddrinfo.c, default_labels).
const DEFAULT_LABELS: [(&str, u32); 8] = [
    ("::1/128", 0),
    ("::/0", 1),
    ("2002::/16", 2),
    ("::/96", 3),
    ("::ffff:0:0/96", 4),
    ("fec0::/10", 5),
    ("fc00::/7", 6),
    ("2001:0::/32", 7),
];

/// The label of destinations that have no other.
const LABEL_OF_ALL: u32 = 1;

/// Makes a file hold the block for these prefixes, or none. Returns whether it was changed. A file that would be empty is removed.
pub fn keep(path: &Path, prefixes: &[(Ipv6Addr, u8)]) -> io::Result<bool> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let wanted = merged(before.as_deref().unwrap_or_default(), prefixes);
    let wanted = (!wanted.is_empty()).then_some(wanted);
    let has_block = before.as_ref().is_some_and(|text| text.contains(BEGIN));
    if before == wanted || (!has_block && prefixes.is_empty()) {
        return Ok(false);
    }
    match wanted {
        None => std::fs::remove_file(path)?,
        Some(text) => replace(path, &text)?,
    }
    Ok(true)
}

/// The text with our block at its end, or without it.
fn merged(text: &str, prefixes: &[(Ipv6Addr, u8)]) -> String {
    let mut others = String::new();
    let mut is_ours = false;
    for line in text.lines() {
        match line.trim() {
            BEGIN => is_ours = true,
            END => is_ours = false,
            _ if !is_ours => {
                others.push_str(line);
                others.push('\n');
            }
            _ => {}
        }
    }
    if prefixes.is_empty() {
        return others;
    }
    let has_labels = others.lines().any(|line| line.trim_start().starts_with("label"));
    let mut block = format!("{BEGIN}\n");
    let defaults = DEFAULT_LABELS.iter().filter(|_| !has_labels);
    let ours = prefixes.iter().map(|(address, length)| (format!("{address}/{length}"), LABEL_OF_ALL));
    for (prefix, label) in defaults.map(|(prefix, label)| ((*prefix).to_owned(), *label)).chain(ours) {
        writeln!(block, "label {prefix} {label}").expect("writing to a string does not fail");
    }
    format!("{others}{block}{END}\n")
}

/// Whoever reads meanwhile sees the old or the new text, never a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".persona");
    // Whoever may write there could have put a link in its place.
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    File::create_new(&beside)?.write_all(text.as_bytes())?;
    if let Ok(facts) = std::fs::metadata(path) {
        std::fs::set_permissions(&beside, facts.permissions())?;
    }
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix() -> (Ipv6Addr, u8) {
        ("fd00:9::".parse().unwrap(), 64)
    }

    #[test]
    fn a_block_is_added_changed_and_taken_away_and_all_else_stays() {
        let mine = "# mine\nprecedence ::ffff:0:0/96 10\n";
        let with = merged(mine, &[prefix()]);
        assert!(with.starts_with(mine) && with.contains("label ::/0 1\n") && with.contains("label fd00:9::/64 1\n"));
        assert_eq!(merged(&with, &[prefix()]), with, "the same again changes nothing");
        assert_eq!(merged(&with, &[]), mine);
        let other = merged(&with, &[("fd00:7::".parse().unwrap(), 48)]);
        assert!(other.contains("fd00:7::/48") && !other.contains("fd00:9::"));
    }

    #[test]
    fn labels_that_are_there_already_are_not_repeated() {
        let with = merged("label ::/0 1\n", &[prefix()]);
        assert_eq!(with.matches("label ").count(), 2, "{with}");
    }

    #[test]
    fn a_file_that_held_nothing_else_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gai.conf");
        assert!(!keep(&path, &[]).unwrap() && !path.exists(), "none is made for nothing");
        assert!(keep(&path, &[prefix()]).unwrap());
        assert!(!keep(&path, &[prefix()]).unwrap(), "nothing to do");
        assert!(keep(&path, &[]).unwrap() && !path.exists());
        std::fs::write(&path, "# mine").unwrap();
        assert!(!keep(&path, &[]).unwrap(), "a file of others without our block is left alone");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine");
    }
}
