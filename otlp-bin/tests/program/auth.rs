//! Who may send, through the whole program: what one otlpd sends another takes, and nobody else's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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

/// Takes OTLP by both protocols from whoever `extension` lets in, and sends it to the backend. gRPC comes over a Unix
/// socket, since it sends no credentials in plain text over a network.
fn gateway(extension: &str, socket: &Path, backend: &Backend) -> String {
    let auth = format!("auth: {{authenticator: {}}}", extension.split(':').next().unwrap());
    format!(
        "extensions: {{{extension}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0', {auth}}}, grpc: {{endpoint: '{}', transport: unix, {auth}}}}}}}}}
processors: {{attributes: {{actions: [{{key: user, from_context: auth.username, default_value: nobody, action: insert}}]}}}}
exporters: {{otlp_http: {{endpoint: '{}', compression: none}}}}
service:
  extensions: [{}]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [attributes], exporters: [otlp_http]}}}}",
        socket.display(),
        backend.url(),
        extension.split(':').next().unwrap()
    )
}

/// Takes OTLP/HTTP from everybody and sends it to a gateway by both protocols.
fn agent(extension: &str, http: SocketAddr, grpc: &Path) -> String {
    let id = extension.split(':').next().unwrap();
    format!(
        "extensions: {{{extension}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
  otlp_http: {{endpoint: 'http://{http}', auth: {{authenticator: {id}}}}}
  otlp_grpc: {{endpoint: 'unix://{}', tls: {{insecure: true}}, auth: {{authenticator: {id}}}}}
service:
  extensions: [{id}]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http, otlp_grpc]}}}}",
        grpc.display()
    )
}

/// What goes into the agent comes out of the gateway, by both protocols, under that user's name; without credentials
/// nothing does.
fn check(server: &str, client: &str, user: &str) {
    let backend = Backend::healthy();
    let socket = std::env::temp_dir().join(format!("otlpd-auth-{}-{user}.sock", std::process::id()));
    let mut gateway = Program::start(&gateway(server, &socket, &backend));
    let http = gateway.address();
    let refused = Sender::connect(http).traces(&traces(9, 1)).unwrap();
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.header("www-authenticate").is_some());
    let mut agent = Program::start(&agent(client, http, &socket));
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

/// One exporter with a token from that file.
fn sends_with(token_file: &Path, keys: &str, exporter: &str) -> String {
    format!(
        "extensions: {{bearertokenauth: {{filename: '{}', {keys}}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
  {exporter}
service:
  extensions: [bearertokenauth]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [{}]}}}}",
        token_file.display(),
        exporter.split(':').next().unwrap()
    )
}

#[test]
fn a_grpc_exporter_that_would_send_credentials_in_plain_text_does_not_start() {
    let file = TestFile::new("plain", "hush");
    let exporter =
        "otlp_grpc: {endpoint: '127.0.0.1:9', auth: {authenticator: bearertokenauth}, tls: {insecure: true}}";
    let stopped = Program::spawn(&sends_with(&file.0, "scheme: Bearer", exporter), &[]).wait();
    assert_eq!(stopped.code, Some(2), "{}", stopped.log);
    let line = stopped.log.lines().find(|line| line.contains(" error: ")).unwrap();
    assert!(line.contains("otlpd.yaml:4:86: error: exporters::otlp_grpc::tls::insecure: "), "{line}");
    assert!(line.contains("plain text") && line.contains("insecure: false"), "{line}");
}

#[test]
fn http_sends_credentials_in_plain_text_and_says_so_once() {
    let (backend, file) = (Backend::healthy(), TestFile::new("warned", "hush"));
    let exporter = format!("otlp_http: {{endpoint: '{}', auth: {{authenticator: bearertokenauth}}}}", backend.url());
    let mut program = Program::start(&sends_with(&file.0, "scheme: Bearer", &exporter));
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 1)).unwrap().status, 200);
    wait_until("it is sent", || backend.heads().iter().any(|head| head.contains("Bearer hush")));
    let stopped = program.stop();
    let lines: Vec<_> = stopped.log.lines().filter(|line| line.contains("plain text")).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("otlpd.yaml:4:15: warning: exporters::otlp_http::endpoint"),
        "{lines:?}"
    );
}

#[test]
fn a_token_file_is_waited_for_as_configured() {
    let (backend, file) = (Backend::healthy(), TestFile::new("late", ""));
    std::fs::remove_file(&file.0).unwrap();
    let exporter = format!(
        "otlp_http: {{endpoint: '{}', auth: {{authenticator: bearertokenauth}}, retry_on_failure: {{initial_interval: 10ms}}}}",
        backend.url()
    );
    let config = |keys: &str| sends_with(&file.0, keys, &exporter);
    // Not at all.
    let stopped = Program::spawn(&config("scheme: Bearer"), &[]).wait();
    assert_eq!(stopped.code, Some(2), "{}", stopped.log);
    assert!(stopped.log.contains("extensions::bearertokenauth::filename: cannot read"), "{}", stopped.log);
    // At the start, so often; and until it is asked to stop.
    let retry = |more: &str| format!("retry_on_failure: {{enabled: true, interval: 10ms{more}}}");
    let waits = |more: &str| format!("wait_for_token_file: true, {}", retry(more));
    let stopped = Program::spawn(&config(&waits(", max_retries: 2")), &[]).wait();
    assert_eq!(stopped.code, Some(2), "{}", stopped.log);
    assert!(stopped.log.contains("looked 3 times"), "{}", stopped.log);
    let mut patient = Program::spawn(&config(&waits("")), &[]);
    patient.wait_for("waiting for");
    assert_eq!(patient.stop().code, Some(0), "nothing had begun");
    // While it runs: what comes meanwhile is sent when the token is there.
    let mut program = Program::start(&config(&retry("")));
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 5)).unwrap().status, 200);
    let mut waiting = Program::spawn(&config(&waits("")), &[]);
    waiting.wait_for("waiting for");
    assert_eq!(backend.requests(), 0);
    std::fs::write(&file.0, "one\n").unwrap();
    wait_until("it is sent", || backend.spans() == 5);
    assert!(backend.heads()[0].contains("Bearer one"));
    waiting.wait_for("Everything is ready");
    assert_eq!((program.stop().code, waiting.stop().code), (Some(0), Some(0)));
}
