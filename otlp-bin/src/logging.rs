//! The program's own log: `service::telemetry::logs` on top of `env_logger`.
//!
//! `console` lines are tab separated as the Collector's: time, level, target, message. `json` lines are one object each.
//! `RUST_LOG` wins over the configured level, so that one run can be looked at without touching a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::SystemTime;

use log::{Level, LevelFilter};

use crate::config::Section;

/// The settings; the keys are the Collector's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The least important lines that are written. Default `INFO`.
    pub level: LevelFilter,
    /// How lines are written. Default console.
    pub encoding: Encoding,
    /// Files, `stdout` or `stderr`. Default `[stderr]`.
    pub output_paths: Vec<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Tab separated, for people.
    Console,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Config {
        Config { level: LevelFilter::Info, encoding: Encoding::Console, output_paths: vec!["stderr".into()] }
    }
}

impl Config {
    /// Reads `service::telemetry::logs`.
    pub fn read(logs: &Section) -> Config {
        Config {
            level: match logs.str("level").to_ascii_lowercase().as_str() {
                "debug" => LevelFilter::Debug,
                "warn" | "warning" => LevelFilter::Warn,
                "error" | "dpanic" | "panic" | "fatal" => LevelFilter::Error,
                _ => LevelFilter::Info,
            },
            encoding: if logs.str("encoding") == "json" { Encoding::Json } else { Encoding::Console },
            output_paths: logs.list_str("output_paths").to_vec(),
        }
    }
}

/// Installs the logger for the whole process. Only the program does that, once.
///
/// # Errors
///
/// Where an output cannot be opened: names the path.
pub fn install(config: &Config) -> io::Result<()> {
    let encoding = config.encoding;
    let target = Outputs::open(&config.output_paths)?;
    let mut builder = env_logger::Builder::new();
    builder.filter_level(config.level).parse_default_env().target(env_logger::Target::Pipe(Box::new(target)));
    builder.format(move |out, record| {
        let time = otlp_core::clock::rfc3339(SystemTime::now());
        writeln!(out, "{}", line(encoding, &time, record.level(), record.target(), &record.args().to_string()))
    });
    // Only a second call in one process can fail, and then the first one's logger stands.
    let _ = builder.try_init();
    Ok(())
}

fn line(encoding: Encoding, time: &str, level: Level, target: &str, message: &str) -> String {
    let level = level.as_str().to_ascii_lowercase();
    match encoding {
        // What the debug exporter dumps is text of many lines on purpose, for a person.
        Encoding::Console if target.starts_with("otlp_export::debug") => {
            format!("{time}\t{level}\t{target}\t{message}")
        }
        Encoding::Console => format!("{time}\t{level}\t{target}\t{}", one_line(message)),
        Encoding::Json => {
            serde_json::json!({ "ts": time, "level": level, "logger": target, "msg": message }).to_string()
        }
    }
}

/// A peer's words may hold line breaks; a log line may not.
fn one_line(message: &str) -> String {
    message.replace('\n', "\\n").replace('\r', "\\r")
}

struct Outputs(Vec<Box<dyn Write + Send>>);

impl Outputs {
    fn open(paths: &[String]) -> io::Result<Outputs> {
        paths
            .iter()
            .map(|path| match path.as_str() {
                "stdout" => Ok(Box::new(io::stdout()) as Box<dyn Write + Send>),
                "stderr" => Ok(Box::new(io::stderr()) as Box<dyn Write + Send>),
                path => OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map(|file| Box::new(file) as Box<dyn Write + Send>)
                    .map_err(|error| {
                        io::Error::new(
                            error.kind(),
                            format!("cannot open {path}: {error}; set service::telemetry::logs::output_paths"),
                        )
                    }),
            })
            .collect::<io::Result<_>>()
            .map(Outputs)
    }
}

impl Write for Outputs {
    /// A line goes to every output; one that fails does not keep it from the others.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for output in &mut self.0 {
            let _ = output.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        for output in &mut self.0 {
            let _ = output.flush();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_in_both_encodings() {
        let console = line(Encoding::Console, "T", Level::Warn, "otlp_export", "said \"no\"\nand left");
        assert_eq!(console, "T\twarn\totlp_export\tsaid \"no\"\\nand left");
        let json = line(Encoding::Json, "T", Level::Info, "x", "two\nlines");
        assert_eq!(json, r#"{"level":"info","logger":"x","msg":"two\nlines","ts":"T"}"#);
    }

    #[test]
    fn an_output_that_cannot_be_opened_names_the_key() {
        let error = Outputs::open(&["/nonexistent/x.log".into()]).err().unwrap();
        assert!(error.to_string().contains("service::telemetry::logs::output_paths"), "{error}");
    }
}
