"""Runs otlpd and a sink that keeps what arrives, on loopback, for the interoperability tests."""
import collections
import gzip
import http.server
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import urllib.request

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
DEADLINE_S = 60


class Sink:
    """A backend: answers every request with 200 and keeps the decoded messages by path."""

    def __init__(self):
        self.requests = collections.defaultdict(list)
        self.headers = []
        self.changed = threading.Condition()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                message = REQUESTS[self.path].FromString(body)
                with sink.changed:
                    sink.requests[self.path].append(message)
                    sink.headers.append(dict(self.headers))
                    sink.changed.notify_all()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, path, enough):
        """All messages of a path, once `enough(messages)` is true."""
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.requests[path]), DEADLINE_S), (
                f"not enough arrived at {path}: {self.requests[path]}"
            )
            return list(self.requests[path])

    def close(self):
        self.server.shutdown()
        self.server.server_close()


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
        return "http://" + self.log(r"Starting HTTP server.*?(\d+\.\d+\.\d+\.\d+:\d+)")

    @property
    def grpc(self):
        """Where it takes OTLP/gRPC."""
        return self.log(r"Starting GRPC server.*?(\d+\.\d+\.\d+\.\d+:\d+)")

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
