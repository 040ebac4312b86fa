//! A QEMU guest as a workload, behind a tap device with segmentation offloads: its own kernel's TCP through the persona
//! in both directions.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::peers::content;
use persona_tests::peers::guest::Guest;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{TOKYO, view};
use persona_tests::world::{GUEST, INTERNET_ADDRESS, World};

use super::{in_cluster_with, note_client, wait_for_lease};

/// The guest, as the manager knows it.
pub(crate) const SUBJECT: &str = "workload/n1/v1";

/// Bytes that come down, and bytes of the guest's own file, which goes up several times.
const DOWN_BYTES: usize = 20 << 20;
const CONTENT_BYTES: usize = 4 << 20;
const UP_ROUNDS: usize = 4;

/// The persona's MTU, to which our program limits what TCP segments the guest makes.
const PERSONA_MTU: u64 = 1_400;

/// Where the internet host takes what the guest sends.
const UP_PORT: u16 = 5000;

/// How long a command in the guest may take on a busy machine.
const COMMAND_TIME: Duration = Duration::from_secs(90);

/// How long the end of a connection may take to come through.
const CLOSE_TIME: Duration = Duration::from_secs(15);

#[test]
fn a_qemu_guest_shows_its_own_lease() {
    let prepare = |world: &mut World| world.extra_workloads.push(GUEST);
    in_cluster_with("guest", prepare, |world, findings| {
        let own = world.path("guest-content");
        content::write(&own, CONTENT_BYTES, 51)?;
        world.add_tap(&GUEST)?;
        let mut guest = Guest::start_behind(world, &GUEST, &own)?;
        let lease = wait_for_lease(world, SUBJECT)?;
        let whoami = format!("wget -q -O - http://{INTERNET_ADDRESS}/whoami");
        note_client(findings, "wget in the guest", &guest.run(&whoami, COMMAND_TIME)?, &lease);
        upload(world, &mut guest, &own, findings)?;
        download(world, &mut guest, findings)?;
        switch_to(world, SUBJECT, TOKYO)?;
        let seen = guest.run(&whoami, COMMAND_TIME)?;
        note_client(findings, "after a switch", &seen, &view::lease_of(world, SUBJECT)?);
        Ok(())
    });
}

fn download(world: &World, guest: &mut Guest, findings: &mut Findings) -> Result<()> {
    let file = world.path("www/down");
    content::write(&file, DOWN_BYTES, 53)?;
    let expected = persona_tests::netns::run("md5sum", &[&file.display().to_string()])?;
    let command = format!("wget -q -O - http://{INTERNET_ADDRESS}/down | md5sum");
    let found = guest.run(&command, COMMAND_TIME)?;
    let word = |text: &str| text.split_whitespace().next().map(str::to_owned);
    let is_same = word(&found).is_some() && word(&found) == word(&expected);
    findings.note(format!("{DOWN_BYTES} bytes come down whole"), found.trim(), is_same);
    Ok(())
}

fn upload(world: &World, guest: &mut Guest, own: &Path, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let sink = Sink::start(&world.namespaces.internet)?;
    let before = packets_and_bytes(&world.namespaces.node, GUEST.name)?;
    let files = "/content ".repeat(UP_ROUNDS);
    // `cat` writes to the connection itself, by sendfile: large pieces, which TCP hands over unsegmented.
    guest.run(&format!("nc {INTERNET_ADDRESS} {UP_PORT} -e cat {files}"), COMMAND_TIME)?;
    let (client, received) = sink.finish()?;
    note_client(findings, "an upload from the guest", &format!("{} {}", client.ip(), client.port()), &lease);
    let expected = std::fs::read(own)?.repeat(UP_ROUNDS);
    let measured = format!("{} of {} bytes", received.len(), expected.len());
    findings.note("what goes up arrives whole", measured, received == expected);
    let after = packets_and_bytes(&world.namespaces.node, GUEST.name)?;
    let mean = (after.1 - before.1) / (after.0 - before.0).max(1);
    let expected = format!("the guest hands over packets to be segmented, more than twice {PERSONA_MTU} bytes");
    findings.note(expected, format!("{mean} bytes"), mean > 2 * PERSONA_MTU);
    Ok(())
}

fn packets_and_bytes(namespace: &Namespace, device: &str) -> Result<(u64, u64)> {
    let text = namespace.ip(&format!("-j -s link show dev {device}"))?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let count = |name: &str| json[0]["stats64"]["rx"][name].as_u64();
    count("packets").zip(count("bytes")).with_context(|| format!("{device} has no counters: {text}"))
}

/// Takes one connection and all that it sends.
struct Sink(JoinHandle<std::io::Result<(SocketAddr, Vec<u8>)>>);

impl Sink {
    fn start(inside: &Namespace) -> Result<Self> {
        let listener = inside.run_inside(|| TcpListener::bind(("0.0.0.0", UP_PORT)))??;
        Ok(Self(std::thread::spawn(move || {
            let (mut stream, client) = listener.accept()?;
            stream.set_read_timeout(Some(COMMAND_TIME))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            Ok((client, received))
        })))
    }

    /// Waits for the end of the connection, which the sender has closed by now; fails if nobody came.
    fn finish(self) -> Result<(SocketAddr, Vec<u8>)> {
        let start = Instant::now();
        while !self.0.is_finished() {
            if start.elapsed() > CLOSE_TIME {
                bail!("the guest's connection has not ended within {CLOSE_TIME:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.0.join().expect("the sink does not panic").context("the upload broke")
    }
}
