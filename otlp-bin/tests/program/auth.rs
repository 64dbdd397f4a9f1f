//! Who may send, through the whole program: what one otlpd sends another takes, and nobody else's.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::support::{Backend, Program, Sender, traces, wait_until};

/// A file that is gone when the test ends.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, text: &str) -> TestFile {
        let path = std::env::temp_dir().join(format!("otlpd-auth-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        TestFile(path)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes OTLP by both protocols from whoever `extension` lets in, and sends it to the backend.
fn gateway(extension: &str, backend: &Backend) -> String {
    let auth = format!("auth: {{authenticator: {}}}", extension.split(':').next().unwrap());
    format!(
        "extensions: {{{extension}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0', {auth}}}, grpc: {{endpoint: '127.0.0.1:0', {auth}}}}}}}}}
processors: {{attributes: {{actions: [{{key: user, from_context: auth.username, default_value: nobody, action: insert}}]}}}}
exporters: {{otlp_http: {{endpoint: '{}', compression: none}}}}
service:
  extensions: [{}]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [attributes], exporters: [otlp_http]}}}}",
        backend.url(),
        extension.split(':').next().unwrap()
    )
}

/// Takes OTLP/HTTP from everybody and sends it to a gateway by both protocols.
fn agent(extension: &str, http: SocketAddr, grpc: SocketAddr) -> String {
    let id = extension.split(':').next().unwrap();
    format!(
        "extensions: {{{extension}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
  otlp_http: {{endpoint: 'http://{http}', auth: {{authenticator: {id}}}}}
  otlp_grpc: {{endpoint: '{grpc}', tls: {{insecure: true}}, auth: {{authenticator: {id}}}}}
service:
  extensions: [{id}]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http, otlp_grpc]}}}}"
    )
}

/// What goes into the agent comes out of the gateway, by both protocols, under that user's name; without credentials
/// nothing does.
fn check(server: &str, client: &str, user: &str) {
    let backend = Backend::healthy();
    let mut gateway = Program::start(&gateway(server, &backend));
    let (http, grpc) = (gateway.address(), gateway.grpc_address());
    let refused = Sender::connect(http).traces(&traces(9, 1)).unwrap();
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.header("www-authenticate").is_some());
    let mut agent = Program::start(&agent(client, http, grpc));
    assert_eq!(Sender::connect(agent.address()).traces(&traces(0, 3)).unwrap().status, 200);
    wait_until("both copies", || backend.spans() == 6);
    for body in backend.bodies() {
        assert!(String::from_utf8_lossy(&body).contains(user), "the user's name is an attribute");
    }
    let stopped = agent.stop();
    for destination in ["otlp_http", "otlp_grpc"] {
        assert_eq!(stopped.books.get(&format!("traces -> {destination}"), "exported"), 3, "{}", stopped.log);
    }
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn tokens_let_in_those_who_send_them() {
    let file = TestFile::new("tokens", "one\ntwo\n");
    let server = format!("bearertokenauth/in: {{filename: '{}'}}", file.0.display());
    check(&server, "bearertokenauth/out: {token: two}", "nobody");
}

#[test]
fn users_are_let_in_by_their_passwords_and_known_by_name() {
    let file = TestFile::new("htpasswd", "ann:other\nbob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    let password = TestFile::new("password", "secret\n");
    check(
        &format!("basicauth/in: {{htpasswd: {{file: '{}'}}}}", file.0.display()),
        &format!("basicauth/out: {{client_auth: {{username: bob, password_file: '{}'}}}}", password.0.display()),
        "bob",
    );
}

#[test]
fn an_authenticator_that_is_not_there_stops_the_start_and_the_nearest_is_named() {
    let backend = Backend::dead_url();
    let config = |authenticator: &str, started: &str| {
        format!(
            "extensions: {{bearertokenauth/agents: {{token: hush}}, basicauth: {{client_auth: {{username: a}}}}, health_check: {{endpoint: '127.0.0.1:0'}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0', auth: {{authenticator: {authenticator}}}}}}}}}}}
exporters: {{otlp_http: {{endpoint: '{backend}'}}}}
service:
  extensions: [{started}]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}"
        )
    };
    for (authenticator, started, message) in [
        (
            "bearertokenauth/agent",
            "bearertokenauth/agents, basicauth",
            "there is no extension bearertokenauth/agent; did you mean \"bearertokenauth/agents\"?",
        ),
        ("bearertokenauth/agents", "basicauth", "bearertokenauth/agents is not among service::extensions"),
        (
            "health_check",
            "health_check, basicauth",
            "the extension health_check does not authenticate; there is basicauth",
        ),
        (
            "basicauth",
            "basicauth",
            "extensions::basicauth::htpasswd: must be given: receivers::otlp::protocols::http::auth",
        ),
    ] {
        let stopped = Program::spawn(&config(authenticator, started), &[]).wait();
        assert_eq!(stopped.code, Some(2), "{}", stopped.log);
        let line = stopped.log.lines().find(|line| line.contains(message));
        let line = line.unwrap_or_else(|| panic!("no {message:?} in:\n{}", stopped.log));
        assert!(line.contains("otlpd.yaml:"), "{line}");
        assert!(!stopped.log.contains("hush"));
    }
}
