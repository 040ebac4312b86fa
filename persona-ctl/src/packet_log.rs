//! The programs' log of packets, told on as events of tracing under the target `persona::packets`.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dataplane::packet_log::{PacketLine, PacketLog};

/// How often the log is read.
const READ_INTERVAL: Duration = Duration::from_millis(20);

/// Tells one packet.
pub fn tell(line: PacketLine) {
    tracing::info!(
        target: "persona::packets",
        {
            packet.hook = line.hook.name(),
            packet.verdict = line.verdict,
            packet.reason = line.reason.map(|reason| reason.name()),
            packet.ifindex = line.ifindex,
            packet.subject = line.subject,
            packet.protocol = line.protocol,
            packet.length_bytes = line.length,
        },
        "{line}"
    );
}

/// A task that reads the log; dropping it ends the task.
#[derive(Debug)]
pub struct Follower {
    _stop: DropGuard,
}

/// Reads the log in a task of its own.
pub fn follow(mut log: PacketLog) -> Follower {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(READ_INTERVAL);
        while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
            log.flush();
        }
    });
    Follower { _stop: stop.drop_guard() }
}
