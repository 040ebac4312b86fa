//! Tells the benchmark where persona-ctl's build script has left the programs that make its packets.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let object = std::env::var("DEP_PERSONA_EBPF_BENCH_OBJECT").expect("persona-ctl's build script tells where it is");
    println!("cargo::rerun-if-changed={object}");
    println!("cargo::rustc-env=PERSONA_BENCH_OBJECT={object}");
}
