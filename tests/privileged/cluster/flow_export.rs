//! `[flow_export]` of a real agent, read by a collector that knows only the standard: flows of both families, and of
//! configured leases, open and close.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netflow_parser::variable_versions::ipfix::FlowSetBody;
use netflow_parser::{NetflowPacket, NetflowParser};
use persona_core::wire::api::Explanation;
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{INTERNET_ADDRESS, INTERNET_ADDRESS6, World};

/// Where the collector listens, beside the manager.
const COLLECTOR: &str = "192.168.77.1:4739";

/// The second workload, which is given a whole address.
const OWN_SUBJECT: &str = "workload/n1/w2";

/// A pool of whole addresses, and a persona that is given one of them.
const OWN: &str = "
apiVersion: persona/v1
kind: EgressPool
metadata: { name: frankfurt-own }
spec: { addresses: [203.0.113.128/28], group: frankfurt }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: frankfurt-own }
spec:
  network:
    egress: { pools: [frankfurt-own], assign: configure }
    mtu: 1400
    edges: { group: frankfurt }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workloads }
spec:
  selector: { kind: workload }
  personas: [frankfurt-standard, tokyo-standard, frankfurt-own]
  default: frankfurt-standard
";

/// How long a flow may take to be told of: the agent looks for ends every five seconds.
const TELL_TIME: Duration = Duration::from_secs(40);

/// IANA's NAT events, by the names that the collector gives them: sessions of IPv4, and of anything.
const OF_IPV4: [&str; 2] = ["Nat44SessionCreate", "Nat44SessionDelete"];
const OF_ANY: [&str; 2] = ["NatTranslationCreate", "NatTranslationDelete"];

/// What the agent's file says.
pub(super) fn config() -> String {
    format!("\n[flow_export]\ncollector = \"{COLLECTOR}\"\ndomain = 7\n")
}

/// A collector: it takes datagrams and reads them with what templates have taught it.
pub(super) struct Collector {
    socket: UdpSocket,
    parser: NetflowParser,
    records: Vec<String>,
}

impl Collector {
    /// Starts one inside a namespace.
    pub(super) fn start(inside: &Namespace) -> Result<Self> {
        let socket = inside.run_inside(|| UdpSocket::bind(COLLECTOR))?.context("the collector's port is taken")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Self { socket, parser: NetflowParser::default(), records: Vec::new() })
    }

    /// Waits for a record of this event with all of these values.
    fn wait_for(&mut self, event: &str, values: &[&str]) -> Result<String> {
        let start = Instant::now();
        let is_it = |record: &&String| record.contains(event) && values.iter().all(|value| record.contains(value));
        loop {
            if let Some(found) = self.records.iter().find(is_it) {
                return Ok(found.clone());
            }
            if start.elapsed() > persona_tests::ctl::patient(TELL_TIME) {
                bail!("no record of event {event} with {values:?} among {:#?}", self.records);
            }
            self.take()?;
        }
    }

    /// Takes one datagram, if there is one.
    fn take(&mut self) -> Result<()> {
        let mut buffer = [0; 2_048];
        let Ok(length) = self.socket.recv(&mut buffer) else { return Ok(()) };
        let domain = u32::from_be_bytes(buffer[12..16].try_into()?);
        if domain != 7 {
            bail!("domain {domain} is not the node's");
        }
        let read = self.parser.parse_bytes(&buffer[..length]);
        if let Some(error) = read.error {
            bail!("a datagram cannot be read: {error:?}");
        }
        for packet in read.packets {
            let NetflowPacket::IPFix(message) = packet else { bail!("not IPFIX") };
            for set in message.flowsets {
                if let FlowSetBody::Data(data) = set.body {
                    self.records.extend(data.fields.iter().map(|record| format!("{record:?}")));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn run(world: &World, mut collector: Collector, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let leased = lease.space.address().context("an IPv4 lease")?.to_string();
    fetch(world, "w1", INTERNET_ADDRESS)?;
    let values = ["10.10.1.2", INTERNET_ADDRESS, &leased, SUBJECT];
    note(findings, "IPv4", &mut collector, OF_IPV4, &values)?;

    let explanation: Explanation = world.ctl.json(&["explain", SUBJECT])?;
    let prefix = explanation.lease6.and_then(|lease| lease.space.prefix()).context("an IPv6 lease")?;
    let client = fetch(world, "w1", &format!("[{INTERNET_ADDRESS6}]"))?;
    let is_leased =
        |client: IpAddr| matches!(client, IpAddr::V6(client) if client.segments()[..4] == prefix.segments()[..4]);
    findings.note("the server sees the leased prefix", client.to_string(), is_leased(client));
    let values = ["fd00:10:10:1::2", INTERNET_ADDRESS6, &client.to_string(), SUBJECT];
    note(findings, "IPv6", &mut collector, OF_ANY, &values)?;

    world.apply("own.yaml", OWN)?;
    switch_to(world, OWN_SUBJECT, "frankfurt-own")?;
    let own = view::lease_of(world, OWN_SUBJECT)?.space.address().context("a whole address")?.to_string();
    let client = fetch(world, "w2", INTERNET_ADDRESS)?;
    findings.note("the server sees the configured address", client.to_string(), client.to_string() == own);
    let values = [own.as_str(), INTERNET_ADDRESS, OWN_SUBJECT];
    note(findings, "a configured lease", &mut collector, OF_IPV4, &values)
}

fn note(
    findings: &mut Findings,
    what: &str,
    collector: &mut Collector,
    events: [&str; 2],
    values: &[&str],
) -> Result<()> {
    for (event, happening) in events.into_iter().zip(["opens", "closes"]) {
        collector.wait_for(event, values).with_context(|| format!("{what}: a flow {happening}"))?;
        findings.note(format!("{what}: a flow {happening}"), values.join(", "), true);
    }
    Ok(())
}

/// A page of its own connection; gives the address that the server saw.
fn fetch(world: &World, workload: &str, host: &str) -> Result<IpAddr> {
    let deadline = Instant::now() + persona_tests::ctl::patient(TELL_TIME);
    loop {
        let mut curl = world.workload(workload).command("curl")?;
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", &format!("http://{host}/whoami")]);
        let output = curl.output().context("curl does not start")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.split_whitespace().next().and_then(|address| address.parse().ok()) {
            Some(client) => return Ok(client),
            None if Instant::now() > deadline => bail!("{workload} gets {text:?} of {host}"),
            None => {}
        }
    }
}
