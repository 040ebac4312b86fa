//! A program that is broken off: what it has made is undone all the same.

use anyhow::{Context, Result};

use crate::ledger::Ledger;

/// Exit code after a signal, as shells have it for SIGINT.
const INTERRUPTED: i32 = 130;

/// On Ctrl-C or SIGTERM everything is undone and the process ends, wherever it is.
pub fn clean_up_on_signal(ledger: &Ledger) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let ledger = ledger.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no signal handler")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        eprintln!("\nbroken off; removing everything");
        report_failures(&ledger);
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

/// Undoes everything, and says what could not be undone.
pub fn report_failures(ledger: &Ledger) {
    for failure in ledger.undo_all() {
        eprintln!("clean-up: {failure}");
    }
}
