//! `prefer-ipv6` in the real getaddrinfo: the block that the agent keeps turns the order round.

use std::path::PathBuf;

use persona_ctl::agent::keep_gai_file;
use persona_tests::ledger::{Ledger, Undo};
use persona_tests::netns::{Forwarding, Namespace, run};

/// Both families of a name, first to last, as programs in the namespace get them. `ip netns exec` binds the files under
/// /etc/netns/NAME over those of the host.
pub(crate) fn order(namespace: &Namespace) -> Vec<bool> {
    let answer = run("ip", &["netns", "exec", &namespace.name, "getent", "ahosts", "both.test"]).unwrap();
    let addresses = answer.lines().filter(|line| line.contains("STREAM"));
    addresses.map(|line| line.split_whitespace().next().unwrap().contains(':')).collect()
}

#[test]
fn a_local_prefix_prefers_ipv6_once_its_block_is_there() {
    if !PathBuf::from("/etc/gai.conf").exists() {
        eprintln!("SKIP: this host has no /etc/gai.conf to bind over");
        return;
    }
    let ledger = Ledger::default();
    let namespace = Namespace::create(&ledger, &format!("pp{}", std::process::id()), Forwarding::Off).unwrap();
    let folder = PathBuf::from("/etc/netns").join(&namespace.name);
    std::fs::create_dir_all(&folder).unwrap();
    ledger.note(Undo::RemoveFolder(folder.clone()));
    std::fs::write(folder.join("hosts"), "192.0.2.80 both.test\n2001:db8::80 both.test\n").unwrap();
    let file = folder.join("gai.conf");
    std::fs::write(&file, "# nothing here\n").unwrap();
    namespace.ip("link add eth0 type veth peer name far0").unwrap();
    for command in [
        "link set far0 up",
        "link set eth0 up",
        "address add 10.9.0.2/24 dev eth0",
        "address add fd00:9::2/64 dev eth0 nodad",
        "route add default via 10.9.0.1",
        "route add default via fd00:9::1",
    ] {
        namespace.ip(command).unwrap();
    }
    assert_eq!(order(&namespace), [false, true], "by default a unique local source prefers IPv4 (RFC 6724 rule 5)");
    let prefix = ("fd00:9::".parse().unwrap(), 64);
    assert!(keep_gai_file(&file, &[prefix]).unwrap());
    assert_eq!(order(&namespace), [true, false]);
    assert!(keep_gai_file(&file, &[]).unwrap());
    assert_eq!(order(&namespace), [false, true], "without the persona it is as it was");
    assert_eq!(ledger.undo_all(), Vec::<String>::new());
}
