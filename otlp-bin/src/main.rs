//! otlpd, the program.

mod cli;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use otlp_bin::config::{self, Format, Loaded, Role};

use cli::{Cli, Command, Mode, PrintArgs, PrintFormat, SourceArgs};

/// Bad command line or configuration.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(cli.sources),
        Some(Command::Validate(sources)) => load(sources).map(drop),
        Some(Command::Components) => print(&components()),
        Some(Command::PrintConfig(args)) => print_config(args),
        Some(Command::Generate(_)) => Err("generate is not wired yet".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run(sources: SourceArgs) -> Result<(), String> {
    load(sources)?;
    Err("the configuration is fine; running it is not wired yet".to_owned())
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
            Role::Exporter => "otlp-export",
            Role::Connector | Role::Extension => "otlp-bin",
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
