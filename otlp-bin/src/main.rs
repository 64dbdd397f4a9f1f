//! otlpd, the program.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use crossbeam_channel::RecvTimeoutError;
use otlp_bin::admin::endpoints::{self, Error, Running};
use otlp_bin::admin::health::{Phase, Readiness};
use otlp_bin::admin::process;
use otlp_bin::cli::{self, Cli, Command, GenerateArgs, Mode, PrintArgs, PrintFormat, SourceArgs};
use otlp_bin::config::{self, Diagnostic, Format, Loaded, Resolved, Section};
use otlp_bin::generate::{self, Bar};
use otlp_bin::registry::{self, Environment, ThreadSettings};
use otlp_bin::service::Summary;
use otlp_bin::signals::Signals;
use otlp_bin::{Pipeline, logging};
use otlp_core::component::Exporter;
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::Registry;
use otlp_core::thread::{Thread, ThreadOptions};
use otlp_core::{ByteSize, Clock, Deadline};
use otlp_export::otlp_http::{self, OtlpHttp};
use parking_lot::Mutex;

/// Bodies are allocated on one thread and freed on another, which costs the platform's allocator six times as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something was lost, or failed at run time.
const EXIT_LOSS: u8 = 1;
/// Bad command line or configuration.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => return run(cli.sources, cli.drain_timeout),
        Some(Command::Validate(sources)) => load(sources).map(drop),
        Some(Command::Components) => print(&cli::components()),
        Some(Command::PrintConfig(args)) => print_config(args),
        Some(Command::Generate(args)) => return generate(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Runs the pipelines until it is asked to stop, and says what became of every item.
fn run(sources: SourceArgs, drain_timeout: Duration) -> ExitCode {
    let loaded = match config::load(&sources.sources()) {
        Ok(loaded) => loaded,
        Err(report) => {
            say(&report.to_string());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run_until_asked(&loaded.tree, &loaded.warnings, drain_timeout) {
        Ok(summary) => {
            summary.0.iter().for_each(|row| say(&row.to_string()));
            if summary.has_loss() { ExitCode::from(EXIT_LOSS) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(if matches!(error, Error::Configuration(_)) { EXIT_USAGE } else { EXIT_LOSS })
        }
    }
}

/// Runs until SIGTERM or SIGINT, then drains for at most `drain_timeout`. Starts everything on this thread, which sleeps
/// until it is asked to stop.
fn run_until_asked(tree: &Resolved, warnings: &[Diagnostic], drain_timeout: Duration) -> Result<Summary, Error> {
    let telemetry = tree.service.sub("telemetry");
    let logs = telemetry.as_ref().and_then(|telemetry| telemetry.sub("logs"));
    logging::install(&logs.as_ref().map_or_else(logging::Config::default, logging::Config::read)).map_err(system)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    // Before anything starts, so that no signal in between is lost.
    let signals = Signals::watch().map_err(system)?;

    // Asked to stop, nothing has begun yet.
    let pause = |interval| matches!(signals.stop().recv_timeout(interval), Err(RecvTimeoutError::Timeout));
    if !registry::await_token_files(tree, pause).map_err(|error| Error::Configuration(vec![error]))? {
        return Ok(Summary::default());
    }

    let clock = Clock::system();
    let registry = Registry::new();
    let readiness = Readiness::default();
    let idle = ByteSize(process::resident_bytes().unwrap_or(8 << 20));
    let environment = Environment {
        registry: registry.clone(),
        clock: clock.clone(),
        budget: budget(&tree.service, registry::memory_budget(tree, idle), &clock),
        threads: tree.service.sub("threads").as_ref().map_or_else(ThreadSettings::default, ThreadSettings::read),
        healthy: Arc::new({
            let readiness = readiness.clone();
            move || readiness.is_ready()
        }),
    };
    let service = registry::build(tree, &environment).map_err(Error::Configuration)?;
    let running = Running::default();
    let admin = endpoints::start(tree, &readiness, &registry, &running)?;
    let started = Pipeline::start(service).map_err(|failure| Error::System(failure.to_string()))?;
    let pipeline = running.get_or_init(|| Mutex::new(started));
    readiness.set(Phase::Ready);
    log::info!("Everything is ready. Begin running and processing data.");

    // Only a watcher that is gone closes the channel, and then nobody can ask any more.
    let _ = signals.stop().recv();
    log::info!("Starting shutdown...");
    readiness.set(Phase::Stopping);
    let summary = pipeline.lock().shutdown(Deadline::after(clock.now(), drain_timeout));
    drop(admin);
    log::info!("Shutdown complete.");
    Ok(summary)
}

fn system(error: io::Error) -> Error {
    Error::System(error.to_string())
}

fn budget(service: &Section, limit: ByteSize, clock: &Clock) -> MemoryBudget {
    match u8::try_from(service.u64("memory_host_limit_percentage")).unwrap_or(100) {
        0 => MemoryBudget::new(limit),
        percentage => MemoryBudget::with_host_limit(limit, percentage, clock.clone(), process::host_memory),
    }
}

/// Sends generated telemetry, with a progress bar where somebody looks.
fn generate(args: &GenerateArgs) -> ExitCode {
    let signal = args.signal.into();
    let settings = otlp_http::Config { endpoint: args.endpoint.clone(), ..otlp_http::Config::default() };
    let exporter = match OtlpHttp::new("generate", &settings, signal, Clock::system(), &Registry::new()) {
        Ok(exporter) => Arc::new(exporter) as Arc<dyn Exporter>,
        Err(error) => {
            say(&format!("error: --endpoint {}: {}", args.endpoint, error.message));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let options = generate::Options {
        signals: vec![signal],
        rate: args.rate as f64,
        count: args.count,
        duration: args.duration,
        items_per_request: args.items_per_request,
        seed: args.seed,
        // A minute ago, so that no timestamp lies in the future.
        begin_unix_nano: unix_nano().saturating_sub(60_000_000_000),
        timeout: settings.timeout,
    };
    let (mut stopper, stop) = otlp_core::shutdown::stop();
    let signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("error: cannot watch for signals: {error}"));
            return ExitCode::from(EXIT_LOSS);
        }
    };
    let asked = signals.stop().clone();
    // Ends with the process where nobody asks.
    let waiting = Thread::spawn("stop", ThreadOptions::stack_kib(128), move || {
        if asked.recv().is_ok() {
            stopper.stop();
        }
    });
    let summary = generate::run(&exporter, &options, &stop, &mut Bar::new(&options));
    drop(signals);
    drop(waiting);
    say(&format!("{} {} sent, {} failed", summary.sent, signal.items_name(), summary.failed));
    match summary.first_failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            say(&format!("error: {failure}"));
            ExitCode::from(EXIT_LOSS)
        }
    }
}

fn unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Loads the configuration; warnings go to standard error.
fn load(sources: SourceArgs) -> Result<Loaded, String> {
    let loaded = config::load(&sources.sources()).map_err(|report| report.to_string())?;
    loaded.warnings.iter().for_each(|warning| say(&warning.to_string()));
    Ok(loaded)
}

fn print_config(args: PrintArgs) -> Result<(), String> {
    let format = match args.format {
        PrintFormat::Yaml => Format::Yaml,
        PrintFormat::Json => Format::Json,
    };
    let loaded = load(args.sources)?;
    print(&loaded.tree.print(format, args.mode == Mode::Unredacted))
}

/// Prints to standard output. A reader that went away (`otlpd components | head -1`) is no error.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write the output: {error}")),
        _ => Ok(()),
    }
}

/// A line to standard error; where that is closed there is nobody to tell.
fn say(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}
