//! Fair queueing (`fq`) at the root of the node's uplink and of both sides of its edges. It sends each packet at the time
//! that stands in it (`skb->tstamp`), which senders that pace themselves set, and drops what is more than ten seconds
//! ahead: what our programs send on must carry a time that it can make something of. Only where the kernel has it.

use anyhow::{Result, bail};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::echo::EchoClient;
use persona_tests::netns::Namespace;
use persona_tests::world::World;
use std::time::{Duration, Instant};

use super::{in_cluster, interop, interop_netem};

/// The node and both edges that carry its persona, and their devices that packets leave by.
const EDGES: [&str; 2] = ["fra1", "fra2"];
const EDGE_DEVICES: [&str; 2] = ["in0", "out0"];
const NODE_DEVICE: &str = "up0";

/// How long both transfers may take: a packet that is held back for seconds would not let them.
const TRANSFERS_TIME: Duration = Duration::from_secs(10);

/// Datagrams per second, and for how long.
const ECHO_PACKETS_PER_SEC: u32 = 100;
const ECHO_TIME: Duration = Duration::from_secs(2);

#[test]
fn interop_fq_at_every_root_sends_what_we_send_on_at_once() {
    if interop::lacks(interop::FQ) {
        return;
    }
    in_cluster("fq", |world, findings| {
        for (host, device) in ports(world) {
            interop::tc(host, &format!("qdisc replace dev {device} root fq"))?;
        }
        let start = Instant::now();
        // The server's congestion control paces what it sends (BBR), so its packets carry times.
        interop_netem::tcp(world, findings)?;
        let (time, limit) = (start.elapsed(), patient(TRANSFERS_TIME));
        findings.note("nothing is held back", format!("both transfers took {time:.1?}"), time < limit);
        let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
        std::thread::sleep(ECHO_TIME);
        let count = echo.finish();
        let measured = format!("{} of {} came back", count.returned, count.sent);
        findings.note("datagrams come back", measured, count.returned * 100 > count.sent * 95);
        for (host, device) in ports(world) {
            note_queue(host, device, findings)?;
        }
        Ok(())
    });
}

fn ports(world: &World) -> Vec<(&Namespace, &'static str)> {
    let edges = EDGES.iter().flat_map(|name| EDGE_DEVICES.map(|device| (&world.namespaces.edges[*name], device)));
    edges.chain([(&world.namespaces.node, NODE_DEVICE)]).collect()
}

/// That the queue is there and dropped nothing; the node's must have carried the uploads.
fn note_queue(host: &Namespace, device: &str, findings: &mut Findings) -> Result<()> {
    let output = host.command("tc")?.args(["-s", "-j", "qdisc", "show", "dev", device]).output()?;
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let queue = queues.as_array().into_iter().flatten().find(|queue| queue["kind"] == "fq");
    let Some(queue) = queue else { bail!("{device} of {} has no fq: {queues}", host.name) };
    let (packets, drops) = (queue["packets"].as_u64().unwrap_or(0), queue["drops"].as_u64().unwrap_or(0));
    let ok = drops == 0 && (device != NODE_DEVICE || packets > 100);
    findings.note(format!("{device} of {} dropped nothing", host.name), format!("{drops}, and sent {packets}"), ok);
    Ok(())
}
