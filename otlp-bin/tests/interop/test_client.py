"""The client of otlp-export sends everything it can record to sinks that nobody here wrote; values are compared.

The sinks are Python's http.server and a grpcio server, each with and without TLS; what is sent is the example `all_signals`.
"""
import http.server
import json
import os
import pathlib
import subprocess
import threading
import types
import unittest


from harness import DEADLINE_S, REQUESTS, GrpcSink, Sink, attributes

PROGRAM = os.environ.get("OTLP_CLIENT_EXAMPLE", "target/debug/examples/all_signals")
TESTDATA = pathlib.Path("otlp-export/src/otlp_http/testdata")
CERTIFICATE = TESTDATA / "cert.pem"
CERTIFICATES = types.SimpleNamespace(server=(CERTIFICATE, TESTDATA / "key.pem"))


def run(program, **environment):
    """Runs an example with these variables alone; gives what it printed, which is how much was delivered."""
    variables = {f"OTEL_{name}": str(value) for name, value in environment.items()}
    done = subprocess.run([program], env=variables, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class JsonSink:
    """Keeps what arrives as JSON, by path."""

    def __init__(self):
        self.requests = {}
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                sink.requests[self.path] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def firsts(sink):
    """The first message of each signal, by path."""
    return {path: sink.wait(path, len)[0] for path in REQUESTS}


def by_name(sink):
    """Where a sink is, for a client that compares the name in a certificate."""
    url = getattr(sink, "url", None) or f"https://{sink.endpoint}"
    return url.replace("127.0.0.1", "localhost")


class Client(unittest.TestCase):
    def check(self, requests):
        """Compares everything the example says, in protobuf."""
        resources = requests["/v1/traces"].resource_spans
        self.assertEqual(len(resources), 1)
        resource = attributes(resources[0].resource.attributes)
        self.assertEqual((resource["service.name"], resource["team"]), ("everything", "a b"))
        scope = resources[0].scope_spans[0]
        self.assertEqual((scope.scope.name, scope.scope.version), ("example", "1.0"))
        spans = {span.name: span for span in scope.spans}
        parent, child = spans["parent"], spans["child"]
        self.assertEqual((child.trace_id, child.parent_span_id), (parent.trace_id, parent.span_id))
        self.assertEqual((len(parent.trace_id), len(parent.span_id), parent.parent_span_id), (16, 8, b""))
        self.assertEqual((parent.kind, child.kind), (2, 1))
        self.assertEqual(parent.start_time_unix_nano, 1_700_000_000_000_000_000)
        self.assertEqual(parent.end_time_unix_nano, 1_700_000_002_000_000_000)
        self.assertGreaterEqual(child.end_time_unix_nano, child.start_time_unix_nano)
        self.assertEqual(
            attributes(child.attributes),
            {"text": "grün", "flag": True, "bytes": b"\x00\xff", "whole": -42, "half": 0.5},
        )
        self.assertEqual((child.status.code, child.status.message, child.flags & 1), (2, "it failed", 1))
        event = child.events[0]
        self.assertEqual((event.name, attributes(event.attributes)), ("happened", {"n": 1}))
        self.assertEqual(event.time_unix_nano, 1_700_000_001_000_000_000)

        log = requests["/v1/logs"].resource_logs[0].scope_logs[0].log_records[0]
        self.assertEqual((log.body.string_value, log.severity_number, log.severity_text), ("a record", 17, "ERROR"))
        self.assertEqual((log.trace_id, log.span_id, attributes(log.attributes)), (child.trace_id, child.span_id, {"code": 7}))

        metrics = {metric.name: metric for metric in requests["/v1/metrics"].resource_metrics[0].scope_metrics[0].metrics}
        point = metrics["gauge"].gauge.data_points[0]
        self.assertEqual((point.as_double, attributes(point.attributes), metrics["gauge"].unit), (0.25, {"cpu": "0"}, "1"))
        self.assertEqual(point.time_unix_nano, 1_700_000_003_000_000_000)
        total = metrics["sum"].sum
        self.assertEqual((total.aggregation_temporality, total.is_monotonic, total.data_points[0].as_int), (2, True, 3))
        histogram = metrics["histogram"].histogram
        point = histogram.data_points[0]
        self.assertEqual((list(point.bucket_counts), list(point.explicit_bounds)), ([1, 2, 1], [1, 10]))
        self.assertEqual((point.count, point.sum, point.min, point.max), (4, 60.5, 0.5, 50))
        self.assertEqual(histogram.aggregation_temporality, 1)

    def send(self, url, **more):
        said = run(PROGRAM, EXPORTER_OTLP_ENDPOINT=url, RESOURCE_ATTRIBUTES="team=a%20b,service.name=not", **more)
        self.assertEqual(said, "6 items delivered")

    def test_http(self):
        for compression in ("none", "gzip"):
            sink = Sink()
            self.send(sink.url, EXPORTER_OTLP_COMPRESSION=compression, EXPORTER_OTLP_HEADERS="api-key=k%3D1")
            self.check(firsts(sink))
            self.assertTrue(all(headers["api-key"] == "k=1" for headers in sink.headers))
            sink.close()

    def test_https(self):
        sink = Sink(CERTIFICATES)
        self.send(by_name(sink), EXPORTER_OTLP_CERTIFICATE=CERTIFICATE)
        self.check(firsts(sink))
        sink.close()

    def test_json(self):
        sink = JsonSink()
        self.send(sink.url, EXPORTER_OTLP_PROTOCOL="http/json")
        spans = sink.requests["/v1/traces"]["resourceSpans"][0]["scopeSpans"][0]["spans"]
        child = next(span for span in spans if span["name"] == "child")
        self.assertEqual(child["events"][0]["timeUnixNano"], "1700000001000000000")
        self.assertEqual((len(child["traceId"]), len(child["spanId"])), (32, 16))
        values = {pair["key"]: pair["value"] for pair in child["attributes"]}
        self.assertEqual(values["whole"], {"intValue": "-42"})
        self.assertEqual(values["bytes"], {"bytesValue": "AP8="})
        log = sink.requests["/v1/logs"]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        self.assertEqual((log["body"], log["spanId"]), ({"stringValue": "a record"}, child["spanId"]))
        metrics = sink.requests["/v1/metrics"]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        self.assertEqual([metric["name"] for metric in metrics], ["gauge", "sum", "histogram"])
        self.assertEqual(metrics[2]["histogram"]["dataPoints"][0]["bucketCounts"], ["1", "2", "1"])
        sink.close()

    def test_grpc(self):
        for tls in (False, True):
            sink = GrpcSink(CERTIFICATES if tls else None)
            url = by_name(sink) if tls else f"http://{sink.endpoint}"
            more = {"EXPORTER_OTLP_CERTIFICATE": CERTIFICATE} if tls else {}
            self.send(url, EXPORTER_OTLP_PROTOCOL="grpc", EXPORTER_OTLP_HEADERS="api-key=k", **more)
            self.check(firsts(sink))
            self.assertTrue(all(headers["api-key"] == "k" for headers in sink.headers))
            sink.close()


if __name__ == "__main__":
    unittest.main()
