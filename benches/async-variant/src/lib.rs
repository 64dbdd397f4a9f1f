//! The pipeline of the usual async collector: tokio's scheduler on several threads, axum and tonic in, channels between
//! tasks, reqwest and tonic out. Measured against otlpd; part of nothing that is shipped.
//!
//! | file          | purpose                                                                       |
//! |---------------|-------------------------------------------------------------------------------|
//! | `engine.rs`   | what data is between receiver and exporter: the one thing the programs differ in |
//! | `objects.rs`  | messages of prost (`async-variant`)                                           |
//! | `wire.rs`     | otlpd's own bytes and edits (`engine-on-tokio`)                               |
//! | `settings.rs` | the part of the Collector's configuration that is understood here             |
//! | `serve.rs`    | axum: OTLP/HTTP in                                                            |
//! | `grpc.rs`     | tonic: OTLP/gRPC in, and the codec for both directions                        |
//! | `pipeline.rs` | processors, batching, and who hears what                                      |
//! | `export.rs`   | reqwest and tonic out, with the queue, its consumers and retries              |
//! | `limiter.rs`  | memory_limiter                                                                |
//!
//! # Fair play
//!
//! Both programs share everything but the engine, so the difference between them is that of objects to bytes; and the
//! difference of `engine-on-tokio` to otlpd is that of a runtime to threads. Allocator and build profile are otlpd's. The
//! codecs of OTLP/HTTP are otlpd's too, levels included, for compressing would drown all else. A limit on memory is
//! asked before a body is read, earlier than the Collector does. What is configured and not built here stops the start.

pub mod engine;
pub mod export;
pub mod grpc;
pub mod limiter;
pub mod objects;
pub mod pipeline;
pub mod serve;
pub mod settings;
pub mod wire;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use otlp_bin::config::{self, Sources};
use tokio::sync::watch;

use engine::Engine;
use settings::Settings;

/// Why it does not start.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The program: `--config FILE` or `--version`.
pub fn main<E: Engine>(name: &str) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let file = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => {
            println!("{name} of otlpd {}, tokio, axum, tonic, reqwest", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["--config", file] => file.to_owned(),
        _ => {
            eprintln!("usage: {name} --config FILE");
            return ExitCode::from(2);
        }
    };
    let ran = || -> Result<(), Problem> {
        let loaded = config::load(&Sources::new(vec![file], vec![])).map_err(|report| report.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(run::<E>(&loaded.tree, terminated()?))
    };
    match ran() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn terminated() -> Result<impl Future<Output = ()> + Send, Problem> {
    Ok(async {
        let mut signal = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(signal) => signal,
            Err(_) => return std::future::pending().await,
        };
        tokio::select! {
            _ = signal.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

/// Runs a configuration until `stop` is done, and then until all that was accepted is sent or given up.
///
/// # Errors
///
/// What is configured and not built here; an address that cannot be listened on.
pub async fn run<E: Engine>(
    tree: &config::Resolved,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Problem> {
    let settings = Settings::read(tree)?;
    let (stopper, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        let _ = stopper.send(true);
    });
    let limiter = settings.memory_limit.map(limiter::start);
    let mut inlets = pipeline::Inlets::<E>::new(limiter);
    let mut tasks = Vec::new();
    for settings in &settings.pipelines {
        let engine = E::new(tree, settings)?;
        tasks.extend(pipeline::start(engine, settings, &mut inlets)?);
    }
    let inlets = Arc::new(inlets);
    let mut servers = tokio::task::JoinSet::new();
    if let Some(endpoint) = &settings.http {
        let listener = settings::listen(endpoint)?;
        servers.spawn(serve::serve(listener, Arc::clone(&inlets), stopped.clone()));
    }
    if let Some(endpoint) = &settings.grpc {
        let listener = settings::listen(endpoint)?;
        servers.spawn(grpc::serve(listener, Arc::clone(&inlets), stopped.clone()));
    }
    // The servers' copies are gone with them; this one is the last, and with it the pipelines' inlets close.
    drop(inlets);
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}
