"""The bridge behind the OpenTelemetry SDK sends to sinks that nobody here wrote; values are compared.

The sinks are those of the client's tests; what is sent is the example `sdk_all_signals`.
"""
import os
import unittest

from harness import GrpcSink, Sink, attributes
from test_client import CERTIFICATE, CERTIFICATES, JsonSink, by_name, firsts, run

PROGRAM = os.environ.get("OTLP_BRIDGE_EXAMPLE", "target/debug/examples/sdk_all_signals")


class Bridge(unittest.TestCase):
    def check_scope(self, message):
        scope = message.scope
        self.assertEqual((scope.name, scope.version, attributes(scope.attributes)), ("example", "1.0", {"part": "bridge"}))
        self.assertEqual(message.schema_url, "https://opentelemetry.io/schemas/1.40.0")

    def check(self, requests):
        """Compares everything the example says, in protobuf."""
        resources = requests["/v1/traces"].resource_spans
        self.assertEqual(len(resources), 1)
        resource = attributes(resources[0].resource.attributes)
        self.assertEqual((resource["service.name"], resource["team"]), ("everything", "a"))
        self.check_scope(resources[0].scope_spans[0])
        spans = {span.name: span for span in resources[0].scope_spans[0].spans}
        parent, child = spans["parent"], spans["child"]
        self.assertEqual((child.trace_id, child.parent_span_id), (parent.trace_id, parent.span_id))
        self.assertEqual((len(parent.trace_id), len(parent.span_id), parent.parent_span_id), (16, 8, b""))
        self.assertEqual((parent.kind, child.kind), (2, 1))
        self.assertEqual(parent.start_time_unix_nano, 1_700_000_000_000_000_000)
        self.assertEqual(parent.end_time_unix_nano, 1_700_000_002_000_000_000)
        self.assertEqual([value.int_value for pair in child.attributes if pair.key == "list"
                          for value in pair.value.array_value.values], [1, -2])
        plain = attributes(pair for pair in child.attributes if pair.key != "list")
        self.assertEqual(plain, {"text": "grün", "flag": True, "whole": -42, "half": 0.5})
        self.assertEqual((child.status.code, child.status.message, child.flags), (2, "it failed", 0x101))
        event, link = child.events[0], child.links[0]
        self.assertEqual((event.name, attributes(event.attributes)), ("happened", {"n": 1}))
        self.assertEqual(event.time_unix_nano, 1_700_000_001_000_000_000)
        self.assertEqual((int.from_bytes(link.trace_id), int.from_bytes(link.span_id)), (7, 9))
        self.assertEqual((link.trace_state, link.flags, attributes(link.attributes)), ("vendor=1", 0x301, {"l": True}))

        logs = requests["/v1/logs"].resource_logs[0].scope_logs[0]
        self.check_scope(logs)
        log = logs.log_records[0]
        self.assertEqual((log.severity_number, log.severity_text, log.event_name), (18, "ERROR2", "failed"))
        self.assertEqual((log.trace_id, log.span_id, log.flags), (child.trace_id, child.span_id, 1))
        self.assertEqual((log.time_unix_nano, attributes(log.attributes)), (1_700_000_003_000_000_000, {"code": 7}))
        inner = log.body.kvlist_value.values[0]
        first, second = inner.value.array_value.values
        self.assertEqual((inner.key, first.int_value, second.bytes_value), ("inner", 1, b"\x00\xff"))

        scope_metrics = requests["/v1/metrics"].resource_metrics[0].scope_metrics[0]
        self.check_scope(scope_metrics)
        metrics = {metric.name: metric for metric in scope_metrics.metrics}
        gauge, point = metrics["gauge"], metrics["gauge"].gauge.data_points[0]
        self.assertEqual((point.as_double, attributes(point.attributes)), (0.25, {"cpu": "0"}))
        self.assertEqual((gauge.unit, gauge.description), ("1", "a gauge"))
        total = metrics["sum"].sum
        self.assertEqual((total.aggregation_temporality, total.is_monotonic, total.data_points[0].as_int), (1, True, 3))
        self.assertGreater(total.data_points[0].time_unix_nano, total.data_points[0].start_time_unix_nano)
        histogram = metrics["histogram"].histogram
        point = histogram.data_points[0]
        self.assertEqual((list(point.bucket_counts), list(point.explicit_bounds)), ([1, 2, 1], [1, 10]))
        self.assertEqual((point.count, point.sum, point.min, point.max), (4, 60.5, 0.5, 50))
        self.assertEqual(histogram.aggregation_temporality, 1)

    def send(self, url, **more):
        said = run(
            PROGRAM,
            EXPORTER_OTLP_ENDPOINT=url,
            EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
            RESOURCE_ATTRIBUTES="team=a",
            **more,
        )
        self.assertEqual(said, "3 items delivered")

    def test_http(self):
        for compression in ("none", "gzip"):
            sink = Sink()
            self.send(sink.url, EXPORTER_OTLP_COMPRESSION=compression)
            self.check(firsts(sink))
            sink.close()

    def test_https(self):
        sink = Sink(CERTIFICATES)
        self.send(by_name(sink), EXPORTER_OTLP_CERTIFICATE=CERTIFICATE)
        self.check(firsts(sink))
        sink.close()

    def test_json(self):
        sink = JsonSink()
        self.send(sink.url, EXPORTER_OTLP_PROTOCOL="http/json")
        scope_spans = sink.requests["/v1/traces"]["resourceSpans"][0]["scopeSpans"][0]
        child = next(span for span in scope_spans["spans"] if span["name"] == "child")
        self.assertEqual(scope_spans["schemaUrl"], "https://opentelemetry.io/schemas/1.40.0")
        self.assertEqual((child["links"][0]["traceId"], child["flags"]), ("7".zfill(32), 0x101))
        log = sink.requests["/v1/logs"]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        values = log["body"]["kvlistValue"]["values"][0]["value"]["arrayValue"]["values"]
        self.assertEqual((values, log["spanId"]), ([{"intValue": "1"}, {"bytesValue": "AP8="}], child["spanId"]))
        metrics = sink.requests["/v1/metrics"]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        counts = [metric["histogram"]["dataPoints"][0]["bucketCounts"] for metric in metrics if metric["name"] == "histogram"]
        self.assertEqual(counts, [["1", "2", "1"]])
        sink.close()

    def test_grpc(self):
        for tls in (False, True):
            sink = GrpcSink(CERTIFICATES if tls else None)
            url = by_name(sink) if tls else f"http://{sink.endpoint}"
            more = {"EXPORTER_OTLP_CERTIFICATE": CERTIFICATE} if tls else {}
            self.send(url, EXPORTER_OTLP_PROTOCOL="grpc", **more)
            self.check(firsts(sink))
            sink.close()


if __name__ == "__main__":
    unittest.main()
