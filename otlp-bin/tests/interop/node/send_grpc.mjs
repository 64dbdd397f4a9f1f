// Sends one of each signal with the Node SDK's gRPC exporters, then what calls.json asks of grpc-js itself.
//
//   node send_grpc.mjs HOST:PORT CALLS [CA CHAIN KEY]
//
// CALLS is a JSON file: `method`, `bodies` (base64, sent all at once over one connection), `cancelled` (sent and cancelled
// at once), `impossible` (sent with a deadline that has passed). Prints as JSON what became of them.
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { ValueType } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-grpc';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

const [target, callsPath, ca, chain, key] = process.argv.slice(2);
const calls = JSON.parse(readFileSync(callsPath));
const credentials = ca
  ? grpc.credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(chain))
  : grpc.credentials.createInsecure();
const url = `${ca ? 'https' : 'http'}://${target}`;
const resource = resourceFromAttributes({ 'service.name': 'node over gRPC' });
const settings = { url, credentials, compression: 'gzip' };

const traces = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(settings))] });
traces.getTracer('t').startSpan('by grpc-js', { startTime: [1_700_000_000, 123_456_789], attributes: { big: 2 ** 53 - 1 } }).end();
await traces.forceFlush();
await traces.shutdown();

const metrics = new MeterProvider({
  resource,
  readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(settings), exportIntervalMillis: 3_600_000 })],
});
metrics.getMeter('m').createCounter('counter', { valueType: ValueType.INT }).add(41);
await metrics.forceFlush();
await metrics.shutdown();

const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(settings) })] });
logs.getLogger('l').emit({ severityNumber: SeverityNumber.ERROR, body: 'line' });
await logs.forceFlush();
await logs.shutdown();

const client = new grpc.Client(target, credentials, { 'grpc.max_send_message_length': -1 });
const unchanged = (bytes) => bytes;
const send = (body, options, then = () => {}) =>
  new Promise((resolve) => {
    const bytes = Buffer.from(body, 'base64');
    const done = (error, answer) => resolve(error ? grpc.status[error.code] : answer.length);
    then(client.makeUnaryRequest(calls.method, unchanged, unchanged, bytes, new grpc.Metadata(), options, done));
  });
const soon = () => ({ deadline: Date.now() + 60_000 });
const outcomes = {
  bodies: await Promise.all(calls.bodies.map((body) => send(body, soon()))),
  cancelled: await Promise.all(calls.cancelled.map((body) => send(body, soon(), (call) => call.cancel()))),
  impossible: await Promise.all(calls.impossible.map((body) => send(body, { deadline: Date.now() - 1 }))),
};
client.close();
console.log(JSON.stringify(outcomes));
