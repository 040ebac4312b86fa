//! What is expected of a gateway, whatever the way of delivery: everybody is served, the client is seen, large transfers
//! arrive whole both ways, a drain fails no request, a death fails its own connections only, and neither the role's end
//! nor its restart is noticed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use persona_ctl::gateway::InstanceView;
use persona_tests::findings::Findings;
use persona_tests::peers::wrk::{Connections, Summary, Wrk};

use super::place::{FILE_BYTES, INSTANCES, Place, Way};

/// Connections that are held across a death.
const HELD_COUNT: usize = 60;

/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The instance that drains, and the one that dies.
const DRAINED: &str = "i2";
const KILLED: &str = "i3";

pub(super) fn tell(place: &mut Place, findings: &mut Findings) {
    findings.run("first contact", |findings| first_contact(place, findings));
    findings.run("large transfers", |findings| large_transfers(place, findings));
    findings.run("drain", |findings| drain(place, findings));
    findings.run("restart", |findings| restart(place, findings));
    findings.run("death", |findings| death(place, findings));
}

/// A connection that is kept, over which one asks again and again.
struct Held {
    stream: BufReader<TcpStream>,
}

impl Held {
    fn open(place: &Place) -> Result<Self> {
        let stream = TcpStream::connect((place.way.vip(), 80))?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks for the start page: the instance's name, and the client that it saw.
    fn ask(&mut self) -> Result<String> {
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")?;
        let length = self.head()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    /// Reads an answer's head; gives the length of its body.
    fn head(&mut self) -> Result<usize> {
        let (mut line, mut length) = (String::new(), 0);
        while self.stream.read_line(&mut line)? > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
            line.clear();
        }
        if line.is_empty() { bail!("the connection was closed") } else { Ok(length) }
    }
}

fn first_contact(place: &Place, findings: &mut Findings) -> Result<()> {
    let answers = place
        .client
        .run_inside(|| -> Result<Vec<String>> { (0..HELD_COUNT).map(|_| Held::open(place)?.ask()).collect() })??;
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &answers {
        *shares.entry(answer.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    let everybody = INSTANCES.iter().all(|name| shares.contains_key(name));
    findings.note("new connections go to every instance", format!("{shares:?}"), everybody);
    let client = place.way.client_address();
    let seen = answers.iter().filter(|answer| answer.ends_with(&format!(" {client}"))).count();
    findings.note(format!("instances see the client, {client}"), format!("{seen} of {HELD_COUNT}"), seen == HELD_COUNT);
    let metrics = place.gateway.run_inside(metrics)??;
    let line = "persona_gateway_instance_weight{service=\"web\",instance=\"i1\"} 100";
    findings.note("metrics are served", line, metrics.contains(line));
    Ok(())
}

/// What a scraper gets.
fn metrics() -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 9602))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn large_transfers(place: &Place, findings: &mut Findings) -> Result<()> {
    let (_, before) = place.gateway.device_bytes("out0")?;
    let received = place.client.run_inside(|| -> Result<Vec<u8>> {
        let mut held = Held::open(place)?;
        held.stream.get_mut().write_all(b"GET /file HTTP/1.1\r\nHost: gateway\r\n\r\n")?;
        let mut body = vec![0; held.head()?];
        held.stream.read_exact(&mut body)?;
        Ok(body)
    })??;
    let file = std::fs::read(place.folder.join("www/file"))?;
    let told = format!("{} of {FILE_BYTES} bytes", received.len());
    findings.note("a file comes down whole", told, received == file);
    let (_, after) = place.gateway.device_bytes("out0")?;
    let (passed, is_direct) = (after - before, !matches!(place.way, Way::Nat | Way::Nat6));
    let expected = if is_direct { "it comes directly" } else { "it comes through the gateway" };
    let is_so = (passed < FILE_BYTES as u64 / 4) == is_direct;
    findings.note(expected, format!("{passed} bytes left the gateway on the outside"), is_so);
    let status = place.client.run_inside(|| -> Result<String> {
        let mut held = Held::open(place)?;
        let head = format!("PUT /put/up HTTP/1.1\r\nHost: gateway\r\nContent-Length: {FILE_BYTES}\r\n\r\n");
        held.stream.get_mut().write_all(head.as_bytes())?;
        held.stream.get_mut().write_all(&file)?;
        let mut line = String::new();
        held.stream.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    })??;
    let is_whole = std::fs::read(place.folder.join("www/put/up"))? == file;
    findings.note("a file goes up whole", status.clone(), status.contains(" 201 ") && is_whole);
    Ok(())
}

fn wrk(place: &Place, name: &str, connections: (Connections, u32), seconds: u64) -> Result<Wrk> {
    let duration = Duration::from_secs(seconds);
    Wrk::start(&place.ledger, &place.client, Path::new(&place.folder), name, &place.way.url(), connections, duration)
}

fn note_clean(findings: &mut Findings, what: &str, summary: Summary) {
    let is_clean = summary.request_count > 100 && summary.error_count == 0 && summary.refusal_count == 0;
    findings.note(format!("{what}: no request fails"), format!("{summary:?}"), is_clean);
}

fn of<'a>(instances: &'a [InstanceView], name: &str) -> Result<&'a InstanceView> {
    instances.iter().find(|instance| instance.name == name).with_context(|| format!("there is an instance {name}"))
}

fn drain(place: &mut Place, findings: &mut Findings) -> Result<()> {
    let kept = wrk(place, "drain-kept", (Connections::Kept, 24), 6)?;
    let fresh = wrk(place, "drain-fresh", (Connections::Fresh, 4), 6)?;
    std::thread::sleep(Duration::from_secs(2));
    place.ctl(&["drain", "web", DRAINED])?;
    let drained = place.instances()?;
    let drained = of(&drained, DRAINED)?;
    note_clean(findings, "kept connections across a drain", kept.finish()?);
    note_clean(findings, "fresh connections across a drain", fresh.finish()?);
    let after = place.instances()?;
    let after = of(&after, DRAINED)?;
    let opened = format!("{} before, {} after", drained.opened, after.opened);
    findings.note(
        "an instance that drains gets no new flow",
        opened,
        drained.opened == after.opened && drained.draining,
    );
    let carried = format!("{} packets before, {} after", drained.ingress_packets, after.ingress_packets);
    findings.note("its established flows stay", carried, after.ingress_packets > drained.ingress_packets);
    place.ctl(&["drain", "web", DRAINED, "--wait", "--timeout", "60"])?;
    let error = place.ctl(&["drain", "web", "i9"]).err().map(|error| error.to_string()).unwrap_or_default();
    findings.note("an unknown instance is refused with those there are", &error, error.contains("i1, i2, i3"));
    Ok(())
}

fn restart(place: &mut Place, findings: &mut Findings) -> Result<()> {
    let kept = wrk(place, "restart-kept", (Connections::Kept, 12), 4)?;
    let fresh = wrk(place, "restart-fresh", (Connections::Fresh, 4), 4)?;
    std::thread::sleep(Duration::from_secs(1));
    place.role()?.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    place.launch()?;
    note_clean(findings, "kept connections while the role is killed and restarted", kept.finish()?);
    note_clean(findings, "fresh connections meanwhile", fresh.finish()?);
    let instances = place.wait_for("the role to answer again", |it| it.iter().all(|instance| instance.alive))?;
    let is_draining = of(&instances, DRAINED)?.draining;
    findings.note("a drain outlives the role", format!("draining: {is_draining}"), is_draining);
    place.ctl(&["undrain", "web", DRAINED])?;
    Ok(())
}

fn death(place: &mut Place, findings: &mut Findings) -> Result<()> {
    let mut held = place.client.run_inside(|| -> Result<Vec<(Held, String)>> {
        let open = || -> Result<(Held, String)> {
            let mut held = Held::open(place)?;
            let name = held.ask()?.split(' ').next().unwrap_or_default().to_owned();
            Ok((held, name))
        };
        (0..HELD_COUNT).map(|_| open()).collect()
    })??;
    let index = INSTANCES.iter().position(|name| *name == KILLED).context("who is killed is an instance")?;
    place.servers[index].kill()?;
    let dead = |it: &[InstanceView]| it.iter().any(|instance| instance.name == KILLED && !instance.alive);
    let instances = place.wait_for("the death to be seen", dead)?;
    let trouble = &of(&instances, KILLED)?.trouble;
    findings.note("the gateway says what is wrong with it", trouble, !trouble.is_empty());
    let mut counts = [0usize; 4];
    for (connection, name) in &mut held {
        let is_dead = name == KILLED;
        let answer = connection.ask();
        counts[usize::from(is_dead) * 2 + usize::from(answer.is_err())] += 1;
    }
    let [others_live, others_failed, own_live, own_failed] = counts;
    let told =
        format!("others: {others_live} answer, {others_failed} fail; its own: {own_live} answer, {own_failed} fail");
    let is_exact = others_failed == 0 && own_live == 0 && own_failed > 0 && others_live > 0;
    findings.note("only the connections of who died fail", told, is_exact);
    let fresh = wrk(place, "death-fresh", (Connections::Fresh, 4), 3)?;
    note_clean(findings, "fresh connections after a death", fresh.finish()?);
    Ok(())
}
