//! Measures the service: jobs through leases, pages of lists, idle cost, time until a job starts, rounds of the scheduler.
//!
//! Run by `benches/hub/run`, which builds the programs. Progress goes to standard error, Markdown to standard output.

mod api;
mod claims;
mod idle;
mod manifest;
mod pages;
mod platform;
mod program;
mod report;
mod retention;
mod rows;
mod schedules;
mod start;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use crate::platform::{Engine, Platform};
use crate::report::Section;
use crate::rows::Rows;

/// As busy with other work as the machine may be for a case to begin, in percent.
const QUIET: f64 = 10.0;

/// Measures hub and worker.
#[derive(Parser)]
struct Args {
    /// Directory of the programs xvault-hub, xvault-worker and xvault
    #[arg(long)]
    bin: PathBuf,
    /// Cases, separated by commas
    #[arg(long, value_delimiter = ',', value_enum,
          default_values = ["start", "idle", "pages", "claims", "retention", "schedules"])]
    only: Vec<Case>,
    /// Databases for all but start and idle, separated by commas
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["postgres", "sqlite"])]
    engines: Vec<Engine>,
    /// Few rows and short: proves that everything runs
    #[arg(long)]
    quick: bool,
    /// Wait so many seconds at most until the machine has nothing else to do, before each case
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    Start,
    Idle,
    Pages,
    Claims,
    Retention,
    Schedules,
}

/// How much is done.
struct Scale {
    rows: Rows,
    span: Duration,
    idle: Duration,
    trials: u32,
    /// Fewer than sources: each is backed up once at a time.
    jobs: u64,
    /// Of the pass of retention.
    retained: Rows,
    /// For schedules: one for each source.
    scheduled: Rows,
    rounds: u32,
}

const FULL: Scale = Scale {
    rows: Rows { sources: 10_000, snapshots: 100_000 },
    span: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    trials: 50,
    jobs: 9_000,
    retained: Rows { sources: 10_000, snapshots: 1_000_000 },
    scheduled: Rows { sources: 100_000, snapshots: 100_000 },
    rounds: 5,
};
const QUICK: Scale = Scale {
    rows: Rows { sources: 10_000, snapshots: 20_000 },
    span: Duration::from_secs(3),
    idle: Duration::from_secs(3),
    trials: 5,
    jobs: 500,
    retained: Rows { sources: 1_000, snapshots: 20_000 },
    scheduled: Rows { sources: 10_000, snapshots: 10_000 },
    rounds: 1,
};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let scale = if args.quick { QUICK } else { FULL };
    let wanted = |case| args.only.contains(&case);
    if wanted(Case::Start) || wanted(Case::Idle) {
        fleet(args, &scale).await?;
    }
    if wanted(Case::Pages) || wanted(Case::Claims) {
        for engine in &args.engines {
            full_tables(args, &scale, *engine).await?;
        }
    }
    if wanted(Case::Retention) {
        for engine in &args.engines {
            retained_tables(args, &scale, *engine).await?;
        }
    }
    if wanted(Case::Schedules) {
        for engine in &args.engines {
            say(&format!("filling {} with schedules", engine.name()));
            let platform = Platform::start(&args.bin, *engine).await?;
            let busy = quiet(args)?;
            print(schedules::run(&platform, scale.scheduled, scale.rounds).await?, busy)?;
        }
    }
    Ok(())
}

/// Cases with a worker program.
async fn fleet(args: &Args, scale: &Scale) -> anyhow::Result<()> {
    say("starting a fleet");
    let platform = Platform::start(&args.bin, Engine::Postgres).await?;
    let mut worker = platform.worker("worker-1")?;
    let busy = quiet(args)?;
    print(start::run(&platform, &mut worker, &args.bin, scale.trials).await?, busy)?;
    if args.only.contains(&Case::Idle) {
        let busy = quiet(args)?;
        print(idle::run(&platform, &worker, scale.idle).await?, busy)?;
    }
    Ok(())
}

/// Cases with rows of years in the tables.
async fn full_tables(args: &Args, scale: &Scale, engine: Engine) -> anyhow::Result<()> {
    say(&format!("filling {}", engine.name()));
    let platform = Platform::start(&args.bin, engine).await?;
    scale.rows.insert(&platform, &manifest::example()?).await?;
    if args.only.contains(&Case::Pages) {
        let busy = quiet(args)?;
        print(pages::run(&platform, scale.rows, scale.span).await?, busy)?;
    }
    if args.only.contains(&Case::Claims) {
        let busy = quiet(args)?;
        print(claims::run(&platform, scale.jobs).await?, busy)?;
    }
    let busy = quiet(args)?;
    print(idle::after_load(&platform).await?, busy)
}

/// The case with a hundred snapshots of each source.
async fn retained_tables(args: &Args, scale: &Scale, engine: Engine) -> anyhow::Result<()> {
    say(&format!("filling {} for retention", engine.name()));
    let platform = Platform::start(&args.bin, engine).await?;
    scale.retained.insert(&platform, &manifest::example()?).await?;
    let busy = quiet(args)?;
    print(retention::run(&platform, scale.retained).await?, busy)
}

/// Waits for a quiet machine, as long as may be; how busy it is in the end, in percent.
fn quiet(args: &Args) -> anyhow::Result<f64> {
    let until = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let busy = program::machine_busy()?;
        if busy < QUIET || Instant::now() > until {
            return Ok(busy);
        }
    }
}

/// A section, as soon as it is there. `before` is how busy the machine was when it began.
fn print(mut section: Section, before: f64) -> anyhow::Result<()> {
    let after = program::machine_busy()?;
    section.notes.push(format!(
        "the machine was {before:.0} % busy with other work in the second before, and {after:.0} % in the second after"
    ));
    say(&format!("{}: done", section.title));
    let mut output = std::io::stdout().lock();
    writeln!(output, "{section}")?;
    Ok(output.flush()?)
}

/// Progress, for the person who waits.
fn say(line: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{line}");
}
