//! The command line of `otlpd`: data only. What each command does is in `main.rs`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Role;

const EXAMPLES: &str = "\
Examples:
  otlpd                                run on the built-in configuration: 127.0.0.1, ports 4317 and 4318
  otlpd print-config > otlpd.yaml      start a configuration of one's own from it
  otlpd validate --config otlpd.yaml   see everything that is wrong with a file, with lines
  otlpd --config otlpd.yaml            run it
  otlpd --config a.yaml --config b.yaml
                                       later files win; maps are merged, lists are replaced
  otlpd --config otlpd.yaml --set processors.batch.timeout=2s
  otlpd --config 'yaml:exporters::debug::verbosity: detailed' --config otlpd.yaml
  otlpd generate --rate 1000           send test data to 127.0.0.1:4318

In a file: ${env:NAME}, ${env:NAME:-default}, ${file:path}; $$ is a dollar sign.

Exit codes: 0 nothing was lost, 1 something was lost or failed while running, 2 bad command line or configuration.";

/// Takes OpenTelemetry data in (OTLP), processes it and hands it on, on dedicated threads.
///
/// The configuration is the one of the OpenTelemetry Collector for the components otlpd has (`otlpd components`).
#[derive(Debug, Parser)]
#[command(name = "otlpd", version, after_long_help = EXAMPLES, after_help = "More and examples: otlpd --help")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do in place of running.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: SourceArgs,

    /// How long stopping may take to hand on what is held; what is left then is counted as dropped.
    ///
    /// A second SIGTERM or SIGINT stops at once.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a configuration without running it: every error with its line, and nothing when all is well.
    ///
    /// Nothing is bound, connected or started. Warnings go to standard error and do not change the exit code.
    Validate(SourceArgs),
    /// List the components a configuration may name, as YAML.
    Components,
    /// Print the configuration as it is understood: merged, references replaced, defaults filled in.
    #[command(alias = "print-initial-config")]
    PrintConfig(PrintArgs),
    /// Send generated telemetry to an OTLP/HTTP endpoint, the same for the same seed.
    Generate(GenerateArgs),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct SourceArgs {
    /// A configuration: a path, file:PATH, env:VARIABLE or yaml:TEXT. May be repeated; later ones win.
    #[arg(long, value_name = "URI", action = clap::ArgAction::Append)]
    pub config: Vec<String>,

    /// One setting, such as processors.batch.timeout=2s. May be repeated; wins over every --config.
    ///
    /// Dots separate the keys (`::` does too, for keys that hold a dot); the value is YAML.
    #[arg(long, value_name = "KEY=VALUE", action = clap::ArgAction::Append)]
    pub set: Vec<String>,
}

impl SourceArgs {
    /// The same as the configuration's loader takes it.
    pub fn sources(self) -> crate::config::Sources {
        crate::config::Sources::new(self.config, self.set)
    }
}

/// Arguments of `print-config`.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: SourceArgs,

    /// Whether header values, keys and other secrets are shown.
    #[arg(long, value_enum, default_value = "redacted")]
    pub mode: Mode,

    /// The form to print in.
    #[arg(long, value_enum, default_value = "yaml")]
    pub format: PrintFormat,
}

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Secrets print as `[REDACTED]`.
    Redacted,
    /// Secrets print as they are.
    Unredacted,
}

/// The form in which a configuration is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrintFormat {
    /// As it is written.
    Yaml,
    /// For programs.
    Json,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct GenerateArgs {
    /// The base URL; /v1/traces, /v1/metrics or /v1/logs is appended.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    pub endpoint: String,

    /// What to send.
    #[arg(long, value_enum, default_value = "traces")]
    pub signal: GenerateSignal,

    /// Items (spans, data points or log records) a second; 0 is as fast as the endpoint takes them.
    #[arg(long, value_name = "ITEMS", default_value_t = 1000)]
    pub rate: u64,

    /// Stop after this many items.
    #[arg(long, value_name = "ITEMS", conflicts_with = "duration")]
    pub count: Option<u64>,

    /// Stop after this long; without it and without --count, at Ctrl-C.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,

    /// The same seed sends the same data, but for its timestamps, which lie in the last minute.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Items in one request.
    #[arg(long, value_name = "ITEMS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub items_per_request: u64,
}

/// A signal by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GenerateSignal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl From<GenerateSignal> for otlp_core::Signal {
    fn from(signal: GenerateSignal) -> Self {
        match signal {
            GenerateSignal::Traces => Self::Traces,
            GenerateSignal::Metrics => Self::Metrics,
            GenerateSignal::Logs => Self::Logs,
        }
    }
}

/// The list of components in the form of the Collector's command of that name.
pub fn components() -> String {
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
        for component in crate::config::COMPONENTS.iter().filter(|component| component.role == role) {
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

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text).ok_or_else(|| "expected a duration such as 500ms, 30s or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn options_come_in_both_forms_and_repeat() {
        let cli = Cli::parse_from(["otlpd", "--config=a", "--config", "b", "--set", "x=y=z", "--drain-timeout", "1m"]);
        assert_eq!(cli.sources.config, ["a", "b"]);
        assert_eq!(cli.sources.set, ["x=y=z"]);
        assert_eq!(cli.drain_timeout, Duration::from_secs(60));
        let cli = Cli::parse_from(["otlpd", "print-initial-config", "--config", "a", "--mode", "unredacted"]);
        assert!(matches!(cli.command, Some(Command::PrintConfig(PrintArgs { mode: Mode::Unredacted, .. }))));
        for bad in [&["otlpd", "--confg", "a"][..], &["otlpd", "validate", "a"], &["otlpd", "--drain-timeout", "10"]] {
            assert_eq!(Cli::try_parse_from(bad).expect_err("refused").exit_code(), 2, "{bad:?}");
        }
    }
}
