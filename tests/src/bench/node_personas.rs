//! What a workload's packets cost at a node that carries many personas beside its own, and beside it in the kernel's own way, which
//! asks one policy rule after the other.

use anyhow::Result;

use super::crowd::Crowd;
use super::measures::Run;
use super::node_cost::{Kernel, Ours};
use super::row::{Better, Goal, Row};
use super::samples::Samples;

/// Flows of the workload.
const FLOW_COUNT: u32 = 1 << 10;
/// Personas of ours, and of the kernel's way.
const OURS: [u32; 2] = [1, 10_000];
const KERNELS: [u32; 2] = [1, 1_001];
const KERNELS_NAMES: [&str; 2] = ["rule + nftables SNAT + vxlan", "1,000 rules + nftables SNAT + vxlan"];
/// How much more a packet may cost among many.
const GROWTH_MAX: f64 = 1.1;

/// Measures both, with few and with many.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("node-personas: nodes with one persona and with ten thousand are set up");
    // The crowd's device has a persona of its own.
    let among = |count: u32| Crowd { count: count.saturating_sub(2) };
    let mut ours = [Ours::build(run, among(OURS[0]))?, Ours::build(run, among(OURS[1]))?];
    let mut kernels = [Kernel::build(run, among(KERNELS[0]))?, Kernel::build(run, among(KERNELS[1]))?];
    ours.iter_mut().try_for_each(Ours::check)?;
    kernels.iter_mut().try_for_each(Kernel::check)?;
    let (mut costs, mut costs_kernel) =
        ([Samples::default(), Samples::default()], [Samples::default(), Samples::default()]);
    let (mut growth, mut growth_kernel) = (Samples::default(), Samples::default());
    for round in 0..run.rounds {
        run.say(&format!("node-personas: round {} of {}", round + 1, run.rounds));
        let (mut own, mut kernel) = ([0.0; 2], [0.0; 2]);
        for index in 0..2 {
            own[index] = ours[index].sample(FLOW_COUNT)?.whole;
            kernel[index] = kernels[index].sample(FLOW_COUNT)?;
            costs[index].push(own[index]);
            costs_kernel[index].push(kernel[index]);
        }
        growth.push(own[1] / own[0]);
        growth_kernel.push(kernel[1] / kernel[0]);
        run.step();
    }
    let mut rows = Vec::new();
    for (index, (costs, kernel)) in costs.into_iter().zip(costs_kernel).enumerate() {
        let row = Row::new(format!("node-personas/{}", OURS[index]), "ns", Better::Less, costs);
        rows.push(row.beside(KERNELS_NAMES[index], kernel));
    }
    let row = Row::new("node-personas/growth", "times the cost of one", Better::Less, growth);
    rows.push(row.beside("growth of the kernel's", growth_kernel).reach(Goal::AtMost(GROWTH_MAX)));
    Ok(rows)
}
