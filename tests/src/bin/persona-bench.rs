//! The benchmarks: measure, print one table, write the report. Run them with `cargo xtask bench dataplane | instances | control`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use persona_ctl::allocator::{self, ByRole};
use persona_tests::bench::control::simulator;
use persona_tests::bench::measures::{self, Run, Subject};
use persona_tests::bench::plots;
use persona_tests::bench::report::{self, Machine};
use persona_tests::interruption::{clean_up_on_signal, report_failures};
use persona_tests::ledger::Ledger;

#[global_allocator]
static ALLOCATOR: ByRole = ByRole;

/// Measures, or is one of the processes that a measure needs beside it.
#[derive(Debug, Parser)]
enum Command {
    /// Measures.
    Measure(Args),
    /// Nodes or edges that do at once what a manager tells them.
    Simulate(simulator::Args),
}

#[derive(Debug, clap::Args)]
struct Args {
    /// What is measured.
    #[arg(value_enum)]
    subject: Subject,
    /// Only these measures.
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Rounds of everything, in turns.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// The folder that the report goes to; what an earlier one there says of other measures stays.
    #[arg(long)]
    folder: PathBuf,
    /// Prints the report's rows too, a line each: for a guest, whose files nobody gets to see.
    #[arg(long)]
    print_rows: bool,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Measure(args) => measure(&args),
        Command::Simulate(args) => simulator::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<()> {
    if args.subject == Subject::Control {
        allocator::serve_many(); // planning and giving leases are measured in this process, as a manager does them
    }
    let start = Instant::now();
    let chosen = measures::chosen(args.subject, &args.only)?;
    let ledger = Ledger::default();
    clean_up_on_signal(&ledger)?;
    let progress = progress_bar(args.rounds, chosen.len());
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for measure in chosen {
        let (rounds, is_subset) = (args.rounds, !args.only.is_empty());
        // What others gave stands, whatever becomes of one.
        match measure.run(&Run { rounds, is_subset, ledger: &ledger, progress: &progress }) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                progress.suspend(|| eprintln!("error: {error:#}"));
                failed.push(measure.name);
            }
        }
        report_failures(&ledger);
    }
    progress.finish_and_clear();
    let path = args.folder.join(format!("{}.json", args.subject.name()));
    let machine = Machine::here()?;
    let merged = report::merge(report::read(&path)?.as_ref(), &machine, args.rounds, &rows);
    let new: Vec<_> = rows.iter().map(|row| row.to_json(args.rounds, &machine.to_string())).collect();
    println!("{}\n{machine}; {} rounds, {} s", report::table(&new), args.rounds, start.elapsed().as_secs());
    if args.print_rows {
        new.iter().for_each(|row| println!("row: {row}"));
    }
    report::write(&path, &merged)?;
    plots::draw(&args.folder, args.subject, merged["rows"].as_array().context("a report has rows")?)?;
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn progress_bar(rounds: u32, measure_count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} [{bar:30}] {pos}/{len} rounds, {elapsed}: {msg}");
    let progress = ProgressBar::new(u64::from(rounds) * measure_count as u64)
        .with_style(style.expect("the template is valid").progress_chars("=> "));
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}
