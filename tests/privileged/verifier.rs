//! How many instructions this kernel's verifier looks at for each program. Its limit is a million; ours is well below,
//! because other kernels count differently and the next feature needs room.
//!
//! `cargo xtask verifier` collects the lines of all kernels in `docs/benchmarks/verifier.json`.

use aya::Ebpf;
use aya::programs::Program;

use crate::programs::namespace::Namespace;
use crate::programs::world::{World, is_privileged};

/// What a program may take.
const INSTRUCTION_COUNT_MAX: [(&str, u32); 10] = [
    ("from_workload", 300_000),
    ("from_host", 300_000),
    ("from_edge", 200_000),
    ("edge_inside", 150_000),
    ("xdp_inside", 150_000),
    ("edge_outside", 50_000),
    ("xdp_outside", 50_000),
    ("gateway", 150_000),
    ("xdp_gateway", 150_000),
    ("deliver", 50_000),
];

/// What every other one may take.
const INSTRUCTION_COUNT_MAX_USUAL: u32 = 20_000;

#[test]
fn every_program_stays_within_the_verifiers_budget() {
    if !is_privileged() {
        return;
    }
    let world = World::new();
    let namespace = Namespace::new("verifier");
    let (mut node, edge) = namespace.enter(|| (world.node(), world.edge()));
    node.load_host_program().unwrap();
    let (gateway, delivery) = namespace.enter(|| world.gateway_and_delivery());
    drop(namespace);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let mut over = Vec::new();
    // The harness leaves the cursor behind the test's name.
    println!();
    for (object, ebpf) in [
        ("node", node.programs()),
        ("edge", edge.programs()),
        ("gateway", gateway.programs()),
        ("delivery", delivery.programs()),
    ] {
        let counts = counts(ebpf);
        assert!(!counts.is_empty(), "{object} has no program");
        for (program, count) in counts {
            println!(
                r#"verifier: {{"kernel":"{series}","object":"{object}","program":"{program}","instructions":{count}}}"#
            );
            let limit = INSTRUCTION_COUNT_MAX.iter().find(|(name, _)| *name == program);
            let limit = limit.map_or(INSTRUCTION_COUNT_MAX_USUAL, |(_, limit)| *limit);
            if count > limit {
                over.push(format!("{program} {count} of {limit}"));
            }
        }
    }
    assert!(over.is_empty(), "over the budget: {}", over.join(", "));
}

/// Every program of an object, whatever its kind.
fn counts(ebpf: &Ebpf) -> Vec<(String, u32)> {
    let count = |(name, program): (&str, &Program)| {
        let info = program.info().unwrap_or_else(|error| panic!("{name} is not loaded: {error}"));
        (name.to_owned(), info.verified_instruction_count().unwrap())
    };
    ebpf.programs().map(count).collect()
}
