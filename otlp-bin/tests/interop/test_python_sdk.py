"""The OpenTelemetry Python SDK sends traces, metrics and logs through otlpd; values are compared at the backend."""
import unittest

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from harness import Otlpd, Sink, attributes

CONFIG = """
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:0
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 512}
  batch: {timeout: 50ms}
  attributes:
    actions:
      - {key: added, value: 7, action: insert}
      - {key: secret, action: delete}
  resource:
    attributes:
      - {key: deployment.environment.name, value: interop, action: upsert}
exporters:
  otlp_http:
    endpoint: SINK
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: &pipeline
      receivers: [otlp]
      processors: [memory_limiter, attributes, resource, batch]
      exporters: [otlp_http]
    metrics: *pipeline
    logs: *pipeline
"""

RESOURCE = Resource.create({"service.name": "interop", "ünïcode": "значение", "numbers": [1, 2, 3]})
COMPRESSIONS = [Compression.NoCompression, Compression.Gzip, Compression.Deflate]


class PythonSdk(unittest.TestCase):
    def setUp(self):
        self.sink = Sink()
        self.otlpd = Otlpd(CONFIG.replace("SINK", self.sink.url))

    def tearDown(self):
        self.assertEqual(self.otlpd.stop(), 0, self.otlpd.output())
        self.sink.close()

    def check_resource(self, resource):
        found = attributes(resource.attributes)
        self.assertEqual(found["service.name"], "interop")
        self.assertEqual(found["ünïcode"], "значение")
        self.assertEqual(found["numbers"], [1, 2, 3])
        self.assertEqual(found["telemetry.sdk.language"], "python")
        self.assertEqual(found["deployment.environment.name"], "interop")

    def test_traces(self):
        sent = {}
        for compression in COMPRESSIONS:
            provider = TracerProvider(resource=RESOURCE)
            exporter = OTLPSpanExporter(self.otlpd.url + "/v1/traces", compression=compression)
            provider.add_span_processor(BatchSpanProcessor(exporter))
            tracer = provider.get_tracer("interop.scope", "1.2", schema_url="https://example.com/schema")
            link = Link(SpanContext(1 << 100, 77, True, TraceFlags(1)), {"why": "because"})
            for index in range(100):
                with tracer.start_as_current_span(f"parent {index} ✓", kind=SpanKind.SERVER, links=[link]) as parent:
                    parent.set_attribute("secret", "s3cret")
                    parent.set_attribute("flag", True)
                    parent.set_attribute("ratio", 0.1)
                    parent.add_event("happened", {"nested": ["a", "b"]}, timestamp=1_234_567_890_123_456_789)
                    with tracer.start_as_current_span("child") as child:
                        child.set_status(Status(StatusCode.ERROR, "broken"))
                        for span in (parent, child):
                            context = span.get_span_context()
                            sent[context.span_id.to_bytes(8, "big")] = (context.trace_id.to_bytes(16, "big"), span)
            self.assertTrue(provider.force_flush())
            provider.shutdown()
        spans_of = lambda messages: [
            (rs, ss, span) for m in messages for rs in m.resource_spans for ss in rs.scope_spans for span in ss.spans
        ]
        found = spans_of(self.sink.wait("/v1/traces", lambda messages: len(spans_of(messages)) >= len(sent)))
        self.assertEqual(len(found), len(sent), "each span once")
        self.assertEqual({span.span_id for _, _, span in found}, set(sent))
        for resource_spans, scope_spans, span in found:
            trace_id, original = sent[span.span_id]
            self.check_resource(resource_spans.resource)
            self.assertEqual(scope_spans.scope.name, "interop.scope")
            self.assertEqual(scope_spans.scope.version, "1.2")
            self.assertEqual(scope_spans.schema_url, "https://example.com/schema")
            self.assertEqual(span.trace_id, trace_id)
            self.assertEqual(span.name, original.name)
            self.assertEqual(span.start_time_unix_nano, original.start_time)
            self.assertEqual(span.end_time_unix_nano, original.end_time)
            found_attributes = attributes(span.attributes)
            self.assertEqual(found_attributes.pop("added"), 7)
            if span.name == "child":
                self.assertEqual(found_attributes, {})
                self.assertEqual((span.status.code, span.status.message), (2, "broken"))
                self.assertEqual(len(span.parent_span_id), 8)
            else:
                self.assertEqual(found_attributes, {"flag": True, "ratio": 0.1})
                self.assertEqual(span.parent_span_id, b"")
                self.assertEqual(span.kind, 2)
                (event,) = span.events
                self.assertEqual((event.name, event.time_unix_nano), ("happened", 1_234_567_890_123_456_789))
                self.assertEqual(attributes(event.attributes), {"nested": ["a", "b"]})
                (found_link,) = span.links
                self.assertEqual(found_link.trace_id, (1 << 100).to_bytes(16, "big"))
                self.assertEqual(attributes(found_link.attributes), {"why": "because"})

    def test_metrics(self):
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(self.otlpd.url + "/v1/metrics", compression=Compression.Gzip), export_interval_millis=3_600_000
        )
        views = [View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())]
        provider = MeterProvider(metric_readers=[reader], resource=RESOURCE, views=views)
        meter = provider.get_meter("interop.scope")
        meter.create_counter("counter", "1", "counts").add(5, {"a": "b", "secret": "s3cret"})
        meter.create_up_down_counter("updown").add(-2.5)
        histogram = meter.create_histogram("histogram", "ms")
        exponential = meter.create_histogram("exponential")
        for recorded in (0.5, 7, 7, 4_000_000):
            histogram.record(recorded, {"h": 1})
            exponential.record(recorded)
        meter.create_gauge("gauge").set(-(2**53) - 1)
        self.assertTrue(provider.force_flush())
        metrics_of = lambda messages: {
            metric.name: (rm, metric)
            for m in messages
            for rm in m.resource_metrics
            for sm in rm.scope_metrics
            for metric in sm.metrics
        }
        found = metrics_of(self.sink.wait("/v1/metrics", lambda messages: len(metrics_of(messages)) >= 5))
        provider.shutdown()
        for resource_metrics, metric in found.values():
            self.check_resource(resource_metrics.resource)
            data = getattr(metric, metric.WhichOneof("data"))
            for point in data.data_points:
                self.assertEqual(attributes(point.attributes)["added"], 7)
                self.assertNotIn("secret", attributes(point.attributes))
        counter = found["counter"][1]
        self.assertEqual((counter.unit, counter.description), ("1", "counts"))
        self.assertEqual((counter.sum.is_monotonic, counter.sum.aggregation_temporality), (True, 2))
        self.assertEqual(counter.sum.data_points[0].as_int, 5)
        self.assertEqual(found["updown"][1].sum.data_points[0].as_double, -2.5)
        self.assertEqual(found["gauge"][1].gauge.data_points[0].as_int, -(2**53) - 1)
        point = found["histogram"][1].histogram.data_points[0]
        self.assertEqual((point.count, point.sum, point.min, point.max), (4, 4_000_014.5, 0.5, 4_000_000))
        self.assertEqual(sum(point.bucket_counts), 4)
        self.assertEqual(len(point.bucket_counts), len(point.explicit_bounds) + 1)
        point = found["exponential"][1].exponential_histogram.data_points[0]
        self.assertEqual((point.count, point.sum), (4, 4_000_014.5))
        self.assertEqual(sum(point.positive.bucket_counts), 4)

    def test_logs(self):
        provider = LoggerProvider(resource=RESOURCE)
        provider.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(self.otlpd.url + "/v1/logs", compression=Compression.Gzip))
        )
        logger = provider.get_logger("interop.logs")
        for index in range(50):
            logger.emit(
                timestamp=1_000_000_000 + index,
                severity_number=SeverityNumber.WARN2,
                severity_text="warn",
                body={"text": f"line {index}", "list": [1, 2.5, True, None]},
                attributes={"index": index, "secret": "s3cret"},
                event_name="interop.event",
            )
        self.assertTrue(provider.force_flush())
        records_of = lambda messages: [
            (rl, record) for m in messages for rl in m.resource_logs for sl in rl.scope_logs for record in sl.log_records
        ]
        found = records_of(self.sink.wait("/v1/logs", lambda messages: len(records_of(messages)) >= 50))
        provider.shutdown()
        self.assertEqual(sorted(record.time_unix_nano for _, record in found), [1_000_000_000 + i for i in range(50)])
        for resource_logs, record in found:
            index = record.time_unix_nano - 1_000_000_000
            self.check_resource(resource_logs.resource)
            self.assertEqual((record.severity_number, record.severity_text), (14, "warn"))
            self.assertEqual(record.event_name, "interop.event")
            self.assertEqual(attributes(record.attributes), {"index": index, "added": 7})
            body = attributes(record.body.kvlist_value.values)
            self.assertEqual(body, {"text": f"line {index}", "list": [1, 2.5, True, None]})


if __name__ == "__main__":
    unittest.main()
