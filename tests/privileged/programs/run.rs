//! Runs a loaded program on a frame.

use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`.
pub(super) const TC_NEXT: u32 = u32::MAX;
pub(super) const TC_DROP: u32 = 2;
pub(super) const TC_REDIRECT: u32 = 7;
/// `XDP_DROP`, `XDP_PASS`, `XDP_REDIRECT`.
pub(super) const XDP_DROP: u32 = 1;
pub(super) const XDP_PASS: u32 = 2;
pub(super) const XDP_REDIRECT: u32 = 4;

/// Bytes of `struct __sk_buff`, and offsets in it.
const SKB_LENGTH: usize = 192;
const SKB_MARK_AT: usize = 8;
const SKB_PRIORITY_AT: usize = 32;
const SKB_INGRESS_IFINDEX_AT: usize = 36;
const SKB_TSTAMP_AT: usize = 152;
const SKB_GSO_SEGS_AT: usize = 164;
const SKB_GSO_SIZE_AT: usize = 176;

/// What the socket buffer says beside its bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Facts {
    pub(super) mark: u32,
    pub(super) priority: u32,
    pub(super) ingress_ifindex: u32,
    pub(super) gso_segs: u32,
    pub(super) gso_size: u32,
}

/// Verdict, bytes afterwards, mark afterwards.
pub(super) struct Outcome {
    pub(super) verdict: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) mark: u32,
    /// `skb->priority` afterwards.
    pub(super) priority: u32,
    /// `skb->tstamp` afterwards.
    pub(super) tstamp: u64,
}

/// Runs a TC program.
pub(super) fn run_tc(ebpf: &Ebpf, program: &str, frame: &[u8], facts: Facts) -> Outcome {
    let program: &SchedClassifier = ebpf.program(program).unwrap().try_into().unwrap();
    let mut context = [0u8; SKB_LENGTH];
    for (at, value) in [
        (SKB_MARK_AT, facts.mark),
        (SKB_PRIORITY_AT, facts.priority),
        (SKB_INGRESS_IFINDEX_AT, facts.ingress_ifindex),
        (SKB_GSO_SEGS_AT, facts.gso_segs),
        (SKB_GSO_SIZE_AT, facts.gso_size),
    ] {
        context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let mut bytes = vec![0; frame.len() + 256];
    let mut context_out = [0u8; SKB_LENGTH];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::new()
        })
        .unwrap();
    bytes.truncate(result.data_size_out as usize);
    let word = |at: usize| u32::from_ne_bytes(context_out[at..at + 4].try_into().unwrap());
    let tstamp = u64::from_ne_bytes(context_out[SKB_TSTAMP_AT..SKB_TSTAMP_AT + 8].try_into().unwrap());
    Outcome { verdict: result.return_value, bytes, mark: word(SKB_MARK_AT), priority: word(SKB_PRIORITY_AT), tstamp }
}

/// Runs an XDP program.
pub(super) fn run_xdp(ebpf: &Ebpf, program: &str, frame: &[u8]) -> Outcome {
    let program: &Xdp = ebpf.program(program).unwrap().try_into().unwrap();
    let mut bytes = vec![0; frame.len() + 256];
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut bytes), ..TestRunOptions::new() };
    let result = program.test_run(options).unwrap();
    bytes.truncate(result.data_size_out as usize);
    Outcome { verdict: result.return_value, bytes, mark: 0, priority: 0, tstamp: 0 }
}

/// The reasons whose counters went up, with by how much.
pub(super) fn new_drops(
    before: &std::collections::BTreeMap<String, u64>,
    after: &std::collections::BTreeMap<String, u64>,
) -> Vec<(String, u64)> {
    after
        .iter()
        .map(|(reason, count)| (reason.clone(), count - before.get(reason).copied().unwrap_or(0)))
        .filter(|(_, count)| *count != 0)
        .collect()
}
