//! Unix sockets on both sides: data over both transports, sockets that a dead process left, and those of a live one.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use rustix::process::Signal;

use crate::support::{Backend, Program, Sender, traces, wait_until};

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        // Short: a socket's path has 107 bytes.
        let path = std::env::temp_dir().join(format!("otlpd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn socket(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// From two Unix sockets to a backend.
fn gateway(grpc: &str, http: &str, backend: &Backend) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}', transport: unix}}, http: {{endpoint: '{http}', transport: unix}}}}}}}}
processors: {{attributes: {{actions: [{{key: peer, from_context: client.address, action: insert}}]}}}}
exporters: {{otlp_http: {{endpoint: '{}'}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [attributes], exporters: [otlp_http]}}}}
",
        backend.url()
    )
}

/// From a port to exporters.
fn agent(exporters: &str, names: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{{exporters}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [{names}]}}}}
"
    )
}

fn is_socket(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[test]
fn both_transports_go_over_unix_sockets_whose_files_live_as_long_as_the_receiver() {
    let (folder, backend) = (Folder::new("unix"), Backend::healthy());
    let (grpc, http) = (folder.socket("grpc.sock"), folder.socket("http.sock"));
    let mut gateway = Program::start(&gateway(&grpc, &http, &backend));
    assert!(gateway.wait_for("Starting HTTP server").ends_with(&format!("unix:{http}")));
    assert!(is_socket(&grpc) && is_socket(&http));
    // Who may write may send: the umask decides, as it does for everything else.
    assert_ne!(std::fs::metadata(&http).unwrap().permissions().mode() & 0o200, 0);
    // Either socket understands both protocols, as either port does.
    let exporters = [
        format!("otlp_grpc/1: {{endpoint: 'unix://{grpc}', tls: {{insecure: true}}}}"),
        format!("otlp_grpc/2: {{endpoint: 'unix:{http}', tls: {{insecure: true}}, compression: none}}"),
        format!("otlp_http/1: {{endpoint: 'unix://{http}'}}"),
        format!("otlp_http/2: {{traces_endpoint: 'unix:{grpc}:/v1/traces', compression: none}}"),
    ];
    let names = "otlp_grpc/1, otlp_grpc/2, otlp_http/1, otlp_http/2";
    let mut agent = Program::start(&agent(&exporters.join(", "), names));
    let mut sender = Sender::connect(agent.address());
    for request in 0..20 {
        assert_eq!(sender.traces(&traces(request * 10, 10)).unwrap().status, 200);
    }
    wait_until("everything at the backend", || backend.spans() >= 800);
    assert_eq!(agent.stop().code, Some(0));
    let stopped = gateway.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    assert_eq!(stopped.books.get("traces -> otlp_http", "exported"), 800);
    assert!(backend.times().values().all(|&times| times == 4), "each once by each way");
    for body in backend.bodies() {
        for resource in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
            let spans = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
            let peers = spans.flat_map(|span| &span.attributes).filter(|attribute| attribute.key == "peer");
            assert_eq!(peers.count(), 0, "a Unix socket has no address, and none is made up");
        }
    }
    assert!(!Path::new(&grpc).exists() && !Path::new(&http).exists(), "they go with the receiver");
}

#[test]
fn health_is_told_over_a_unix_socket() {
    let folder = Folder::new("health");
    let health = folder.socket("health.sock");
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{debug: }}
extensions: {{health_check: {{endpoint: '{health}', transport: unix}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"
    );
    let program = Program::start(&config);
    let mut client = UnixStream::connect(&health).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(program.stop().code, Some(0));
    assert!(!Path::new(&health).exists());
}

#[test]
fn what_a_dead_process_left_is_replaced_and_what_a_live_one_has_is_refused() {
    let (folder, backend) = (Folder::new("dead"), Backend::healthy());
    let (grpc, http) = (folder.socket("g"), folder.socket("h"));
    let config = gateway(&grpc, &http, &backend);
    let dies = Program::start(&config);
    dies.signal(Signal::KILL);
    drop(dies);
    assert!(is_socket(&grpc) && is_socket(&http), "nobody removed them");
    let lives = Program::start(&config);
    let mut refused = Program::spawn(&config, &[]);
    let line = refused.wait_for("cannot listen on");
    assert!(line.contains(&format!("cannot listen on {grpc}: address in use")), "{line}");
    assert!(line.contains("receivers.otlp.protocols.grpc.endpoint"), "{line}");
    assert_ne!(refused.wait().code, Some(0));
    assert!(is_socket(&grpc) && is_socket(&http), "those of the live one stay");
    let exporter = format!("otlp_grpc: {{endpoint: 'unix://{grpc}', tls: {{insecure: true}}}}");
    let mut agent = Program::start(&agent(&exporter, "otlp_grpc"));
    assert_eq!(Sender::connect(agent.address()).traces(&traces(0, 10)).unwrap().status, 200);
    wait_until("it is reached", || backend.spans() == 10);
    assert_eq!((agent.stop().code, lives.stop().code), (Some(0), Some(0)));
}

#[test]
#[cfg(target_os = "linux")]
fn sockets_without_a_file_have_names() {
    let backend = Backend::healthy();
    let name = |protocol: &str| format!("otlpd-{protocol}-{}", std::process::id());
    let (grpc, http) = (name("grpc"), name("http"));
    let gateway = Program::start(&gateway(&format!("@{grpc}"), &format!("@{http}"), &backend));
    let exporters = format!(
        "otlp_grpc: {{endpoint: 'unix-abstract:{grpc}', tls: {{insecure: true}}}}, otlp_http: {{endpoint: 'unix-abstract:{http}'}}"
    );
    let mut agent = Program::start(&agent(&exporters, "otlp_grpc, otlp_http"));
    assert_eq!(Sender::connect(agent.address()).traces(&traces(0, 10)).unwrap().status, 200);
    wait_until("it is reached both ways", || backend.spans() == 20);
    assert_eq!((agent.stop().code, gateway.stop().code), (Some(0), Some(0)));
}
