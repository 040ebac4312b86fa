//! TCP goodput of encrypted personas: through WireGuard in user space, and where the kernel has one through that, beside what
//! `wg` sets up between the same two hosts. What encryption takes is all of it: both ends share one machine's processors.

use anyhow::Result;

use super::chain::Kind;
use super::end_to_end::{PLAIN, goodput, in_turns_of};
use super::measures::Run;
use super::row::{Better, Row};
use super::samples::Samples;
use crate::netns::{Forwarding, Namespace};

const WIREGUARD: &str = "the kernel's WireGuard, routed";

/// Upwards and downwards.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    let has_kernels = has_kernels(run)?;
    let mut kinds = vec![Kind::Plain, Kind::OursUserspace];
    if has_kernels {
        kinds.extend([Kind::Wireguard, Kind::OursKernel]);
    }
    let mut rows = Vec::new();
    for (direction, options) in [("up", &[][..]), ("down", &["--reverse"])] {
        let samples = in_turns_of(run, "wireguard", &kinds, |chain| Ok([goodput(chain, options)?]))?;
        let row = |of: &str, ours: &Samples| {
            Row::new(format!("wireguard-{direction}/{of}"), "Gbit/s", Better::More, ours.clone())
        };
        let ([plain], [userspace]) = (&samples[0], &samples[1]);
        rows.push(row("userspace-beside-plain", userspace).beside(PLAIN, plain.clone()));
        if let [_, _, [kernels], [ours]] = &samples[..] {
            rows.push(row("userspace", userspace).beside(WIREGUARD, kernels.clone()));
            rows.push(row("kernel", ours).beside(WIREGUARD, kernels.clone()));
        }
    }
    Ok(rows)
}

/// Whether the kernel makes WireGuard devices, and `wg` is there to say what they shall do.
fn has_kernels(run: &Run<'_>) -> Result<bool> {
    let probe = Namespace::create(run.ledger, &format!("pb{}-probe", std::process::id()), Forwarding::Off)?;
    let has_device = probe.ip("link add wg0 type wireguard").is_ok();
    let has_tool = probe.command("wg")?.arg("--version").output().is_ok_and(|output| output.status.success());
    if !(has_device && has_tool) {
        run.say("wireguard: no device of the kernel's, or no wg: user space is measured beside plain forwarding");
    }
    Ok(has_device && has_tool)
}
