//! The shipped systemd units: how exposed systemd-analyze finds them, that systemd knows every key, and that their command
//! lines are the program's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use persona_ctl::cli::Cli;

/// Exposure that a unit must stay below, from 0 to 10. The helper is what the agent, an edge and a gateway do without; a guest's
/// agent runs the package manager.
const EXPOSURE_LIMITS: [(&str, f64); 7] = [
    ("persona-manager", 2.0),
    ("persona-agent", 3.0),
    ("persona-edge", 3.0),
    ("persona-gateway", 3.0),
    ("persona-guard", 3.0),
    ("persona-helper", 4.0),
    ("persona-guest", 8.0),
];

/// Roles that run for long and tell the service manager how they are.
const ROLES: [&str; 4] = ["persona-manager", "persona-agent", "persona-edge", "persona-gateway"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd")
}

fn units() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("the units are there");
    let mut units: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    units.sort();
    assert!(units.len() > EXPOSURE_LIMITS.len());
    units
}

/// systemd-analyze, which asks no running systemd for what is asked here. None: it is not here, and need not be.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Option<Output> {
    let outcome = Command::new("systemd-analyze").args(arguments).args(units).env("LC_ALL", "C").output();
    if outcome.is_err() {
        assert!(std::env::var_os("PERSONA_REQUIRE_TOOLS").is_none(), "no systemd-analyze, and it is required");
        println!("SKIP: no systemd-analyze");
    }
    outcome.ok()
}

#[test]
fn units_are_no_more_exposed_than_their_work_asks_for() {
    for (name, limit) in EXPOSURE_LIMITS {
        let unit = folder().join(format!("{name}.service"));
        let arguments = ["security", "--offline=true", "--no-pager"];
        let Some(output) = analyze(&arguments, &[unit]) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().find(|line| line.contains("Overall exposure level")).expect("it is judged");
        let number = found.split(": ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a figure");
        let exposure: f64 = number.parse().expect("a figure");
        assert!(exposure < limit, "{name}: {exposure}, and the limit is {limit}\n{text}");
    }
}

#[test]
fn systemd_knows_every_key() {
    let Some(output) = analyze(&["verify", "--man=no"], &units()) else { return };
    let text = String::from_utf8_lossy(&output.stderr);
    // The program is not installed where this runs, and units of other packages are not our concern.
    let is_known = |line: &&str| line.contains("persona-ctl is not executable");
    let ours = |line: &&str| line.contains("persona") && !is_known(line);
    let complaints: Vec<&str> = text.lines().filter(ours).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn command_lines_of_units_are_the_programs() {
    let mut count = 0;
    for unit in units() {
        let text = std::fs::read_to_string(&unit).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[0], "persona-ctl", "{}: found in /usr/local/bin or /usr/bin", unit.display());
            assert!(Cli::try_parse_from(&words).is_ok(), "{}: {line}", unit.display());
            count += 1;
        }
    }
    assert_eq!(count, 7, "every service was looked at");
}

#[test]
fn roles_that_tell_the_service_manager_are_waited_for_and_watched() {
    // Scripts of packages may change to another user.
    let lines = ["Type=notify", "Restart=always", "NoNewPrivileges=yes"];
    for (name, lines) in ROLES.map(|name| (name, &lines[..])).into_iter().chain([("persona-guest", &lines[..2])]) {
        let text = std::fs::read_to_string(folder().join(format!("{name}.service"))).unwrap();
        for line in lines {
            assert!(text.lines().any(|it| it == *line), "{name}: {line}");
        }
        assert!(text.lines().any(|it| it.starts_with("WatchdogSec=")), "{name}");
    }
}
