"""grpcio and the Python SDK's gRPC exporters send to otlpd; values are compared at the backend."""
import concurrent.futures
import os
import tempfile
import unittest

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from harness import Otlpd, Sink, attributes

CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}, http: {endpoint: 127.0.0.1:0}}}}
exporters: {otlp_http: {endpoint: SINK}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: &pipeline {receivers: [otlp], exporters: [otlp_http]}
    metrics: *pipeline
"""


UNIX = """
receivers: {otlp: {protocols: PROTOCOLS}}
exporters: {otlp_http: {endpoint: SINK}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}}
"""


def spans(count, first=0, text="x"):
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for index in range(first, first + count):
        scope.spans.add(trace_id=index.to_bytes(16, "big"), span_id=(index + 1).to_bytes(8, "big"), name=text)
    return request


def ids(messages):
    return [s.span_id for m in messages for rs in m.resource_spans for ss in rs.scope_spans for s in ss.spans]


class Grpc(unittest.TestCase):
    def setUp(self):
        self.sink = Sink()
        self.otlpd = Otlpd(CONFIG.replace("SINK", self.sink.url))

    def tearDown(self):
        self.assertEqual(self.otlpd.stop(), 0, self.otlpd.output())
        self.sink.close()

    def test_a_unix_socket(self):
        with tempfile.TemporaryDirectory(prefix="otlpd-unix-") as folder:
            path = f"{folder}/otlp.sock"
            grpc_only = "{grpc: {endpoint: %s, transport: unix}}" % path
            otlpd = Otlpd(UNIX.replace("PROTOCOLS", grpc_only).replace("SINK", self.sink.url))
            self.addCleanup(otlpd.process.kill)
            for target in (f"unix:{path}", f"unix://{path}"):
                with grpc.insecure_channel(target) as channel:
                    stub = trace_service_pb2_grpc.TraceServiceStub(channel)
                    stub.Export(spans(10, text="over a socket"), timeout=30)
            provider = TracerProvider()
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"unix:{path}", insecure=True)))
            with provider.get_tracer("t").start_as_current_span("of the SDK"):
                pass
            self.assertTrue(provider.force_flush())
            provider.shutdown()
            self.sink.wait("/v1/traces", lambda messages: len(ids(messages)) == 21)
            self.assertEqual(otlpd.stop(), 0, otlpd.output())
            self.assertFalse(os.path.exists(path))

    def test_the_sdk(self):
        resource = Resource.create({"service.name": "grpc"})
        for endpoint in (self.otlpd.grpc, self.otlpd.url.removeprefix("http://")):
            provider = TracerProvider(resource=resource)
            exporter = OTLPSpanExporter(endpoint, insecure=True, compression=grpc.Compression.Gzip)
            provider.add_span_processor(BatchSpanProcessor(exporter))
            with provider.get_tracer("t").start_as_current_span("over gRPC") as span:
                span.set_attribute("n", 3)
            self.assertTrue(provider.force_flush())
            provider.shutdown()
        found = self.sink.wait("/v1/traces", lambda messages: len(ids(messages)) == 2)
        for message in found:
            resource_spans = message.resource_spans[0]
            self.assertEqual(attributes(resource_spans.resource.attributes)["service.name"], "grpc")
            self.assertEqual(attributes(resource_spans.scope_spans[0].spans[0].attributes), {"n": 3})
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(self.otlpd.grpc, insecure=True), export_interval_millis=3_600_000)
        provider = MeterProvider(metric_readers=[reader], resource=resource)
        provider.get_meter("m").create_counter("counter").add(9)
        self.assertTrue(provider.force_flush())
        provider.shutdown()
        # Stopping the provider sends once more.
        metrics = self.sink.wait("/v1/metrics", lambda messages: messages)
        metric = metrics[0].resource_metrics[0].scope_metrics[0].metrics[0]
        self.assertEqual((metric.name, metric.sum.data_points[0].as_int), ("counter", 9))

    def test_a_hundred_calls_at_once_and_large_messages(self):
        options = [("grpc.max_send_message_length", 64 << 20)]
        with grpc.insecure_channel(self.otlpd.grpc, options=options) as channel:
            stub = trace_service_pb2_grpc.TraceServiceStub(channel)
            with concurrent.futures.ThreadPoolExecutor(100) as pool:
                list(pool.map(lambda n: stub.Export(spans(5, n * 5), timeout=60), range(100)))
            stub.Export(spans(1, 1000, "y" * (4 << 20)), timeout=60)
            stub.Export(spans(1, 1001, "z" * (4 << 20)), timeout=60, compression=grpc.Compression.Gzip)
            found = ids(self.sink.wait("/v1/traces", lambda messages: len(ids(messages)) >= 502))
            self.assertEqual((len(found), len(set(found))), (502, 502), "each span once")

    def test_errors_have_the_codes_of_the_specification(self):
        with grpc.insecure_channel(self.otlpd.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
            stub = trace_service_pb2_grpc.TraceServiceStub(channel)
            raw = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            nowhere = channel.unary_unary("/no.Service/Export")
            logs = logs_service_pb2_grpc.LogsServiceStub(channel)
            for code, call in [
                (grpc.StatusCode.INVALID_ARGUMENT, lambda: raw(b"\xff\xff\xff", timeout=60)),
                (grpc.StatusCode.UNIMPLEMENTED, lambda: nowhere(b"", timeout=60)),
                (grpc.StatusCode.UNIMPLEMENTED, lambda: logs.Export(logs_service_pb2.ExportLogsServiceRequest(), timeout=60)),
                (grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: stub.Export(spans(1, 0, "x" * (65 << 20)), timeout=60)),
            ]:
                with self.assertRaises(grpc.RpcError) as caught:
                    call()
                self.assertEqual(caught.exception.code(), code, caught.exception.details())
            self.assertEqual(stub.Export(trace_service_pb2.ExportTraceServiceRequest(), timeout=60).partial_success.rejected_spans, 0)
            for _ in range(50):
                stub.Export.future(spans(1)).cancel()
            stub.Export(spans(1, 77), timeout=60)
            self.sink.wait("/v1/traces", lambda messages: (78).to_bytes(8, "big") in ids(messages))


if __name__ == "__main__":
    unittest.main()
