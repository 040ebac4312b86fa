//! The demos: build the world, take the steps, print one table. Run them with `cargo xtask demo [instances]`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use persona_tests::findings::{Finding, Findings};
use persona_tests::interruption::{clean_up_on_signal, report_failures};
use persona_tests::ledger::Ledger;
use persona_tests::world::{Hook, World};
use persona_tests::{instances, steps};

/// Shows the whole path on real packets.
#[derive(Debug, Parser)]
struct Args {
    /// What is shown.
    #[arg(value_enum, default_value_t)]
    subject: Subject,
    /// Leave the world standing and print how to look into it.
    #[arg(long)]
    keep: bool,
    /// Edge kills in step 5.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The hook that edges attach their programs to.
    #[arg(long, value_enum, default_value_t)]
    hook: Hook,
    /// Where the picture of the demo of instances goes.
    #[arg(long, default_value = "instances.svg")]
    picture: PathBuf,
}

/// What is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// How workloads appear on the network.
    #[default]
    Network,
    /// What a container and a guest are held to.
    Instances,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let start = Instant::now();
    let ledger = Ledger::default();
    clean_up_on_signal(&ledger)?;
    let progress = spinner();
    let mut world = World::build(&ledger, args.hook).inspect_err(|_| report_failures(&ledger))?;
    let mut findings = Findings::telling(tell);
    let outcome = match args.subject {
        Subject::Network => steps::run_all(&mut world, args.rounds, &mut findings),
        Subject::Instances => {
            instances::prepare(&mut world);
            instances::run_all(&mut world, &args.picture, &mut findings)
        }
    };
    progress.finish_and_clear();
    println!("\n{}", findings.table());
    println!("{} s, {}", start.elapsed().as_secs(), if findings.all_ok() { "every line is ok" } else { "NOT OK" });
    if !findings.all_ok() {
        eprintln!("{}", world.log_tails());
    }
    if args.subject == Subject::Instances {
        println!("signal, persona and limits over time: {}", args.picture.display());
    }
    if args.keep {
        keep(world)?;
    }
    outcome.map(|()| findings.all_ok())
}

fn tell(line: &Finding) {
    let sign = if line.ok { "ok    " } else { "NOT OK" };
    println!("{sign} {:15} {}: {}", line.step, line.expected, line.measured);
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} the demo runs ({elapsed})").expect("the template is valid");
    let progress = ProgressBar::new_spinner().with_style(style);
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}

fn keep(world: World) -> Result<()> {
    let names: Vec<String> = world.namespaces.all().iter().map(|namespace| namespace.name.clone()).collect();
    let (ctl, folder) = (world.ctl.clone(), world.folder.clone());
    let script = world.keep()?;
    println!("\nThe world is left standing, less what the last steps took away.");
    println!("  namespaces    {}", names.join(" "));
    println!("  look inside   ip netns exec {} bash", names[0]);
    println!("  the manager   ip netns exec {} {} --manager {} status", names[0], ctl.program, ctl.manager);
    println!("  logs, files   {}", folder.display());
    println!("  remove it     sh {}", script.display());
    Ok(())
}
