//! otlpd, the program.

mod cli;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use otlp_bin::config::{self, Format, Loaded, Role};
use otlp_bin::generate::{self, Progress};
use otlp_bin::run::RunError;
use otlp_bin::signals::Signals;
use otlp_core::component::Exporter;
use otlp_core::telemetry::Registry;
use otlp_core::thread::{Thread, ThreadOptions};
use otlp_core::{Clock, Signal};
use otlp_export::otlp_http::{self, OtlpHttp};

use cli::{Cli, Command, GenerateArgs, Mode, PrintArgs, PrintFormat, SourceArgs};

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
        Some(Command::Components) => print(&components()),
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
    match otlp_bin::run::run(&loaded.tree, &loaded.warnings, drain_timeout) {
        Ok(summary) => {
            summary.0.iter().for_each(|row| say(&row.to_string()));
            if summary.has_loss() { ExitCode::from(EXIT_LOSS) } else { ExitCode::SUCCESS }
        }
        Err(RunError::Configuration(errors)) => {
            errors.iter().for_each(|error| say(&error.to_string()));
            ExitCode::from(EXIT_USAGE)
        }
        Err(RunError::System(message)) => {
            say(&format!("error: {message}"));
            ExitCode::from(EXIT_LOSS)
        }
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
    let summary = generate::run(&exporter, &options, &stop, &mut Bar::new(args, signal));
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

/// Progress by count, by time, or, without an end, by what was sent so far.
struct Bar {
    bar: ProgressBar,
    duration: Option<Duration>,
}

impl Bar {
    fn new(args: &GenerateArgs, signal: Signal) -> Bar {
        let name = signal.items_name();
        let (length, template) = match (args.count, args.duration) {
            (Some(count), _) => (
                Some(count),
                format!("{{wide_bar}} {{human_pos}}/{{human_len}} {name}, {{per_sec}}, {{eta}} left {{msg}}"),
            ),
            (None, Some(duration)) => {
                (Some(duration.as_millis() as u64), format!("{{wide_bar}} {{elapsed}} of {duration:?} {{msg}}"))
            }
            (None, None) => (None, format!("{{spinner}} {{human_pos}} {name}, {{per_sec}}, {{elapsed}} {{msg}}")),
        };
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Bar { bar, duration: args.count.is_none().then_some(args.duration).flatten() }
    }
}

impl Progress for Bar {
    fn update(&mut self, summary: &generate::Summary) {
        match self.duration {
            Some(_) => self.bar.set_position(self.bar.elapsed().as_millis() as u64),
            None => self.bar.set_position((summary.sent + summary.failed).get()),
        }
        if let Some(failure) = &summary.first_failure {
            self.bar.set_message(format!("({} failed: {failure})", summary.failed));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
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

/// The list of components in the form of the Collector's command of that name.
fn components() -> String {
    let mut out = format!(
        "buildinfo:\n    command: otlpd\n    description: {}\n    version: {}\n",
        env!("CARGO_PKG_DESCRIPTION").replace(": ", ", "),
        env!("CARGO_PKG_VERSION"),
    );
    for role in Role::ALL {
        out += &format!("{}:\n", role.section());
        let module = match role {
            Role::Receiver => "otlp-receive",
            Role::Processor => "otlp-process",
            Role::Exporter | Role::Connector => "otlp-export",
            Role::Extension => "otlp-bin",
        };
        for component in config::COMPONENTS.iter().filter(|component| component.role == role) {
            out += &format!("    - name: {}\n      module: {module}\n      stability:\n", component.name);
            for (signal, level) in component.signals {
                let pair = if role == Role::Connector { format!("-to-{signal}") } else { String::new() };
                out += &format!("        {signal}{pair}: {level}\n");
            }
            if role == Role::Extension {
                out += "        extension: beta\n";
            }
        }
    }
    out + "providers:\n    - scheme: env\n    - scheme: file\n    - scheme: yaml\n"
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
