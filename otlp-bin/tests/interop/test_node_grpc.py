"""grpc-js, bare and under the Node SDK's exporters, sends to otlpd with TLS and without; values are compared at the backend."""
import base64
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness import Certificates, Otlpd, Sink, attributes

CONFIG = """
receivers:
  otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}}}
  otlp/tls: {protocols: {grpc: {endpoint: 127.0.0.1:0, tls: {cert_file: SERVER_CHAIN, key_file: SERVER_KEY, client_ca_file: CA}}}}
exporters: {otlp_http: {endpoint: SINK}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: &pipeline {receivers: [otlp, otlp/tls], exporters: [otlp_http]}
    metrics: *pipeline
    logs: *pipeline
"""

MODULES = pathlib.Path(os.environ.get("OTLPD_NODE_MODULES", ".tools/interop/node"))


def body(index, text="x"):
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.add(trace_id=b"t" * 16, span_id=(index + 1).to_bytes(8, "big"), name=text)
    return base64.b64encode(request.SerializeToString()).decode()


@unittest.skipUnless((MODULES / "node_modules").is_dir(), "the Node SDK is not installed")
class NodeGrpc(unittest.TestCase):
    def check(self, receiver, *tls):
        with contextlib.closing(Certificates()) as certificates, contextlib.closing(Sink()) as sink:
            chain, key = certificates.server
            config = CONFIG.replace("SINK", sink.url).replace("SERVER_CHAIN", chain).replace("SERVER_KEY", key)
            otlpd = Otlpd(config.replace("CA}", certificates.ca + "}"))
            calls = {
                "method": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                "bodies": [body(index) for index in range(100)] + [body(index, "y" * (4 << 20)) for index in range(100, 103)],
                "cancelled": [body(index, "cancelled") for index in range(200, 250)],
                "impossible": [body(300, "impossible")],
            }
            paths = [certificates.ca, *certificates.client] if tls else []
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(calls, file)
                file.flush()
                # By name: Node warns about an address as the name that TLS is asked for.
                target = otlpd.address("GRPC", receiver).replace("127.0.0.1", "localhost")
                command = ["node", "send_grpc.mjs", target, file.name, *paths]
                sent = subprocess.run(command, cwd=MODULES, capture_output=True, text=True, timeout=120)
            self.assertEqual((sent.returncode, sent.stderr), (0, ""), sent.stdout)
            outcomes = json.loads(sent.stdout)
            self.assertEqual(outcomes["bodies"], [0] * 103, "an empty response each")
            # A call that is cancelled may have been answered before.
            self.assertLessEqual(set(outcomes["cancelled"]), {"CANCELLED", 0})
            self.assertEqual(outcomes["impossible"], ["DEADLINE_EXCEEDED"])

            spans_of = lambda messages: [
                (rs, span) for m in messages for rs in m.resource_spans for ss in rs.scope_spans for span in ss.spans
            ]
            wanted = {(index + 1).to_bytes(8, "big") for index in range(103)}
            arrived = lambda messages: [span.span_id for _, span in spans_of(messages) if span.span_id in wanted]
            found = sink.wait("/v1/traces", lambda messages: len(arrived(messages)) >= 103)
            self.assertEqual((len(arrived(found)), set(arrived(found))), (103, wanted), "each once")
            (of_the_sdk,) = [(rs, span) for rs, span in spans_of(found) if span.name == "by grpc-js"]
            self.assertEqual(attributes(of_the_sdk[0].resource.attributes)["service.name"], "node over gRPC")
            self.assertEqual(of_the_sdk[1].start_time_unix_nano, 1_700_000_000_123_456_789)
            self.assertEqual(attributes(of_the_sdk[1].attributes), {"big": 2**53 - 1})
            metrics = sink.wait("/v1/metrics", lambda messages: messages)
            metric = metrics[0].resource_metrics[0].scope_metrics[0].metrics[0]
            self.assertEqual((metric.name, metric.sum.data_points[0].as_int), ("counter", 41))
            (logs,) = sink.wait("/v1/logs", lambda messages: messages)
            (record,) = logs.resource_logs[0].scope_logs[0].log_records
            self.assertEqual((record.severity_number, record.body.string_value), (17, "line"))
            self.assertEqual(otlpd.stop(), 0, otlpd.output())

    def test_in_plain_text(self):
        self.check("otlp")

    def test_with_mutual_tls(self):
        self.check("otlp/tls", True)


if __name__ == "__main__":
    unittest.main()
