"""The OpenTelemetry Node SDK sends OTLP/JSON through otlpd; values are compared at the backend, as protobuf."""
import os
import pathlib
import subprocess
import unittest

from harness import Otlpd, Sink, attributes

CONFIG = """
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:0}}}}
exporters: {otlp_http: {endpoint: SINK}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: &pipeline {receivers: [otlp], exporters: [otlp_http]}
    metrics: *pipeline
    logs: *pipeline
"""

MODULES = pathlib.Path(os.environ.get("OTLPD_NODE_MODULES", ".tools/interop/node"))


@unittest.skipUnless((MODULES / "node_modules").is_dir(), "the Node SDK is not installed")
class NodeSdk(unittest.TestCase):
    def test_values_survive_json(self):
        sink = Sink()
        otlpd = Otlpd(CONFIG.replace("SINK", sink.url))
        sent = subprocess.run(["node", "send.mjs", otlpd.url], cwd=MODULES, capture_output=True, text=True, timeout=60)
        self.assertEqual((sent.returncode, sent.stderr), (0, ""), sent.stdout)

        spans_of = lambda messages: {
            span.name: (rs, ss, span) for m in messages for rs in m.resource_spans for ss in rs.scope_spans for span in ss.spans
        }
        found = spans_of(sink.wait("/v1/traces", lambda messages: len(spans_of(messages)) == 2))
        resource_spans, scope_spans, parent = found['parent "quoted" \\ \x00 😀']
        resource = attributes(resource_spans.resource.attributes)
        self.assertEqual((resource["service.name"], resource["ünïcode"]), ("node", "значение 😀"))
        self.assertEqual(resource["list"], [1, 2.5, -3])
        self.assertEqual((scope_spans.scope.name, scope_spans.scope.version), ("node.scope", "9.9"))
        self.assertEqual(parent.kind, 4)
        self.assertEqual(parent.start_time_unix_nano, 1_700_000_000_123_456_789)
        self.assertEqual(parent.end_time_unix_nano, 1_700_000_002_999_999_999)
        self.assertEqual((len(parent.trace_id), len(parent.span_id), parent.parent_span_id), (16, 8, b""))
        self.assertEqual(
            attributes(parent.attributes),
            {"big": 2**53 - 1, "negative": -7, "ratio": 0.1, "tiny": 5e-324, "flag": False, "empty": "", "strings": ["a", "b"]},
        )
        (event,) = parent.events
        self.assertEqual((event.name, event.time_unix_nano, attributes(event.attributes)), ("event", 1_700_000_001_000_000_001, {"at": 1}))
        child = found["child"][2]
        self.assertEqual((child.parent_span_id, child.trace_id), (parent.span_id, parent.trace_id))
        self.assertEqual((child.status.code, child.status.message), (2, "broken"))

        metrics_of = lambda messages: {
            metric.name: metric for m in messages for rm in m.resource_metrics for sm in rm.scope_metrics for metric in sm.metrics
        }
        metrics = metrics_of(sink.wait("/v1/metrics", lambda messages: len(metrics_of(messages)) == 3))
        counter = metrics["counter"].sum
        self.assertEqual((counter.is_monotonic, counter.aggregation_temporality), (True, 2))
        self.assertEqual((counter.data_points[0].as_int, attributes(counter.data_points[0].attributes)), (41, {"a": "b"}))
        self.assertEqual(metrics["gauge"].gauge.data_points[0].as_double, -0.25)
        point = metrics["histogram"].histogram.data_points[0]
        self.assertEqual((point.count, point.sum, point.min, point.max), (3, 7003.5, 0, 7000.5))
        self.assertTrue(point.HasField("min"), "a minimum of zero is present")
        self.assertEqual(sum(point.bucket_counts), 3)

        (logs,) = sink.wait("/v1/logs", lambda messages: len(messages) == 1)
        (record,) = logs.resource_logs[0].scope_logs[0].log_records
        self.assertEqual(record.time_unix_nano, 1_700_000_003_000_000_005)
        self.assertEqual((record.severity_number, record.severity_text), (17, "error"))
        body = attributes(record.body.kvlist_value.values)
        self.assertEqual(body, {"text": "line\nbreak", "nested": {"list": [True, 1, "x"]}})
        self.assertEqual(attributes(record.attributes), {"bytes": b"\x00\xff\x10"})

        self.assertEqual(otlpd.stop(), 0, otlpd.output())
        sink.close()


if __name__ == "__main__":
    unittest.main()
