//! `config check` and `config show` with the real binary: every mistake with its place, and what is in force without secrets.

use std::path::PathBuf;
use std::process::{Command, Output};

/// What no output may hold.
const SECRET: &str = "s3cr3t-of-the-test";

/// A mistake's line, and how its key begins and what its message holds.
type Expected = (Option<u64>, &'static str, &'static str);

fn ctl(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
    command.args(arguments).envs(variables.iter().copied()).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn example(role: &str) -> String {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/examples");
    examples.join(format!("{role}.toml")).display().to_string()
}

#[test]
fn shipped_examples_are_right_and_what_is_shown_of_them_is_right_again() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["manager", "agent", "edge", "gateway"] {
        let output = ctl(&["config", "check", role, "--config", &example(role)], &[]);
        assert!(output.status.success(), "{role}: {}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with("is right\n"), "{role}");
        let shown = ctl(&["config", "show", role, "--config", &example(role)], &[]);
        assert!(shown.status.success(), "{role}: {}", text(&shown.stderr));
        let again = dir.path().join(format!("{role}.toml"));
        std::fs::write(&again, &shown.stdout).unwrap();
        let again = again.display().to_string();
        let shown_again = ctl(&["config", "show", role, "--config", &again], &[]);
        assert_eq!(text(&shown_again.stdout), text(&shown.stdout), "{role}");
    }
}

#[test]
fn every_mistake_is_named_by_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml").display().to_string();
    let seal = dir.path().join("seal.key").display().to_string();
    let made = ctl(&["manager", "seal-key", "make", &seal], &[]);
    assert!(made.status.success() && text(&made.stdout).contains("seals"), "{}", text(&made.stderr));
    std::fs::set_permissions(&seal, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let open_to_others = format!("[ca]\nseal_key_file = '{seal}'\n");
    let cases: [(&str, &str, &[Expected]); 8] = [
        ("manager", &open_to_others, &[(Some(2), "ca.seal_key_file", "chmod 0600")]),
        (
            "manager",
            "[ca]\nseal_key_file = '/nowhere/seal.key'\n",
            &[(Some(2), "ca.seal_key_file", "/nowhere/seal.key")],
        ),
        (
            "manager",
            "lisen = '10.0.0.1:1'\n\nnames = 7\n",
            &[(Some(1), "lisen", "listen"), (Some(3), "names", "sequence")],
        ),
        (
            "manager",
            "silent_after_ms = 5\nprobe_multiplier = 1\nurls = ['m:1']\n",
            &[
                (Some(3), "urls", "https://"),
                (Some(1), "silent_after_ms", "twice"),
                (Some(2), "probe_multiplier", "2 to 20"),
            ],
        ),
        ("agent", "", &[(None, "name", "--name"), (None, "uplink", "--uplink")]),
        (
            "agent",
            "name = 'n1'\nuplink = 'eth0'\n[[workload]]\nname = 'a'\ndevice = 'v'\n[[workload]]\nname = 'b'\n",
            &[(Some(3), "workload[1]", "set address"), (Some(6), "workload[2]", "set device")],
        ),
        (
            "edge",
            "name = 'e'\ngroup = 'g'\ninside = 'i'\n",
            &[(None, "outside", "--outside"), (None, "outside_next_hop", "")],
        ),
        (
            "gateway",
            "devices = ['a', 'a']\n[[service]]\nname = 'w'\naddress = '192.0.2.1'\nport = 80\nclient_affinity_secs = 0\n",
            &[(Some(2), "service[1]", "keeps nobody"), (Some(1), "devices", "twice")],
        ),
    ];
    for (role, content, expected) in cases {
        std::fs::write(&file, content).unwrap();
        let output = ctl(&["config", "check", role, "--config", &file, "--output", "json"], &[]);
        assert_eq!(output.status.code(), Some(1), "{role}: {content}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["file"], file.as_str());
        let mistakes = answer["mistakes"].as_array().unwrap();
        assert_eq!(mistakes.len(), expected.len(), "{role}: {answer}");
        for (mistake, (line, key, message)) in mistakes.iter().zip(expected) {
            assert_eq!(mistake["line"].as_u64(), *line, "{mistake}");
            assert!(mistake["key"].as_str().unwrap().starts_with(key), "{mistake}");
            assert!(mistake["message"].as_str().unwrap().contains(message), "{mistake}");
        }
        let for_people = ctl(&["config", "check", role, "--config", &file], &[]);
        assert_eq!(text(&for_people.stdout).lines().filter(|line| line.starts_with(&file)).count(), expected.len());
    }
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let output = ctl(&["config", "check", "agent", "--config", "/nonexistent/agent.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/agent.toml cannot be read"), "{}", text(&output.stderr));
}

#[test]
fn flags_go_over_variables_and_those_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml").display().to_string();
    std::fs::write(&file, "name = 'of-file'\nuplink = 'eth0'\n").unwrap();
    let name = |arguments: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&["config", "show", "agent", "-o", "json", "--config", &file], arguments].concat();
        let answer: serde_json::Value = serde_json::from_slice(&ctl(&arguments, variables).stdout).unwrap();
        assert_eq!(answer["bpffs"], "/sys/fs/bpf/persona", "defaults are shown");
        answer["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(&[], &[]), "of-file");
    assert_eq!(name(&[], &[("PERSONA_NAME", "of-variable")]), "of-variable");
    assert_eq!(name(&["--name", "of-flag"], &[("PERSONA_NAME", "of-variable")]), "of-flag");
}

#[test]
fn secrets_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml").display().to_string();
    let token = format!("join_token = '{SECRET}'\n");
    let agent = format!("name = 'n1'\nuplink = 'eth0'\n{token}");
    let edge = format!("name = 'e'\ngroup = 'g'\ninside = 'i'\noutside = 'o'\noutside_next_hop = '192.0.2.1'\n{token}");
    let manager = format!("store = 'postgres://p:{SECRET}@db/p?password={SECRET}'\n");
    let synchronous = format!("store = {{ url = 'postgres://p:{SECRET}@db/p', require_sync = true }}\n");
    for (role, content) in [("agent", &agent), ("edge", &edge), ("manager", &manager), ("manager", &synchronous)] {
        std::fs::write(&file, content).unwrap();
        for format in ["table", "json", "yaml"] {
            for verb in ["show", "check"] {
                let variables = [("PERSONA_JOIN_TOKEN", SECRET)];
                let output = ctl(&["config", verb, role, "--config", &file, "-o", format], &variables);
                assert!(output.status.success(), "{role}: {}", text(&output.stderr));
                let all = text(&output.stdout) + &text(&output.stderr);
                assert!(!all.contains(SECRET), "{verb} {role} -o {format}: {all}");
                let is_redacted = verb == "show" && role != "manager";
                assert!(!is_redacted || all.contains("<redacted>"), "{verb} {role} -o {format}: {all}");
            }
        }
    }
}
