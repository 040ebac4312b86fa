//! Datagrams that are offered faster than they may pass: what comes out while a queue or a bucket is full.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::iperf::Direction;
use crate::ctl::patient;
use crate::sys;
use crate::world::{INTERNET_ADDRESS, World};

/// Bytes of a datagram's payload, and of its IP packet.
const PAYLOAD_LENGTH: usize = 1_200;
const PACKET_LENGTH: usize = PAYLOAD_LENGTH + 28;
/// How long a first datagram may take each way.
const FIRST_TIME: Duration = Duration::from_secs(20);
/// A sender sleeps so long between bursts, and a receiver waits so long for the next datagram.
const SLEEP: Duration = Duration::from_millis(1);
const WAIT: Duration = Duration::from_millis(100);

/// A flow between a workload and the internet host, both ends connected.
#[derive(Debug)]
pub struct Paced {
    inside: UdpSocket,
    outside: UdpSocket,
}

/// How much is offered, and what is measured of it.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Which way.
    pub direction: Direction,
    /// Inner IP bits per second, for each flow.
    pub bps: f64,
    /// How long is offered.
    pub time: Duration,
    /// From when on is measured: by then what may pass at once is through.
    pub settled: Duration,
}

impl Paced {
    /// A new flow of a workload.
    pub fn connect(world: &World, workload: &str) -> Result<Self> {
        let outside = world.namespaces.internet.run_inside(|| UdpSocket::bind((INTERNET_ADDRESS, 0)))??;
        let inside = world.workload(workload).run_inside(|| UdpSocket::bind("0.0.0.0:0"))??;
        inside.connect(outside.local_addr()?)?;
        for socket in [&inside, &outside] {
            socket.set_read_timeout(Some(patient(FIRST_TIME)))?;
            sys::enlarge_receive_buffer(socket)?;
        }
        inside.send(b"hello")?;
        let (_, client) = outside.recv_from(&mut [0; 16]).with_context(|| format!("{workload}'s first datagram"))?;
        outside.connect(client)?;
        outside.send(b"welcome")?;
        inside.recv(&mut [0; 16]).with_context(|| format!("the first datagram to {workload}"))?;
        [&inside, &outside].iter().try_for_each(|socket| socket.set_read_timeout(Some(WAIT)))?;
        Ok(Self { inside, outside })
    }

    /// Takes in what is still under way of an offer before.
    fn drain(&self) {
        [&self.inside, &self.outside].iter().for_each(|socket| while socket.recv(&mut [0; 2_048]).is_ok() {});
    }
}

/// Inner IP bits per second that come out of each flow.
pub fn received(flows: &[&Paced], offer: Offer) -> Vec<f64> {
    flows.iter().for_each(|flow| flow.drain());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let receivers: Vec<_> = flows
            .iter()
            .map(|flow| {
                let (from, to) = match offer.direction {
                    Direction::Up => (&flow.inside, &flow.outside),
                    Direction::Down => (&flow.outside, &flow.inside),
                };
                scope.spawn(move || send(from, start, offer));
                scope.spawn(move || receive(to, start, offer))
            })
            .collect();
        receivers.into_iter().map(|receiver| receiver.join().expect("a receiver does not panic")).collect()
    })
}

/// Calls `send` so many times a second, by the clock, until `time` has passed since `start`; who was kept from it catches up.
/// Gives how often it was called.
pub fn pace(start: Instant, time: Duration, per_sec: f64, mut send: impl FnMut()) -> u64 {
    let mut sent = 0;
    while start.elapsed() < time {
        let due = (start.elapsed().as_secs_f64() * per_sec) as u64;
        while sent < due {
            send();
            sent += 1;
        }
        std::thread::sleep(SLEEP);
    }
    sent
}

fn send(socket: &UdpSocket, start: Instant, offer: Offer) {
    pace(start, offer.time, offer.bps / 8.0 / PACKET_LENGTH as f64, || {
        // A full send buffer is as good as a full queue.
        let _ = socket.send(&[7; PAYLOAD_LENGTH]);
    });
}

fn receive(socket: &UdpSocket, start: Instant, offer: Offer) -> f64 {
    let (mut count, mut span) = (0_u32, None);
    while start.elapsed() < offer.time {
        // Nothing within the time is nothing to count.
        let is_datagram = socket.recv(&mut [0; 2_048]).is_ok_and(|length| length == PAYLOAD_LENGTH);
        let now = start.elapsed();
        if is_datagram && now > offer.settled {
            count += 1;
            span = span.map_or(Some((now, now)), |(first, _)| Some((first, now)));
        }
    }
    let seconds = span.map_or(0.0, |(first, last): (Duration, Duration)| (last - first).as_secs_f64());
    if seconds == 0.0 { 0.0 } else { f64::from(count - 1) * PACKET_LENGTH as f64 * 8.0 / seconds }
}
