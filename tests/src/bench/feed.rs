//! The programs that make packets, and three ways to use them: a program's cost by repeated runs, one run for its output,
//! live frames into a device.

use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use persona_common::bench::{Flow, Headers, PLAN_FLOW_COUNT_MAX, Plan};

use super::packets::headers;
use crate::sys::thread_time;

/// The object, aligned as its parser wants it.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("PERSONA_BENCH_OBJECT")));

/// Live frames that the kernel makes at a time.
const BATCH_FRAME_COUNT: u32 = 64;

/// Bytes of `struct xdp_md`, and where the device stands in it.
const CONTEXT_LENGTH: usize = 24;
const CONTEXT_DATA_END_AT: usize = 4;
const CONTEXT_INGRESS_AT: usize = 12;

/// The form in which packets are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Without a tunnel.
    Bare,
    /// In Geneve.
    Geneve,
    /// In VXLAN.
    Vxlan,
}

impl Form {
    fn program(self) -> &'static str {
        match self {
            Self::Bare => "feed_bare",
            Self::Geneve => "feed_geneve",
            Self::Vxlan => "feed_vxlan",
        }
    }
}

/// The programs with a plan of their own.
pub struct Feed {
    ebpf: Ebpf,
    form: Form,
    frame: Vec<u8>,
    plan: Array<MapData, Plan>,
    headers: Array<MapData, Headers>,
    flows: Array<MapData, Flow>,
    cursor: PerCpuArray<MapData, u64>,
    target: ProgramArray<MapData>,
}

impl Feed {
    /// Loads them; packets are like `frame`, with the fields of flows put in.
    pub fn load(form: Form, frame: &[u8]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(&OBJECT.0).context("the benchmark's programs")?;
        for name in ["feed_bare", "feed_geneve", "feed_vxlan", "drop_frame", "put_on", "take_off"] {
            let program: &mut Xdp = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().with_context(|| format!("{name} does not load"))?;
        }
        let program: &mut SchedClassifier = ebpf.program_mut("drop_packet").context("drop_packet")?.try_into()?;
        program.load()?;
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let mut feed = Self {
            plan: take("PLAN")?.try_into()?,
            headers: take("HEADERS")?.try_into()?,
            flows: take("FLOWS")?.try_into()?,
            cursor: take("CURSOR")?.try_into()?,
            target: take("TARGET")?.try_into()?,
            ebpf,
            form,
            frame: frame.to_vec(),
        };
        feed.headers.set(0, headers(frame), 0)?;
        Ok(feed)
    }

    /// Puts flows in, in the order in which their packets will be made.
    pub fn put_flows(&mut self, flows: impl IntoIterator<Item = Flow>) -> Result<()> {
        for (index, flow) in flows.into_iter().enumerate() {
            self.flows.set(index as u32, flow, 0)?;
        }
        Ok(())
    }

    /// From now on packets are of the first `flow_count` flows, a power of two, beginning with the first.
    pub fn begin(&mut self, flow_count: u32) -> Result<()> {
        ensure!(flow_count.is_power_of_two() && flow_count <= PLAN_FLOW_COUNT_MAX, "{flow_count} flows");
        self.plan.set(0, Plan { length: self.frame.len() as u32, flow_mask: flow_count - 1 }, 0)?;
        self.cursor.set(0, PerCpuValues::try_from(vec![0; cpu_count()?])?, 0)?;
        Ok(())
    }

    /// The target that does nothing.
    pub fn nothing(&self) -> Result<ProgramFd> {
        self.target_called("drop_frame")
    }

    /// The target that does the least that a tunnel takes: puts headers on a bare packet, takes them off another.
    pub fn least(&self) -> Result<ProgramFd> {
        self.target_called(if self.form == Form::Bare { "put_on" } else { "take_off" })
    }

    fn target_called(&self, name: &str) -> Result<ProgramFd> {
        let program: &Xdp = self.ebpf.program(name).context("no such target")?.try_into()?;
        Ok(program.fd()?.try_clone()?)
    }

    /// A classifier that drops everything.
    pub fn drop_packet(&mut self) -> Result<&mut SchedClassifier> {
        Ok(self.ebpf.program_mut("drop_packet").context("drop_packet")?.try_into()?)
    }

    /// Says to whom packets go; None: to the kernel.
    pub fn aim(&mut self, target: Option<&ProgramFd>) -> Result<()> {
        match target {
            Some(target) => self.target.set(0, target, 0)?,
            // There may be none already.
            None => drop(self.target.clear_index(&0)),
        }
        Ok(())
    }

    /// Nanoseconds of one run, the making of the packet included.
    pub fn cost(&self, repeat: u32) -> Result<f64> {
        let options = TestRunOptions { data_in: Some(&self.frame), repeat, ..TestRunOptions::new() };
        // The kernel's own figure is whole nanoseconds; the thread's time leaves out what others took meanwhile.
        let start = thread_time()?;
        self.program()?.test_run(options)?;
        Ok((thread_time()? - start).as_nanos() as f64 / f64::from(repeat))
    }

    /// Verdict and frame of one run.
    pub fn once(&self) -> Result<(u32, Vec<u8>)> {
        let mut bytes = vec![0; self.frame.len() + 256];
        let options =
            TestRunOptions { data_in: Some(&self.frame), data_out: Some(&mut bytes), ..TestRunOptions::new() };
        let result = self.program()?.test_run(options)?;
        bytes.truncate(result.data_size_out as usize);
        Ok((result.return_value, bytes))
    }

    /// Sends live frames as if they had come in by a device, which must take part in XDP or have GRO on; gives the processor
    /// time, in which all is done: the kernel takes such frames to their end in the caller's own thread.
    pub fn inject(&self, ifindex: u32, count: u32) -> Result<Duration> {
        let mut context = [0; CONTEXT_LENGTH];
        context[CONTEXT_DATA_END_AT..][..4].copy_from_slice(&(self.frame.len() as u32).to_ne_bytes());
        context[CONTEXT_INGRESS_AT..][..4].copy_from_slice(&ifindex.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(&context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH_FRAME_COUNT),
            ..TestRunOptions::new()
        };
        let start = thread_time()?;
        self.program()?.test_run(options).with_context(|| format!("live frames into device {ifindex}"))?;
        Ok(thread_time()? - start)
    }

    fn program(&self) -> Result<&Xdp> {
        let name = self.form.program();
        Ok(self.ebpf.program(name).context(name)?.try_into()?)
    }
}

/// A program of an object, as a target.
pub fn target(ebpf: &Ebpf, name: &str) -> Result<ProgramFd> {
    let program: &Xdp = ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?;
    let fd = program.fd()?;
    ensure!(fd.as_fd().try_clone_to_owned().is_ok(), "{name} has no descriptor");
    Ok(fd.try_clone()?)
}

fn cpu_count() -> Result<usize> {
    nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))
}
