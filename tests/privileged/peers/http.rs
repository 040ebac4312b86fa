//! nginx and curl: HTTP/1.1, HTTP/2 with and without TLS, many streams at once, and transfers in both directions that
//! outlive a persona switch and the death of the edge that carries them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use persona_tests::findings::Findings;
use persona_tests::peers::{content, nginx};
use persona_tests::process::Running;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::{INTERNET_ADDRESS, World};

use super::{finish, in_cluster, note_client, output_of, wait_for_bytes};

/// Bytes of the file that goes down, about four seconds at the persona's 80 Mbit/s.
const DOWN_BYTES: usize = 32 << 20;

/// Bytes of the file that goes up, about three seconds at the persona's 40 Mbit/s.
const UP_BYTES: usize = 14 << 20;

/// Streams at once over one connection, and the bytes of each.
const STREAM_COUNT: u64 = 12;
const STREAM_BYTES: usize = 300_000;

#[test]
fn http_1_and_2_show_the_lease_and_keep_every_byte() {
    in_cluster("HTTP", |world, findings| {
        let _tls = start_tls(world)?;
        versions(world, findings)?;
        many_streams(world, findings)?;
        transfers_across_a_switch_and_a_death(world, findings)
    });
}

/// nginx with TLS on port 443. Its certificate is for the address and signed by itself.
fn start_tls(world: &World) -> Result<Running> {
    let made = rcgen::generate_simple_self_signed([INTERNET_ADDRESS.to_owned()])?;
    std::fs::write(world.path("tls.crt"), made.cert.pem())?;
    std::fs::write(world.path("tls.key"), made.signing_key.serialize_pem())?;
    let (folder, offered) = (world.folder.display(), nginx::locations(&world.folder));
    let servers = format!(
        "  server {{ listen 443 ssl http2; ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;\n    \
         {offered}  }}"
    );
    nginx::start(&world.ledger, &world.namespaces.internet, &world.folder, "nginx-tls", &servers, 443)
}

fn curl(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut command = world.workload("w1").command("curl")?;
    command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--cacert"]);
    command.arg(world.path("tls.crt")).args(arguments);
    Ok(command)
}

fn versions(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    for (option, origin, version) in [
        ("--http1.1", format!("http://{INTERNET_ADDRESS}"), "1.1"),
        ("--http2-prior-knowledge", format!("http://{INTERNET_ADDRESS}:81"), "2"),
        ("--http1.1", format!("https://{INTERNET_ADDRESS}"), "1.1"),
        ("--http2", format!("https://{INTERNET_ADDRESS}"), "2"),
    ] {
        let url = format!("{origin}/whoami");
        let text = output_of(&mut curl(world, &[option, &url, "--write-out", "%{http_version}"])?)?;
        let (client, spoken) = text.rsplit_once('\n').with_context(|| format!("{url} answered {text:?}"))?;
        note_client(findings, &url, client, &lease);
        findings.note(format!("{url} speaks HTTP/{version}"), format!("HTTP/{spoken}"), spoken == version);
    }
    Ok(())
}

fn many_streams(world: &World, findings: &mut Findings) -> Result<()> {
    let folder = world.path("streams");
    std::fs::create_dir_all(&folder)?;
    let names: Vec<String> = (0..STREAM_COUNT).map(|number| format!("stream{number}")).collect();
    for (seed, name) in (1..).zip(&names) {
        content::write(&world.path("www").join(name), STREAM_BYTES, seed)?;
    }
    let mut command = curl(world, &["--http2", "--parallel", "--write-out", "%{http_version} %{local_port}\\n"])?;
    for name in &names {
        command.arg(format!("https://{INTERNET_ADDRESS}/{name}")).arg("--output").arg(folder.join(name));
    }
    let text = output_of(&mut command)?;
    let lines: std::collections::BTreeSet<&str> = text.lines().collect();
    for name in &names {
        content::require_same(&world.path("www").join(name), &folder.join(name))?;
    }
    let measured = format!("{STREAM_COUNT} files whole; version and port: {lines:?}");
    let all_new = lines.iter().all(|line| line.starts_with("2 "));
    findings.note("many streams at once over HTTP/2", measured, all_new && !lines.is_empty());
    Ok(())
}

fn transfers_across_a_switch_and_a_death(world: &mut World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let (down, up) = (world.path("www/down"), world.path("up"));
    content::write(&down, DOWN_BYTES, 77)?;
    content::write(&up, UP_BYTES, 78)?;
    let copy = world.path("down.copy");
    let url = format!("https://{INTERNET_ADDRESS}/down");
    let mut command = curl(world, &["--http2", &url, "--output"])?;
    command.arg(&copy).arg("--dump-header").arg(world.path("down.head"));
    let mut download = Running::start(&world.ledger, "curl down", &world.path("down.log"), command)?;
    let url = format!("https://{INTERNET_ADDRESS}/put/up");
    let mut command = curl(world, &["--http1.1", "--upload-file"])?;
    command.arg(&up).arg(&url).arg("--dump-header").arg(world.path("up.head"));
    let mut upload = Running::start(&world.ledger, "curl up", &world.path("up.log"), command)?;

    wait_for_bytes(&mut download, &copy, 4 << 20)?;
    switch_to(world, SUBJECT, TOKYO)?;
    let new = view::lease_of(world, SUBJECT)?;
    let client = view::seen_by_server(world, "w1")?;
    note_client(findings, "a new connection after the switch", &format!("{} {}", client.0, client.1), &new);
    let victim = view::carrying_edge(world, "out0")?;
    world.kill_edge(&victim)?;
    download.check().context("the download was to outlive the switch and the death: make its file larger")?;
    upload.check().context("the upload was to outlive the switch and the death: make its file larger")?;
    finish(&mut download)?;
    finish(&mut upload)?;
    let bytes = content::require_same(&down, &copy)?;
    findings.note("a download outlives a switch and an edge's death", format!("{bytes} bytes, {victim} died"), true);
    note_client(findings, "the download", &client_of(&world.path("down.head"))?, &lease);
    let bytes = content::require_same(&up, &world.path("www/put/up"))?;
    findings.note("an upload outlives both too", format!("{bytes} bytes"), true);
    note_client(findings, "the upload", &client_of(&world.path("up.head"))?, &lease);
    Ok(())
}

fn client_of(head: &Path) -> Result<String> {
    let text = std::fs::read_to_string(head)?;
    let fields = text.lines().filter_map(|line| line.split_once(": "));
    let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("x-client"));
    named
        .map(|(_, value)| value.to_owned())
        .next_back()
        .with_context(|| format!("the server named no client in {text:?}"))
}
