//! The `health_check` extension: 200 while every pipeline runs, 503 before and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Instant, SystemTime};

use super::server::{Answer, Handler};

/// Where the program is in its life. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: AtomicU8,
    since: SystemTime,
    started: Instant,
}

/// A phase of the program's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Components are being started.
    Starting = 0,
    /// Everything runs.
    Ready = 1,
    /// Draining, or done.
    Stopping = 2,
}

/// The settings of one `health_check` extension; the keys are the Collector's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `host:port` to listen on.
    pub endpoint: String,
    /// The path that is answered; everything below it, too, as the Collector's handler does.
    pub path: String,
    /// Body of a 200, in place of the JSON document.
    pub healthy: Option<String>,
    /// Body of a 503, in place of the JSON document.
    pub unhealthy: Option<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config { endpoint: "localhost:13133".into(), path: "/".into(), healthy: None, unhealthy: None }
    }
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness(Arc::new(Inner { phase: AtomicU8::new(0), since: SystemTime::now(), started: Instant::now() }))
    }
}

impl Readiness {
    /// Moves on to a phase.
    pub fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether everything runs.
    pub fn is_ready(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == Phase::Ready as u8
    }
}

/// Answers for one extension. `unhealthy` names a component that does not work, if there is one: it is told, but a
/// destination that is down does not make the program unready, as in the Collector.
pub fn handler(
    config: Config,
    readiness: Readiness,
    unhealthy: impl Fn() -> Vec<String> + Send + Sync + 'static,
) -> Handler {
    Arc::new(move |path| {
        let below = path.strip_prefix(config.path.as_str());
        if !below.is_some_and(|rest| config.path.ends_with('/') || rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let ready = readiness.is_ready();
        let own = if ready { &config.healthy } else { &config.unhealthy };
        let status = if ready { 200 } else { 503 };
        Some(match own {
            Some(body) => Answer { status, content_type: "text/plain; charset=utf-8", body: body.clone() },
            None => {
                Answer { status, content_type: "application/json", body: document(&readiness, ready, &unhealthy()) }
            }
        })
    })
}

fn document(readiness: &Readiness, ready: bool, unhealthy: &[String]) -> String {
    let status = if ready { "Server available" } else { "Server not available" };
    let since = otlp_core::clock::rfc3339(readiness.0.since);
    let uptime = readiness.0.started.elapsed();
    let mut document =
        serde_json::json!({ "status": status, "upSince": since, "uptime": format!("{:.3}s", uptime.as_secs_f64()) });
    if !unhealthy.is_empty() {
        document["unhealthy"] = serde_json::json!(unhealthy);
    }
    format!("{document}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_phases_and_names_what_is_unhealthy() {
        let readiness = Readiness::default();
        let handler = handler(Config::default(), readiness.clone(), || vec!["otlp_http/a: connection refused".into()]);
        assert_eq!(handler("/").unwrap().status, 503);
        readiness.set(Phase::Ready);
        let answer = handler("/").unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("\"status\":\"Server available\""), "{}", answer.body);
        assert!(answer.body.contains("connection refused"), "{}", answer.body);
        readiness.set(Phase::Stopping);
        assert_eq!(handler("/").unwrap().status, 503);
    }

    #[test]
    fn answers_only_its_path_with_its_body() {
        let config = Config { path: "/live".into(), healthy: Some("fine".into()), ..Config::default() };
        let readiness = Readiness::default();
        readiness.set(Phase::Ready);
        let handler = handler(config, readiness, Vec::new);
        assert_eq!(handler("/"), None);
        assert_eq!(handler("/liver"), None);
        assert_eq!(handler("/live").unwrap().body, "fine");
        assert_eq!(handler("/live/x").unwrap().body, "fine");
    }
}
