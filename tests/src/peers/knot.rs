//! Knot DNS as a peer: an authoritative server that also answers with its client's address.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// How long the server may take to answer.
const START_TIME: Duration = Duration::from_secs(10);

/// Payload bytes of `large`'s only record: more than a datagram of any usual MTU holds.
pub const LARGE_STRING_COUNT: usize = 14;
const LARGE_STRING_BYTES: usize = 250;

/// Starts it on port 53 of every address of `inside`, authoritative for `example.net`:
/// `www` (A, AAAA), `large` (TXT), `whoami` (the client's address).
pub fn start(ledger: &Ledger, inside: &Namespace, folder: &Path) -> Result<Running> {
    let base = folder.join("knot");
    std::fs::create_dir_all(base.join("db")).with_context(|| format!("{} cannot be made", base.display()))?;
    std::fs::write(base.join("knot.conf"), config_text(&base))?;
    std::fs::write(base.join("example.net.zone"), zone_text())?;
    std::fs::write(base.join("whoami.zone"), "$TTL 1\n@ SOA ns admin 1 3600 600 86400 1\n  NS ns.example.net.\n")?;
    let mut command = Program::find("knot", "usr/sbin/knotd")?.command(inside)?;
    command.arg("-c").arg(base.join("knot.conf"));
    let mut knot = Running::start(ledger, "knotd", &folder.join("knotd.log"), command)?;
    let start = Instant::now();
    while inside.run_inside(|| std::net::TcpStream::connect(("127.0.0.1", 53)))?.is_err() {
        knot.check()?;
        if start.elapsed() > START_TIME {
            bail!("knotd does not answer: {}", knot.log_tail());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(knot)
}

/// `kdig` towards a server, with its options first.
pub fn kdig(inside: &Namespace, server: &str) -> Result<Command> {
    let mut command = Program::find("knot", "usr/bin/kdig")?.command(inside)?;
    command.arg(format!("@{server}")).args(["+time=3", "+retry=2"]);
    Ok(command)
}

/// What `large` holds, as kdig prints it.
pub fn large_text() -> String {
    let strings = (0..LARGE_STRING_COUNT).map(|index| format!("\"{}\"", large_string(index)));
    strings.collect::<Vec<_>>().join(" ")
}

fn large_string(index: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(index % 26).expect("a letter's number is small"));
    String::from(letter).repeat(LARGE_STRING_BYTES)
}

fn zone_text() -> String {
    let addresses = "www A 192.0.2.80\nwww AAAA 2001:db8::80\n";
    format!(
        "$TTL 60\n@ SOA ns admin 1 3600 600 86400 60\n  NS ns\nns A 192.0.2.53\n{addresses}large TXT {}\n",
        large_text()
    )
}

fn config_text(base: &Path) -> String {
    let base = base.display();
    let zone = |domain: &str, file: &str, more: &str| {
        format!(
            "  - domain: {domain}\n    storage: \"{base}\"\n    file: \"{file}\"\n    zonefile-load: whole\n    \
             journal-content: none\n{more}"
        )
    };
    format!(
        "server:\n    rundir: \"{base}\"\n    listen: [ 0.0.0.0@53, \"::@53\" ]\n    user: root\n    udp-workers: 1\n    \
         tcp-workers: 1\n    background-workers: 1\n    udp-max-payload: 4096\n\
         database:\n    storage: \"{base}/db\"\nlog:\n  - target: stderr\n    any: info\nzone:\n{}{}",
        zone("example.net", "example.net.zone", ""),
        zone("whoami.example.net", "whoami.zone", "    module: mod-whoami\n"),
    )
}
