//! coturn as a peer: a STUN server on two addresses, and its client that finds out how a NAT behaves (RFC 5780).

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// How long the server may take to listen.
const START_TIME: Duration = Duration::from_secs(10);

/// The server's first port; the second is the next one.
const PORT: u16 = 3478;

/// Starts a STUN server on ports 3478 and 3479 of two addresses.
pub fn start(ledger: &Ledger, inside: &Namespace, folder: &Path, addresses: [&str; 2]) -> Result<Running> {
    let mut command = Program::find("coturn", "usr/bin/turnserver")?.command(inside)?;
    command.args(["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout", "--simple-log"]);
    for address in addresses {
        command.arg(format!("--listening-ip={address}"));
    }
    let (pid, users) = (folder.join("turn.pid"), folder.join("turn.db"));
    command.arg(format!("--pidfile={}", pid.display())).arg(format!("--userdb={}", users.display()));
    let mut server = Running::start(ledger, "turnserver", &folder.join("turnserver.log"), command)?;
    let start = Instant::now();
    while !probe(inside, addresses[0])? {
        server.check()?;
        if start.elapsed() > START_TIME {
            bail!("turnserver does not listen: {}", server.log_tail());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

/// Whether the server answers a binding request of its own host (RFC 8489 §5: type, length, cookie, transaction).
fn probe(inside: &Namespace, address: &str) -> Result<bool> {
    let socket = inside.run_inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let request: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42persona-test";
    let mut answer = [0; 512];
    // No answer, or a refusal by ICMP, is what "not yet" looks like.
    let received = socket.send_to(&request, (address, PORT)).and_then(|_| socket.recv(&mut answer));
    Ok(received.is_ok_and(|length| length >= 20 && answer[..2] == [1, 1]))
}

/// What the client found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The addresses and ports that the server saw, in the order of its answers.
    pub reflexive: Vec<SocketAddr>,
    /// The verdicts, such as `NAT with Endpoint Independent Mapping!`.
    pub verdicts: Vec<String>,
    /// Everything that the client said.
    pub text: String,
}

/// Runs the client with options such as `-m` (mapping), `-f` (filtering), `-H` (hairpinning).
pub fn discover(inside: &Namespace, server: &str, options: &[&str]) -> Result<Discovery> {
    let mut command = Program::find("coturn", "usr/bin/turnutils_natdiscovery")?.command(inside)?;
    let output = command.args(options).arg(server).output().context("turnutils_natdiscovery does not start")?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok(read_discovery(&text))
}

fn read_discovery(text: &str) -> Discovery {
    let reflexive = text.lines().filter_map(|line| line.split_once("UDP reflexive addr: "));
    let reflexive = reflexive.filter_map(|(_, address)| address.trim().parse().ok()).collect();
    let verdicts =
        text.lines().map(str::trim).filter(|line| line.starts_with("NAT with") || line.starts_with("No NAT"));
    Discovery { reflexive, verdicts: verdicts.map(str::to_owned).collect(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_words_are_understood() {
        let text = "RFC 5780 response 1\n0: : IPv4. UDP reflexive addr: 203.0.113.64:1302\n\
                    0: : IPv4. Local addr: : 0.0.0.0:39200\n=====\nNAT with Endpoint Independent Mapping!\n";
        let discovery = read_discovery(text);
        assert_eq!(discovery.reflexive, ["203.0.113.64:1302".parse().unwrap()]);
        assert_eq!(discovery.verdicts, ["NAT with Endpoint Independent Mapping!"]);
    }
}
