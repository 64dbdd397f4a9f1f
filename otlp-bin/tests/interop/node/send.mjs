// Sends one of each signal as OTLP/JSON to the base URL given, with values that JSON implementations get wrong.
import { SpanKind, SpanStatusCode, ValueType, context, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

const base = process.argv[2];
const resource = resourceFromAttributes({ 'service.name': 'node', 'ünïcode': 'значение 😀', list: [1, 2.5, -3] });

const traces = new BasicTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: `${base}/v1/traces` }))],
});
const tracer = traces.getTracer('node.scope', '9.9');
const parent = tracer.startSpan('parent "quoted" \\ \u0000 \u{1F600}', { kind: SpanKind.PRODUCER, startTime: [1_700_000_000, 123_456_789] });
parent.setAttributes({ big: Number.MAX_SAFE_INTEGER, negative: -7, ratio: 0.1, tiny: 5e-324, flag: false, empty: '', strings: ['a', 'b'] });
parent.addEvent('event', { at: 1 }, [1_700_000_001, 1]);
const child = tracer.startSpan('child', {}, trace.setSpan(context.active(), parent));
child.setStatus({ code: SpanStatusCode.ERROR, message: 'broken' });
child.end();
parent.end([1_700_000_002, 999_999_999]);
await traces.forceFlush();
await traces.shutdown();

const reader = new PeriodicExportingMetricReader({
  exporter: new OTLPMetricExporter({ url: `${base}/v1/metrics` }),
  exportIntervalMillis: 3_600_000,
});
const metrics = new MeterProvider({ resource, readers: [reader] });
const meter = metrics.getMeter('node.scope');
meter.createCounter('counter', { valueType: ValueType.INT, unit: '1' }).add(41, { a: 'b' });
meter.createGauge('gauge').record(-0.25);
const histogram = meter.createHistogram('histogram');
for (const value of [0, 3, 7000.5]) histogram.record(value);
await metrics.forceFlush();
await metrics.shutdown();

const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter({ url: `${base}/v1/logs` }) })] });
logs.getLogger('node.logs').emit({
  timestamp: [1_700_000_003, 5],
  severityNumber: SeverityNumber.ERROR,
  severityText: 'error',
  body: { text: 'line\nbreak', nested: { list: [true, 1, 'x'] } },
  attributes: { bytes: new Uint8Array([0, 255, 16]) },
});
await logs.forceFlush();
await logs.shutdown();
