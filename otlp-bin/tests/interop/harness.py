"""Runs otlpd and a sink that keeps what arrives, on loopback, for the interoperability tests."""
import collections
import concurrent.futures
import gzip
import http.server
import os
import pathlib
import re
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request

import grpc
import trustme
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "/v1/traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "/v1/metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "/v1/logs",
}
DEADLINE_S = 60


class Certificates:
    """An authority of its own, with a certificate for 127.0.0.1 and localhost and one for a client, as files."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="otlpd-certificates-")
        authority = trustme.CA()
        self.ca = self._write("ca.pem", authority.cert_pem)
        self.server = self._pair("server", authority.issue_cert("127.0.0.1", "localhost"))
        self.client = self._pair("client", authority.issue_cert("client@example.com"))

    def _write(self, name, blob):
        path = pathlib.Path(self.folder.name, name)
        path.write_bytes(blob.bytes())
        return str(path)

    def _pair(self, name, issued):
        """The paths of a chain and of its key."""
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        path = pathlib.Path(self.folder.name, f"{name}.pem")
        path.write_bytes(chain)
        return str(path), self._write(f"{name}.key", issued.private_key_pem)

    def close(self):
        self.folder.cleanup()


def read(path):
    return pathlib.Path(path).read_bytes()


class Kept:
    """What arrived at a sink: the decoded messages by the path of their signal."""

    def __init__(self):
        self.requests = collections.defaultdict(list)
        self.headers = []
        self.changed = threading.Condition()

    def keep(self, path, message, headers):
        with self.changed:
            self.requests[path].append(message)
            self.headers.append(headers)
            self.changed.notify_all()

    def wait(self, path, enough):
        """All messages of a path, once `enough(messages)` is true."""
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.requests[path]), DEADLINE_S), (
                f"not enough arrived at {path}: {self.requests[path]}"
            )
            return list(self.requests[path])


class Sink(Kept):
    """An OTLP/HTTP backend that answers every request with 200. With certificates it speaks TLS only."""

    def __init__(self, certificates=None):
        super().__init__()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.keep(self.path, REQUESTS[self.path].FromString(body), dict(self.headers))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificates.server)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class GrpcSink(Kept):
    """An OTLP/gRPC backend by grpcio.

    `answer(path, message, context)` decides what is answered to a call, by default an empty response; what it returns is
    sent, what it aborts is not kept. With certificates the backend speaks TLS only, and asks for one of the client's where
    `mutual` says so.
    """

    def __init__(self, certificates=None, mutual=False, answer=None, options=(), port=0):
        super().__init__()
        sink = self

        class Handlers(grpc.GenericRpcHandler):
            def service(self, details):
                path = METHODS.get(details.method)
                if path is None:
                    return None

                def export(body, context):
                    message = REQUESTS[path].FromString(body)
                    response = answer(path, message, context) if answer else b""
                    sink.keep(path, message, dict(context.invocation_metadata()))
                    return response

                return grpc.unary_unary_rpc_method_handler(export)

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *options]
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=options)
        self.server.add_generic_rpc_handlers((Handlers(),))
        if certificates:
            chain, key = certificates.server
            credentials = grpc.ssl_server_credentials(
                [(read(key), read(chain))],
                root_certificates=read(certificates.ca) if mutual else None,
                require_client_auth=mutual,
            )
            self.port = self.server.add_secure_port(f"127.0.0.1:{port}", credentials)
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"127.0.0.1:{self.port}"
        self.server.start()

    def close(self):
        self.server.stop(None).wait()


class Otlpd:
    """A running otlpd: `{sink}` in the configuration becomes the sink's URL, and port 0 of the receiver its real one."""

    def __init__(self, config):
        self.folder = tempfile.TemporaryDirectory(prefix="otlpd-interop-")
        path = pathlib.Path(self.folder.name, "otlpd.yaml")
        path.write_text(config)
        program = os.environ.get("OTLPD", "target/debug/otlpd")
        self.process = subprocess.Popen([program, "--config", str(path)], stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.log("Everything is ready")

    @property
    def url(self):
        """Where it takes OTLP/HTTP."""
        return "http://" + self.address("HTTP")

    @property
    def grpc(self):
        """Where it takes OTLP/gRPC."""
        return self.address("GRPC")

    def address(self, protocol, receiver="otlp"):
        """Where a receiver takes `HTTP` or `GRPC`."""
        return self.log(rf"Starting {protocol} server: receiver {receiver} listens on (\d+\.\d+\.\d+\.\d+:\d+)")

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.lines.append("(end of output)")
            self.changed.notify_all()

    def log(self, pattern):
        """Waits for a log line and gives what the pattern's group caught."""
        found = []

        def seen():
            found[:] = [m for m in (re.search(pattern, line) for line in self.lines) if m]
            return found or "(end of output)" in self.lines

        with self.changed:
            self.changed.wait_for(seen, DEADLINE_S)
        assert found, f"no line like {pattern} in:\n{''.join(self.lines)}"
        return found[0].group(found[0].re.groups)

    def stop(self):
        """SIGTERM; gives the exit code."""
        self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        self.process.stderr.close()
        self.folder.cleanup()
        return code

    def output(self):
        return "".join(self.lines)


def attributes(pairs):
    """Attributes of a protobuf message as a dict of plain values."""
    return {pair.key: value(pair.value) for pair in pairs}


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    inner = getattr(any_value, kind)
    if kind == "array_value":
        return [value(item) for item in inner.values]
    if kind == "kvlist_value":
        return attributes(inner.values)
    return inner


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
