//! The command line: one file per subcommand, each with its arguments and a `run`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (clap), 3 refused by the manager or by validation. Those of `persona diff` are
//! as kubectl's: 0 nothing differs, 1 something does, above 1 it could not be compared.

mod access;
mod access_tokens;
mod activation;
mod agent;
mod alerts;
mod audit;
mod authority;
mod binding;
mod completions;
mod config;
mod detach;
mod doctor;
mod documents;
mod edge;
mod edges;
mod egress;
mod events;
mod explain;
mod explain_packet;
mod forecast;
mod forecast_limits;
mod gateway;
mod guard;
mod helper;
mod labels;
mod lease;
mod login;
mod manager;
mod manager_store;
mod monitor;
mod node;
mod persona;
mod persona_file;
mod plan;
mod print;
mod reach;
mod reason;
mod removal;
mod replay;
mod request;
mod role;
mod rollout;
mod schedule;
mod signal;
mod simulate;
mod simulate_changes;
mod simulate_documents;
mod simulate_table;
mod status;
mod switch;
mod token;
mod top;
mod ui;
mod wait;
mod webhook;
mod wire;
mod workload;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::agent::LocalError;
use crate::client::{ApiClient, ClientError};
use crate::gateway::GatewayClientError;
use access::AccessArgs;
use activation::RefusedCriterion;
use audit::BrokenChain;
use documents::RefusedDocuments;
use persona::PersonaCommand;
use persona_file::Differing;
use simulate::RefusedFleet;

/// The exit code of what the manager or validation refuses.
const EXIT_REFUSED: u8 = 3;

/// The exit codes of a comparison that found differences, and of one that failed.
const EXIT_DIFFERS: u8 = 1;
const EXIT_NOT_COMPARED: u8 = 2;

/// Personas: how machines appear on the network, what they may use, what is made ready for them.
#[derive(Debug, Parser)]
#[command(name = "persona-ctl", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    access: AccessArgs,
    /// How answers are printed.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    output: Output,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  persona-ctl persona apply -f personas.yaml       store personas, bindings and egress pools
  persona-ctl switch workload/n1/web tokyo --for 2h
  persona-ctl request workload/n1/web --capability low-latency
  persona-ctl explain workload/n1/web              what it wears, and why
  persona-ctl events --follow

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the manager or by validation.
NO_COLOR turns colours off.";

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the manager: documents, assignments, leases.
    Manager(manager::ManagerArgs),
    Agent(agent::AgentArgs),
    /// Personas: store, look, compare, take back.
    #[command(subcommand)]
    Persona(PersonaCommand),
    /// Bindings: which subjects may wear which personas.
    #[command(subcommand)]
    Binding(binding::BindingCommand),
    /// Egress pools: addresses to lease from.
    #[command(subcommand)]
    Egress(egress::EgressCommand),
    /// Nodes: hosts that run the agent.
    #[command(subcommand)]
    Node(node::NodeCommand),
    Edge(edge::EdgeArgs),
    Gateway(gateway::GatewayArgs),
    /// Workloads: VMs and containers on nodes.
    #[command(subcommand)]
    Workload(workload::WorkloadCommand),
    /// Leases: the slices of egress addresses that subjects hold.
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    /// Join tokens: what nodes and edges register with.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Access tokens: who may ask the manager for what.
    #[command(subcommand)]
    Access(access_tokens::AccessCommand),
    /// The certificate authority: its roots, and one taking over from another.
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Keep an access token, and ask its manager from now on.
    Login(login::LoginArgs),
    /// Managers that were logged in at.
    #[command(subcommand)]
    Context(login::ContextCommand),
    /// Say as whom the manager knows you.
    Whoami,
    /// Criteria: check them, replay them over a history, see what they make of a subject.
    #[command(subcommand)]
    Activation(activation::ActivationCommand),
    /// Signals: push what only you know, list what is known of a subject.
    #[command(subcommand)]
    Signal(signal::SignalCommand),
    /// Forecasts: measure them on a history, and look how those that criteria ask for turned out.
    #[command(subcommand)]
    Forecast(forecast::ForecastCommand),
    /// Alerts that are raised, by what personas watch for.
    Alerts(alerts::AlertsArgs),
    /// The plan of the live fleet: who is on which edge and why, what moved, how it is planned.
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// How much of the fleet changes by people and programs may reach within an hour.
    #[command(subcommand)]
    Reach(reach::ReachCommand),
    /// Rollouts: changes for many subjects in waves, which halt by themselves.
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    Simulate(simulate::SimulateArgs),
    /// Put a persona on a subject by hand.
    Switch(switch::SwitchArgs),
    /// Ask for capabilities; the manager chooses the persona.
    Request(request::RequestArgs),
    /// Say what a subject wears, and how that came about.
    Explain(explain::ExplainArgs),
    /// Say how things stand.
    Status(status::StatusArgs),
    /// Watch nodes, edges, personas and subjects with their rates, in a terminal.
    Top(top::TopArgs),
    Ui(ui::UiArgs),
    /// Show what happened.
    Events(events::EventsArgs),
    /// Webhooks: have events sent somewhere, look at what was not taken.
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// The chain of events: check it, keep a checkpoint of it.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    Monitor(monitor::MonitorArgs),
    Doctor(doctor::DoctorArgs),
    Guard(guard::GuardArgs),
    #[command(hide = true)]
    Helper(helper::HelperArgs),
    Detach(detach::DetachArgs),
    /// The encrypted tunnel of this host's agent or edge: give it another key.
    #[command(subcommand)]
    Wire(wire::WireCommand),
    /// Configuration files of the roles: check them, show what is in force.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// What every question to the manager needs.
struct Session {
    client: ApiClient,
    output: Output,
}

impl Cli {
    /// Reads the command line of this process; a wrong one ends it with what would be right.
    pub fn from_arguments() -> Self {
        let matches = Self::described().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        cli.access.reason = reason::reason_in(&matches);
        cli
    }

    /// All commands with their arguments.
    fn described() -> clap::Command {
        reason::with_reasons(Self::command())
    }

    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        let compares = matches!(self.command, Command::Persona(PersonaCommand::Diff(_)));
        match self.execute() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
            Err(error) if error.is::<Differing>() => ExitCode::from(EXIT_DIFFERS),
            Err(error) => {
                eprintln!("error: {error:#}");
                match is_refused(&error) {
                    true => ExitCode::from(EXIT_REFUSED),
                    false if compares => ExitCode::from(EXIT_NOT_COMPARED),
                    false => ExitCode::FAILURE,
                }
            }
        }
    }

    fn execute(self) -> anyhow::Result<()> {
        let Self { access, output, command } = self;
        match command {
            Command::Completions(args) => args.run(),
            Command::Login(args) => on_runtime(args.run(output)),
            Command::Context(command) => command.run(output),
            Command::Audit(command) => command.run(access, output),
            Command::Config(command) => command.run(access.manager, output),
            Command::Manager(args) => args.run(output),
            Command::Agent(args) => args.run(access.manager),
            Command::Edge(args) if args.command.is_none() => args.run(access.manager),
            Command::Gateway(args) => args.run(output),
            Command::Doctor(args) => args.run(access.manager, output),
            Command::Guard(args) => args.run(output),
            Command::Helper(args) => args.run(),
            Command::Detach(args) => args.run(output),
            Command::Monitor(args) => args.run(output),
            Command::Wire(command) => command.run(output),
            Command::Activation(command) if command.is_offline() => command.run_offline(output),
            Command::Forecast(command) if command.is_offline() => command.run_offline(output),
            Command::Simulate(args) if args.is_local() => args.run_local(output),
            Command::Explain(args) if args.is_local() => args.run_local(output),
            Command::Request(args) if args.is_local() => args.run_local(output),
            Command::Persona(command) if command.is_offline() => command.run_offline(output),
            command => on_runtime(command.ask_as(access, output)),
        }
    }
}

impl Command {
    /// Asks the manager; a context takes over the fleet's roots if those have changed.
    async fn ask_as(self, access: AccessArgs, output: Output) -> anyhow::Result<()> {
        let context = access.context()?;
        let client = ApiClient::open(&access.resolve()?)?;
        self.ask(Session { client: client.clone(), output }).await?;
        match context {
            Some(name) => access::take_over_roots(&name, &client).await,
            None => Ok(()),
        }
    }

    /// Commands that ask the manager.
    async fn ask(self, session: Session) -> anyhow::Result<()> {
        match self {
            Self::Persona(command) => command.run(&session).await,
            Self::Binding(command) => command.run(&session).await,
            Self::Egress(command) => command.run(&session).await,
            Self::Node(command) => command.run(&session).await,
            Self::Edge(edge::EdgeArgs { command: Some(command), .. }) => command.run(&session).await,
            Self::Workload(command) => command.run(&session).await,
            Self::Lease(command) => command.run(&session).await,
            Self::Token(command) => command.run(&session).await,
            Self::Access(command) => command.run(&session).await,
            Self::Forecast(command) => command.run(&session).await,
            Self::Alerts(args) => args.run(&session).await,
            Self::Webhook(command) => command.run(&session).await,
            Self::Authority(command) => command.run(&session).await,
            Self::Whoami => session.output.show(&session.client.whoami().await?, login::told),
            Self::Switch(args) => args.run(&session).await,
            Self::Request(args) => args.run(&session).await,
            Self::Explain(args) => args.run(&session).await,
            Self::Plan(command) => command.run(&session).await,
            Self::Reach(command) => command.run(&session).await,
            Self::Rollout(command) => command.run(&session).await,
            Self::Simulate(args) => args.run(&session).await,
            Self::Activation(command) => command.run(&session).await,
            Self::Signal(command) => command.run(&session).await,
            Self::Status(args) => args.run(&session).await,
            Self::Top(args) => args.run(&session).await,
            Self::Ui(args) => args.run(&session).await,
            Self::Events(args) => args.run(&session).await,
            Self::Completions(_)
            | Self::Config(_)
            | Self::Audit(_)
            | Self::Manager(_)
            | Self::Login(_)
            | Self::Context(_)
            | Self::Agent(_)
            | Self::Edge(_)
            | Self::Gateway(_)
            | Self::Doctor(_)
            | Self::Monitor(_)
            | Self::Guard(_)
            | Self::Helper(_)
            | Self::Detach(_)
            | Self::Wire(_) => unreachable!("`execute` runs what needs no manager"),
        }
    }
}

/// Runs a short command; the long-running roles have runtimes of their own.
fn on_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn is_refused(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(|error| error.problem().is_some())
        || error.downcast_ref::<RefusedDocuments>().is_some()
        || error.downcast_ref::<RefusedCriterion>().is_some()
        || error.downcast_ref::<RefusedFleet>().is_some()
        || error.downcast_ref::<BrokenChain>().is_some()
        || matches!(error.downcast_ref::<LocalError>(), Some(LocalError::Refused(_)))
        || matches!(error.downcast_ref::<GatewayClientError>(), Some(GatewayClientError::Refused(_)))
}

/// Whoever read our output has seen enough (`| head`), which is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::described().debug_assert();
    }

    #[test]
    fn what_is_right_is_accepted_and_what_is_wrong_is_not() {
        let cases = [
            ("persona apply -f a.yaml -f - --dry-run", true),
            ("persona apply", false),
            ("persona apply -f a.yaml --prune -l app=shop --yes", true),
            ("persona apply -f a.yaml --prune", false),
            ("persona apply -f a.yaml --yes", false),
            ("node list -l tier=gold,!old", true),
            ("egress list --selector team", true),
            ("node list -l a=b=c", false),
            ("rollout start -f a.yaml --waves 1%,20%,100% --soak 10m --watch", true),
            ("rollout start --switch tokyo --label a=b --subject workload/n1/*", true),
            ("rollout start", false),
            ("rollout start -f a.yaml --switch tokyo", false),
            ("rollout start -f a.yaml --label a=b", false),
            ("rollout show eu-2 --watch", true),
            ("rollout rollback eu-2 --reason complaints", true),
            ("wire rotate --config a.toml", true),
            ("wire rotate --state-dir /a --wait 0 -o json", true),
            ("wire rotate", false),
            ("persona get eu@3 -o yaml", true),
            ("persona get eu@x", false),
            ("persona get EU", false),
            ("persona diff eu@1 eu@2", true),
            ("persona diff -f a.yaml", true),
            ("persona diff", false),
            ("persona rollback eu --to 3", true),
            ("persona schema", true),
            ("--output json --manager http://m:1 node list", true),
            ("node list --output json --manager http://m:1", true),
            ("node list --output xml", false),
            ("node label n1", true),
            ("node label n1 tier=gold zone-", true),
            ("node label n1 tier", false),
            ("edge label fra1 country=DE", true),
            ("workload label workload/n1/web role=proxy", true),
            ("workload label node/n1 role=proxy", false),
            ("workload get workload/n1/web", true),
            ("workload get node/n1", false),
            ("authority show", true),
            ("authority rotate", false),
            ("authority rotate --reason yearly --keep-key", true),
            ("authority retire --reason yearly", true),
            ("authority retire ab12 --reason stolen --force", true),
            ("lease get 12", true),
            ("lease list --subject workload/n1/web", true),
            ("egress add -f pool.toml", true),
            ("egress add fra --address 198.51.100.0/28 --group frankfurt --block-size 512", true),
            ("egress add fra --address 198.51.100.1/28 --group frankfurt", false),
            ("egress add fra --group frankfurt", false),
            ("token create --role node --ttl 1h --uses 3 --label tier=gold", true),
            ("token create --role node --label tier", false),
            ("status --token-file t --ca-file c", true),
            ("access create --name alice --role operator --ttl 90d", true),
            ("access create --name alice --role king", false),
            ("login --name prod --from token", true),
            ("login secret", false),
            ("ui --ttl 5m -o json", true),
            ("ui list", true),
            ("ui revoke 1f2e", true),
            ("ui 1f2e", false),
            ("context use prod", true),
            ("--context prod whoami", true),
            ("status --token secret", false),
            ("agent --config a.toml --join-token secret", false),
            ("token create --role king", false),
            ("switch workload/n1/web tokyo --for 2h --wait", true),
            ("switch workload/n1/web --release", true),
            ("switch workload/n1/web", false),
            ("switch workload/n1/web tokyo --release", false),
            ("switch web tokyo", false),
            ("switch workload/n1/web tokyo --for 2", false),
            ("request workload/n1/web --capability a --capability b --for 10m", true),
            ("request workload/n1/web", false),
            ("request workload/n1/web --release", true),
            ("request --local --capability low-latency --for 90m", true),
            ("request --local --socket /run/x.sock", true),
            ("request --local workload/n1/web", false),
            ("request --capability low-latency", false),
            ("request workload/n1/web --socket /x --capability a", false),
            ("explain node/n1", true),
            ("explain", false),
            ("explain packet 10.0.0.5:1234 tcp 93.184.216.34:443 --size 1450", true),
            ("explain packet 10.0.0.5 tcp 93.184.216.34:443", false),
            ("events --follow --since 12", true),
            ("audit verify --against a --against b -o json", true),
            ("audit verify --offline --store s --roots r", true),
            ("audit export --since 0 --to f", true),
            ("audit", false),
            ("completions bash", true),
            ("config check agent --config a.toml -o json", true),
            ("config check edge --config e.toml --hook xdp", true),
            ("config check edge list", false),
            ("config check manager backup", false),
            ("config show gateway --config g.toml", true),
            ("config show", false),
            ("manager --config m.toml --listen 127.0.0.1:0 --store s --allow-public --log-format json", true),
            ("manager --url https://m:1 --url https://n:1 --name m --state-dir s --insecure-http", true),
            ("manager --listen 7600", false),
            ("manager backup --to b --store s -o json", true),
            ("manager backup", false),
            ("manager restore --from b --config m.toml", true),
            ("manager migrate-store --to postgres://p@h/d", true),
            ("manager migrate-store", false),
            ("agent --config a.toml --uplink eth0 --manager http://m:1", true),
            ("agent --uplink", false),
            ("edge --config e.toml --hook xdp", true),
            ("edge --hook best", false),
            ("edge list", true),
            ("edge revoke e1 --reason stolen", true),
            ("node revoke n1", false),
            ("edge list -o json", true),
            ("edge get e1", true),
            ("gateway --config g.toml --hook xdp --socket /run/g.sock", true),
            ("gateway list -o json", true),
            ("gateway drain web a --wait --timeout 30 --socket /run/g.sock", true),
            ("gateway drain web", false),
            ("gateway drain web a --timeout 30", false),
            ("gateway weight web a 0", true),
            ("gateway weight web a 1001", false),
            ("doctor --config a.toml --output json", true),
            ("detach --bpffs /b --device eth0 --device eth1", true),
            ("detach", false),
            ("activation check cpu.utilisation>0.8", true),
            ("activation check", false),
            ("activation replay --trace t.csv -f p.yaml --stale-after 1m --explain-at 1772366400", true),
            ("activation replay -f p.yaml", false),
            ("activation signals -o json", true),
            ("activation status workload/n1/web", true),
            ("activation status", false),
            ("activation trigger workload/n1/web surge --for 2h --wait", true),
            ("activation trigger workload/n1/web", false),
            ("activation release workload/n1/web", true),
            ("signal push workload/n1/web external.surge 1 --for 5m", true),
            ("signal push workload/n1/web external.rate -80% --for 5m", false),
            ("signal push workload/n1/web external.rate 200mbit --for 5m", true),
            ("signal push workload/n1/web external.surge 1", false),
            ("signal push workload/n1/web external.Surge 1 --for 5m", false),
            ("signal push workload/n1/web external.surge high --for 5m", false),
            ("signal list node/n1 -o json", true),
            ("signal withdraw workload/n1/web external.surge", true),
            ("forecast backtest --trace t.csv --step 5m --horizon 1h --per-series", true),
            ("forecast backtest", false),
            ("alerts", true),
            ("alerts workload/n1/web", true),
            ("alerts web", false),
            ("monitor", true),
            ("monitor --drops --reason no-edge --count 3 --for 10s", true),
            ("monitor --reason bad-weather", false),
            ("simulate -f fleet.yaml --kill fra1 --drain fra2 --add-nodes 5 --explain node/n1 -o json", true),
            ("simulate --kill fra1 --changes c.yaml", true),
            ("plan show -o json", true),
            ("plan history --limit 5", true),
            ("plan history --limit 0", false),
            ("plan set --mode steer", true),
            ("plan set -f rules.yaml", true),
            ("plan set", false),
            ("plan set --mode often", false),
            ("plan settings", true),
            ("reach show -o json", true),
            ("reach set --percent-per-hour 25 --subjects-at-least 10", true),
            ("reach set --percent-per-hour 0", false),
            ("reach set --off", true),
            ("reach set", false),
            ("reach set --off --percent-per-hour 5", false),
            ("edge drain fra1 --override-reach burning", true),
            ("simulate -f fleet.yaml --kill FRA", false),
            ("monitor --write a.pcapng tcp port 443 and host 10.1.0.2", true),
        ];
        for (line, is_right) in cases {
            let words = std::iter::once("persona-ctl").chain(line.split(' '));
            let parsed = Cli::try_parse_from(words);
            assert_eq!(parsed.is_ok(), is_right, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
    }
}
