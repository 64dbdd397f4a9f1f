"""The exporter otlp_grpc against a grpcio server that misbehaves on purpose: what is sent again, what is not, and the books."""
import collections
import contextlib
import threading
import time
import unittest

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from harness import DEADLINE_S, GrpcSink, Otlpd, scrape, wait_until

CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}}}}
exporters:
  otlp_grpc:
    endpoint: SINK
    tls: {insecure: true}
    timeout: TIMEOUT
    retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}
service:
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}
"""

# OTLP, Failures: the table of codes.
RETRYABLE = "CANCELLED DEADLINE_EXCEEDED ABORTED OUT_OF_RANGE UNAVAILABLE DATA_LOSS".split()
PERMANENT = (
    "UNKNOWN INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED UNAUTHENTICATED FAILED_PRECONDITION UNIMPLEMENTED"
    " INTERNAL RESOURCE_EXHAUSTED"
).split()
ANSWERED = trace_service_pb2.ExportTraceServiceResponse


def span(name):
    request = trace_service_pb2.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name=name, trace_id=b"t" * 16, span_id=b"s" * 8)
    return request


def name_of(message):
    return message.resource_spans[0].scope_spans[0].spans[0].name


class Backend:
    """A grpcio server that does, to a span's first attempt, what its name says, and counts the attempts."""

    def __init__(self, misbehave, **settings):
        self.attempts = collections.defaultdict(list)
        self.lock = threading.Lock()
        self.misbehave = misbehave
        self.sink = GrpcSink(answer=self._answer, **settings)

    def _answer(self, _path, message, context):
        name = name_of(message)
        with self.lock:
            self.attempts[name].append(time.monotonic())
            first = len(self.attempts[name]) == 1
        return self.misbehave(name, first, context)

    def count(self, name):
        with self.lock:
            return len(self.attempts[name])


class GrpcBackend(unittest.TestCase):
    @contextlib.contextmanager
    def running(self, misbehave, timeout="5s", **settings):
        backend = Backend(misbehave, **settings)
        otlpd = Otlpd(CONFIG.replace("SINK", backend.sink.endpoint).replace("TIMEOUT", timeout))
        try:
            with grpc.insecure_channel(otlpd.grpc) as channel:
                yield backend, otlpd, trace_service_pb2_grpc.TraceServiceStub(channel)
            otlpd.stop()
        finally:
            backend.sink.close()

    def metric(self, otlpd, name):
        """A metric of the exporter, added up over its labels."""
        lines = scrape("http://" + otlpd.log(r"(127\.0\.0\.1:\d+)/metrics") + "/metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))

    def test_every_code_is_tried_again_or_not_as_the_specification_says(self):
        def misbehave(name, first, context):
            if first and name != "last":
                context.abort(getattr(grpc.StatusCode, name), "on purpose")
            return b""

        with self.running(misbehave) as (backend, otlpd, stub):
            for name in RETRYABLE + PERMANENT:
                stub.Export(span(name), timeout=DEADLINE_S)
            stub.Export(span("last"), timeout=DEADLINE_S)
            rejected = lambda: self.metric(otlpd, "otlpd_books_rejected")
            wait_until(lambda: rejected() == len(PERMANENT), "every permanent failure in the books")
            sent = lambda: self.metric(otlpd, "otlpd_books_exported")
            wait_until(lambda: sent() == len(RETRYABLE) + 1, "every other span in the books")
            self.assertEqual({name: backend.count(name) for name in RETRYABLE}, dict.fromkeys(RETRYABLE, 2))
            self.assertEqual({name: backend.count(name) for name in PERMANENT}, dict.fromkeys(PERMANENT, 1))

    def test_retry_info_is_obeyed(self):
        def misbehave(name, first, context):
            if first:
                code = getattr(grpc.StatusCode, name)
                info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=700_000_000))
                detail = any_pb2.Any()
                detail.Pack(info)
                status = status_pb2.Status(code=code.value[0], message="later", details=[detail])
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
                context.abort(code, "later")
            return b""

        with self.running(misbehave) as (backend, _, stub):
            for name in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
                stub.Export(span(name), timeout=DEADLINE_S)
            for name in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
                wait_until(lambda: backend.count(name) == 2, f"{name} is sent again")
                first, second = backend.attempts[name]
                self.assertGreaterEqual(second - first, 0.7, name)

    def test_a_partial_success_is_not_sent_again_and_what_was_rejected_is_counted(self):
        def misbehave(name, first, context):
            answer = ANSWERED()
            answer.partial_success.rejected_spans = 1
            answer.partial_success.error_message = "one too many"
            return answer.SerializeToString()

        with self.running(misbehave) as (backend, otlpd, stub):
            stub.Export(span("partial"), timeout=DEADLINE_S)
            wait_until(lambda: self.metric(otlpd, "otlpd_books_rejected") == 1, "the rejected span")
            self.assertEqual(backend.count("partial"), 1)
            self.assertIn("one too many", otlpd.output())

    def test_an_answer_of_five_mebibytes_is_not_read_to_its_end(self):
        def misbehave(name, first, context):
            return b"\x0a" + bytes([0x80 | 0x7F, 0x80 | 0x7F, 0x80 | 0x7F, 2]) + bytes(0x5FFFFF) if name == "huge" else b""

        with self.running(misbehave) as (backend, otlpd, stub):
            stub.Export(span("huge"), timeout=DEADLINE_S)
            stub.Export(span("next"), timeout=DEADLINE_S)
            wait_until(lambda: self.metric(otlpd, "otlpd_books_rejected") == 1, "the large answer in the books")
            wait_until(lambda: self.metric(otlpd, "otlpd_books_exported") == 1, "the next span")
            self.assertEqual(backend.count("huge"), 1)

    def test_a_call_that_is_never_answered_ends_at_its_timeout_and_is_sent_again(self):
        release = threading.Event()

        def misbehave(name, first, context):
            if first:
                release.wait(DEADLINE_S)
            return b""

        with self.running(misbehave, timeout="300ms") as (backend, otlpd, stub):
            stub.Export(span("slow"), timeout=DEADLINE_S)
            wait_until(lambda: self.metric(otlpd, "otlpd_books_exported") == 1, "the second attempt")
            release.set()
            self.assertEqual(backend.count("slow"), 2)

    def test_connections_that_the_server_ends_all_the_time_lose_nothing(self):
        options = [("grpc.max_connection_age_ms", 40), ("grpc.max_connection_age_grace_ms", 5000)]
        with self.running(lambda *_: b"", options=options) as (backend, otlpd, stub):
            names = [f"span {index}" for index in range(300)]
            for name in names:
                stub.Export(span(name), timeout=DEADLINE_S)
                time.sleep(0.002)  # Not to wait for anything: so that the load outlasts several connections.
            wait_until(lambda: self.metric(otlpd, "otlpd_books_exported") == len(names), "every span")
            found = [name_of(message) for message in backend.sink.requests["/v1/traces"]]
            self.assertEqual((len(found), set(found)), (len(names), set(names)), "each once")

    def test_a_server_that_goes_away_and_comes_back_gets_everything(self):
        with self.running(lambda *_: b"") as (backend, otlpd, stub):
            stub.Export(span("before"), timeout=DEADLINE_S)
            wait_until(lambda: backend.count("before") == 1, "the first span")
            backend.sink.server.stop(0).wait()
            stub.Export(span("while away"), timeout=DEADLINE_S)
            again = Backend(lambda *_: b"", port=backend.sink.port)
            wait_until(lambda: again.count("while away") == 1, "the span that was sent while nobody listened")
            wait_until(lambda: self.metric(otlpd, "otlpd_books_exported") == 2, "both in the books")
            again.sink.close()


if __name__ == "__main__":
    unittest.main()
