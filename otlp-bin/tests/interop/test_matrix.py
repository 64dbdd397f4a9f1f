"""Every signal over both transports, with TLS and without, in and out: 48 ways through one otlpd, values compared."""
import contextlib
import ssl
import unittest
import urllib.request

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness import METHODS, Certificates, GrpcSink, Otlpd, Sink, read

CONFIG = """
receivers:
  otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}, http: {endpoint: 127.0.0.1:0}}}
  otlp/tls:
    protocols:
      grpc: {endpoint: 127.0.0.1:0, tls: &server {cert_file: SERVER_CHAIN, key_file: SERVER_KEY, client_ca_file: CA}}
      http: {endpoint: 127.0.0.1:0, tls: *server}
exporters:
  otlp_http: {endpoint: HTTP_PLAIN, compression: none}
  otlp_http/tls: {endpoint: HTTP_TLS, tls: {ca_file: CA}}
  otlp_grpc: {endpoint: GRPC_PLAIN, tls: {insecure: true}, compression: none}
  otlp_grpc/tls: {endpoint: GRPC_TLS, tls: {ca_file: CA, cert_file: CLIENT_CHAIN, key_file: CLIENT_KEY}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: &pipeline {receivers: [otlp, otlp/tls], exporters: [otlp_http, otlp_http/tls, otlp_grpc, otlp_grpc/tls]}
    metrics: *pipeline
    logs: *pipeline
"""


def traces(name):
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add()
    spans.resource.attributes.add(key="service.name").value.string_value = "mátrix"
    scope = spans.scope_spans.add()
    scope.scope.name = "scope"
    span = scope.spans.add(name=name, trace_id=bytes(range(16)), span_id=bytes(range(1, 9)), start_time_unix_nano=2**63 + 1)
    span.attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
    span.events.add(name="event", time_unix_nano=7)
    span.status.code = 2
    return request


def metrics(name):
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    point = scope.metrics.add(name=name, unit="ms").histogram.data_points.add(count=3, sum=-0.0, explicit_bounds=[0.5])
    point.bucket_counts.extend([1, 2])
    scope.metrics.add(name="sum").sum.data_points.add(as_int=-(2**63))
    return request


def logs(name):
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(severity_number=9, event_name=name)
    record.body.kvlist_value.values.add(key="list").value.array_value.values.add().double_value = float("inf")
    return request


SIGNALS = {"/v1/traces": traces, "/v1/metrics": metrics, "/v1/logs": logs}
METHOD_OF = {path: method for method, path in METHODS.items()}


class Matrix(unittest.TestCase):
    def test_every_way_in_to_every_way_out(self):
        with contextlib.ExitStack() as stack:
            certificates = stack.enter_context(contextlib.closing(Certificates()))
            sinks = {
                "HTTP_PLAIN": Sink(),
                "HTTP_TLS": Sink(certificates),
                "GRPC_PLAIN": GrpcSink(),
                "GRPC_TLS": GrpcSink(certificates, mutual=True),
            }
            for sink in sinks.values():
                stack.enter_context(contextlib.closing(sink))
            config = CONFIG
            for name, sink in sinks.items():
                config = config.replace(name, getattr(sink, "url", None) or sink.endpoint)
            (server_chain, server_key), (client_chain, client_key) = certificates.server, certificates.client
            for name, path in [
                ("SERVER_CHAIN", server_chain),
                ("SERVER_KEY", server_key),
                ("CLIENT_CHAIN", client_chain),
                ("CLIENT_KEY", client_key),
                ("CA", certificates.ca),
            ]:
                config = config.replace(name, path)
            otlpd = Otlpd(config)
            sent = {path: {} for path in SIGNALS}
            for way, send in self.ways_in(otlpd, certificates, stack).items():
                for path, make in SIGNALS.items():
                    message = make(f"{way} {path}")
                    sent[path][message.SerializeToString(deterministic=True)] = way
                    send(path, message.SerializeToString())
            for out, sink in sinks.items():
                for path, expected in sent.items():
                    found = sink.wait(path, lambda messages: len(messages) >= len(expected))
                    arrived = sorted(message.SerializeToString(deterministic=True) for message in found)
                    self.assertEqual(arrived, sorted(expected), f"{out} {path}")
            self.assertEqual(otlpd.stop(), 0, otlpd.output())

    def ways_in(self, otlpd, certificates, stack):
        """What sends a body to a path, by its name."""
        chain, key = certificates.client
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(chain, key)
        credentials = grpc.ssl_channel_credentials(read(certificates.ca), read(key), read(chain))

        def http(base, tls):
            def send(path, body):
                request = urllib.request.Request(base + path, body, {"Content-Type": "application/x-protobuf"})
                with urllib.request.urlopen(request, timeout=60, context=tls) as answer:
                    self.assertEqual((answer.status, answer.read()), (200, b""))

            return send

        def call(channel):
            stack.enter_context(channel)
            return lambda path, body: self.assertEqual(channel.unary_unary(METHOD_OF[path])(body, timeout=60), b"")

        return {
            "http": http("http://" + otlpd.address("HTTP"), None),
            "https": http("https://" + otlpd.address("HTTP", "otlp/tls"), context),
            "grpc": call(grpc.insecure_channel(otlpd.address("GRPC"))),
            "grpc with TLS": call(grpc.secure_channel(otlpd.address("GRPC", "otlp/tls"), credentials)),
        }

    def test_a_client_without_a_certificate_is_refused_by_mutual_tls(self):
        with contextlib.closing(Certificates()) as certificates, contextlib.closing(Sink()) as sink:
            chain, key = certificates.server
            tls = f"{{cert_file: {chain}, key_file: {key}, client_ca_file: {certificates.ca}}}"
            otlpd = Otlpd(
                f"""
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0", tls: {tls}}}}}}}}}
exporters: {{otlp_http: {{endpoint: "{sink.url}"}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}
"""
            )
            without = grpc.ssl_channel_credentials(read(certificates.ca))
            wrong = contextlib.closing(Certificates())
            with grpc.secure_channel(otlpd.grpc, without) as channel, wrong as other:
                foreign = grpc.ssl_channel_credentials(read(certificates.ca), *map(read, reversed(other.client)))
                with grpc.secure_channel(otlpd.grpc, foreign) as of_another_authority:
                    for refused in (channel, of_another_authority):
                        call = refused.unary_unary(METHOD_OF["/v1/traces"])
                        with self.assertRaises(grpc.RpcError) as caught:
                            call(traces("refused").SerializeToString(), timeout=60)
                        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(otlpd.stop(), 0, otlpd.output())
            self.assertEqual(sink.requests["/v1/traces"], [])


if __name__ == "__main__":
    unittest.main()
