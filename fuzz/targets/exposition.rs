//! Pages of metrics that workloads serve, in the text format of Prometheus.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| persona_fuzz::exposition::read(data));
