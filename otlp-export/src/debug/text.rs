//! Groups in words: the Collector's lines and blocks.

use std::fmt::{self, Display, Write};

use otlp_core::wire::view::{
    AnyValue, BucketsView, DataView, ExemplarView, ItemView, KeyValueView, List, LogRecordView, MetricView, Number,
    PointView, ResourceItemsView, ScopeItemsView, SpanView, resources,
};
use otlp_core::{Group, Signal};

use super::Verbosity;
use super::value;

/// What each signal's envelopes are called.
struct Words {
    signal: &'static str,
    resource: &'static str,
    resources: &'static str,
    scope: &'static str,
}

const fn words(signal: Signal) -> Words {
    match signal {
        Signal::Traces => {
            Words { signal: "Traces", resource: "ResourceSpans", resources: "resource spans", scope: "ScopeSpans" }
        }
        Signal::Metrics => Words {
            signal: "Metrics",
            resource: "ResourceMetrics",
            resources: "resource metrics",
            scope: "ScopeMetrics",
        },
        // The Collector's own singular.
        Signal::Logs => {
            Words { signal: "Logs", resource: "ResourceLog", resources: "resource logs", scope: "ScopeLogs" }
        }
    }
}

fn envelopes(group: &Group) -> impl Iterator<Item = ResourceItemsView<'_>> {
    group.parts().iter().flat_map(|batch| resources(batch.body()))
}

/// One line: how much there is.
pub(crate) fn summary(id: &str, group: &Group) -> String {
    let (signal, words) = (group.signal(), words(group.signal()));
    let mut line = format!(
        "{} {{\"otelcol.component.id\": \"{id}\", \"otelcol.component.kind\": \"exporter\", \
         \"otelcol.signal\": \"{signal}\", \"{}\": {}",
        words.signal,
        words.resources,
        envelopes(group).count()
    );
    if signal == Signal::Metrics {
        let scopes = envelopes(group).flat_map(|resource| resource.scopes());
        let metrics: usize = scopes.map(|scope| scope.metrics().count()).sum();
        let _ = write!(line, ", \"metrics\": {metrics}");
    }
    let _ = write!(line, ", \"{}\": {}}}", signal.items_name(), group.items());
    line
}

/// Everything of a group, or a line for each item.
pub(crate) fn body(verbosity: Verbosity, group: &Group) -> String {
    let (mut out, words) = (String::new(), words(group.signal()));
    for (index, resource) in envelopes(group).enumerate() {
        if verbosity == Verbosity::Detailed {
            line(&mut out, format_args!("{} #{index}", words.resource));
            line(&mut out, format_args!("Resource SchemaURL: {}", resource.schema_url()));
            if let Some(resource) = resource.resource() {
                attributes(&mut out, "Resource attributes", resource.attributes());
            }
        } else {
            let pairs = resource.resource().map(|resource| pairs(resource.attributes())).unwrap_or_default();
            line(&mut out, format_args!("{} #{index}{}{pairs}", words.resource, bracketed(resource.schema_url())));
        }
        for (index, scope) in resource.scopes().enumerate() {
            scope_head(&mut out, verbosity, words.scope, index, scope);
            items(&mut out, verbosity, group.signal(), scope);
        }
    }
    out
}

fn scope_head(out: &mut String, verbosity: Verbosity, word: &str, index: usize, scope: ScopeItemsView<'_>) {
    let inner = scope.scope();
    let name = inner.map_or("", |inner| inner.name());
    let version = inner.map_or("", |inner| inner.version());
    if verbosity == Verbosity::Detailed {
        line(out, format_args!("{word} #{index}"));
        line(out, format_args!("{word} SchemaURL: {}", scope.schema_url()));
        line(out, format_args!("InstrumentationScope {name} {version}"));
        if let Some(inner) = inner {
            attributes(out, "InstrumentationScope attributes", inner.attributes());
        }
        return;
    }
    let at = if version.is_empty() { "" } else { "@" };
    let pairs = inner.map(|inner| pairs(inner.attributes())).unwrap_or_default();
    line(out, format_args!("{word} #{index} {name}{at}{version}{}{pairs}", bracketed(scope.schema_url())));
}

fn items(out: &mut String, verbosity: Verbosity, signal: Signal, scope: ScopeItemsView<'_>) {
    let detailed = verbosity == Verbosity::Detailed;
    match signal {
        Signal::Traces => {
            for (index, span) in scope.spans().enumerate() {
                if detailed { span_block(out, index, span) } else { item_line(out, &ItemView::Span(span), "") }
            }
        }
        Signal::Logs => {
            for (index, record) in scope.log_records().enumerate() {
                if detailed { log_block(out, index, record) } else { item_line(out, &ItemView::LogRecord(record), "") }
            }
        }
        Signal::Metrics => {
            for (index, metric) in scope.metrics().enumerate() {
                if detailed {
                    metric_block(out, index, metric);
                } else {
                    metric.points().for_each(|point| item_line(out, &ItemView::Point(point), metric.name()));
                }
            }
        }
    }
}

fn item_line(out: &mut String, item: &ItemView<'_>, metric: &str) {
    let pairs = pairs(item.attributes());
    match item {
        ItemView::Span(span) => {
            line(out, format_args!("{} {} {}{pairs}", span.name(), Hex(span.trace_id()), Hex(span.span_id())));
        }
        ItemView::LogRecord(record) => {
            let body = record.body().unwrap_or(AnyValue::Empty);
            line(out, format_args!("{}{pairs}", value::text(&body)));
        }
        ItemView::Point(point) => {
            let values = match point {
                PointView::Number(point) => Value(point.value()).to_string(),
                PointView::Histogram(point) => {
                    let mut values = counted(point.count(), point.sum(), point.min(), point.max());
                    let bounds = point.explicit_bounds().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
                    for (bound, count) in bounds.zip(point.bucket_counts()) {
                        let _ = write!(values, " le{bound}={count}");
                    }
                    values
                }
                PointView::ExponentialHistogram(point) => counted(point.count(), point.sum(), point.min(), point.max()),
                PointView::Summary(point) => {
                    let mut values = counted(point.count(), Some(point.sum()), None, None);
                    for quantile in point.quantile_values() {
                        let _ = write!(values, " q{}={}", quantile.quantile(), quantile.value());
                    }
                    values
                }
            };
            line(out, format_args!("{metric}{{{}}} {values}", pairs.trim_start()));
        }
    }
}

fn counted(count: u64, sum: Option<f64>, min: Option<f64>, max: Option<f64>) -> String {
    let mut text = format!("count={count}");
    for (name, value) in [("sum", sum), ("min", min), ("max", max)] {
        if let Some(value) = value {
            let _ = write!(text, " {name}={value}");
        }
    }
    text
}

fn span_block(out: &mut String, index: usize, span: SpanView<'_>) {
    const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
    const STATUSES: [&str; 3] = ["Unset", "Ok", "Error"];
    line(out, format_args!("Span #{index}"));
    let mut field = |name: &str, value: &dyn Display| line(out, format_args!("    {name:<15}: {value}"));
    field("Trace ID", &Hex(span.trace_id()));
    field("Parent ID", &Hex(span.parent_span_id()));
    field("ID", &Hex(span.span_id()));
    field("Name", &span.name());
    field("Kind", &named(&KINDS, span.kind()));
    if !span.trace_state().is_empty() {
        field("TraceState", &span.trace_state());
    }
    field("Start time", &Time(span.start_time_unix_nano()));
    field("End time", &Time(span.end_time_unix_nano()));
    let status = span.status();
    field("Status code", &named(&STATUSES, status.map_or(0, |status| status.code())));
    field("Status message", &status.map_or("", |status| status.message()));
    for (name, count) in [
        ("DroppedAttributesCount", span.dropped_attributes_count()),
        ("DroppedEventsCount", span.dropped_events_count()),
        ("DroppedLinksCount", span.dropped_links_count()),
    ] {
        if count > 0 {
            field(name, &count);
        }
    }
    attributes(out, "Attributes", span.attributes());
    if span.events().next().is_some() {
        line(out, format_args!("Events:"));
    }
    for (index, event) in span.events().enumerate() {
        line(out, format_args!("SpanEvent #{index}"));
        line(out, format_args!("     -> Name: {}", event.name()));
        line(out, format_args!("     -> Timestamp: {}", Time(event.time_unix_nano())));
        line(out, format_args!("     -> DroppedAttributesCount: {}", event.dropped_attributes_count()));
        nested(out, event.attributes());
    }
    if span.links().next().is_some() {
        line(out, format_args!("Links:"));
    }
    for (index, link) in span.links().enumerate() {
        line(out, format_args!("SpanLink #{index}"));
        line(out, format_args!("     -> Trace ID: {}", Hex(link.trace_id())));
        line(out, format_args!("     -> ID: {}", Hex(link.span_id())));
        line(out, format_args!("     -> TraceState: {}", link.trace_state()));
        line(out, format_args!("     -> DroppedAttributesCount: {}", link.dropped_attributes_count()));
        nested(out, link.attributes());
    }
}

fn nested(out: &mut String, list: List<'_, KeyValueView<'_>>) {
    for (index, attribute) in list.enumerate() {
        if index == 0 {
            line(out, format_args!("     -> Attributes::"));
        }
        line(out, format_args!("          -> {}: {}", attribute.key(), Typed(&attribute.value())));
    }
}

fn log_block(out: &mut String, index: usize, record: LogRecordView<'_>) {
    line(out, format_args!("LogRecord #{index}"));
    line(out, format_args!("ObservedTimestamp: {}", Time(record.observed_time_unix_nano())));
    line(out, format_args!("Timestamp: {}", Time(record.time_unix_nano())));
    line(out, format_args!("SeverityText: {}", record.severity_text()));
    let number = record.severity_number();
    line(out, format_args!("SeverityNumber: {}({number})", severity(number)));
    if !record.event_name().is_empty() {
        line(out, format_args!("EventName: {}", record.event_name()));
    }
    line(out, format_args!("Body: {}", Typed(&record.body().unwrap_or(AnyValue::Empty))));
    attributes(out, "Attributes", record.attributes());
    line(out, format_args!("Trace ID: {}", Hex(record.trace_id())));
    line(out, format_args!("Span ID: {}", Hex(record.span_id())));
    line(out, format_args!("Flags: {}", record.flags()));
}

fn severity(number: i32) -> String {
    const LEVELS: [&str; 6] = ["Trace", "Debug", "Info", "Warn", "Error", "Fatal"];
    match number {
        1..=24 => {
            let (level, step) = ((number - 1) / 4, (number - 1) % 4);
            let suffix = if step == 0 { String::new() } else { (step + 1).to_string() };
            format!("{}{suffix}", LEVELS[level as usize])
        }
        0 => "Unspecified".to_owned(),
        _ => String::new(),
    }
}

fn metric_block(out: &mut String, index: usize, metric: MetricView<'_>) {
    const TEMPORALITIES: [&str; 3] = ["Unspecified", "Delta", "Cumulative"];
    line(out, format_args!("Metric #{index}"));
    line(out, format_args!("Descriptor:"));
    let mut field = |name: &str, value: &dyn Display| line(out, format_args!("     -> {name}: {value}"));
    field("Name", &metric.name());
    field("Description", &metric.description());
    field("Unit", &metric.unit());
    let (kind, temporality) = match metric.data() {
        None => ("Empty", None),
        Some(DataView::Gauge(_)) => ("Gauge", None),
        Some(DataView::Sum(data)) => ("Sum", Some(data.aggregation_temporality())),
        Some(DataView::Histogram(data)) => ("Histogram", Some(data.aggregation_temporality())),
        Some(DataView::ExponentialHistogram(data)) => ("ExponentialHistogram", Some(data.aggregation_temporality())),
        Some(DataView::Summary(_)) => ("Summary", None),
    };
    field("DataType", &kind);
    if let Some(DataView::Sum(data)) = metric.data() {
        field("IsMonotonic", &data.is_monotonic());
    }
    if let Some(temporality) = temporality {
        field("AggregationTemporality", &named(&TEMPORALITIES, temporality));
    }
    metric.points().enumerate().for_each(|(index, point)| point_block(out, index, point));
}

fn point_block(out: &mut String, index: usize, point: PointView<'_>) {
    let (kind, start) = match point {
        PointView::Number(point) => ("NumberDataPoints", point.start_time_unix_nano()),
        PointView::Histogram(point) => ("HistogramDataPoints", point.start_time_unix_nano()),
        PointView::ExponentialHistogram(point) => ("ExponentialHistogramDataPoints", point.start_time_unix_nano()),
        PointView::Summary(point) => ("SummaryDataPoints", point.start_time_unix_nano()),
    };
    line(out, format_args!("{kind} #{index}"));
    attributes(out, "Data point attributes", point.attributes());
    line(out, format_args!("StartTimestamp: {}", Time(start)));
    line(out, format_args!("Timestamp: {}", Time(point.time_unix_nano())));
    match point {
        PointView::Number(point) => {
            line(out, format_args!("Value: {}", Value(point.value())));
            exemplars(out, point.exemplars());
        }
        PointView::Histogram(point) => {
            counts(out, point.count(), point.sum(), point.min(), point.max());
            for (index, bound) in point.explicit_bounds().enumerate() {
                line(out, format_args!("ExplicitBounds #{index}: {bound:.6}"));
            }
            for (index, count) in point.bucket_counts().enumerate() {
                line(out, format_args!("Buckets #{index}, Count: {count}"));
            }
            exemplars(out, point.exemplars());
        }
        PointView::ExponentialHistogram(point) => {
            counts(out, point.count(), point.sum(), point.min(), point.max());
            let base = f64::from(-point.scale()).exp2().exp2();
            let bounds = |buckets: BucketsView<'_>| -> Vec<(f64, f64, u64)> {
                let offset = f64::from(buckets.offset());
                let bound = |index: usize| base.powf(offset + index as f64);
                let counts = buckets.bucket_counts().enumerate();
                counts.map(|(index, count)| (bound(index), bound(index + 1), count)).collect()
            };
            for (low, high, count) in point.negative().map(bounds).unwrap_or_default().into_iter().rev() {
                line(out, format_args!("Bucket [{:.6}, {:.6}), Count: {count}", -high, -low));
            }
            if point.zero_count() > 0 {
                let zero = point.zero_threshold();
                line(out, format_args!("Bucket [{:.6}, {zero:.6}], Count: {}", 0.0 - zero, point.zero_count()));
            }
            for (low, high, count) in point.positive().map(bounds).unwrap_or_default() {
                line(out, format_args!("Bucket ({low:.6}, {high:.6}], Count: {count}"));
            }
            exemplars(out, point.exemplars());
        }
        PointView::Summary(point) => {
            counts(out, point.count(), Some(point.sum()), None, None);
            for (index, at) in point.quantile_values().enumerate() {
                line(
                    out,
                    format_args!("QuantileValue #{index}: Quantile {:.6}, Value {:.6}", at.quantile(), at.value()),
                );
            }
        }
    }
}

fn counts(out: &mut String, count: u64, sum: Option<f64>, min: Option<f64>, max: Option<f64>) {
    line(out, format_args!("Count: {count}"));
    for (name, value) in [("Sum", sum), ("Min", min), ("Max", max)] {
        if let Some(value) = value {
            line(out, format_args!("{name}: {value:.6}"));
        }
    }
}

fn exemplars(out: &mut String, list: List<'_, ExemplarView<'_>>) {
    for (index, exemplar) in list.enumerate() {
        if index == 0 {
            line(out, format_args!("Exemplars:"));
        }
        line(out, format_args!("Exemplar #{index}"));
        line(out, format_args!("     -> Trace ID: {}", Hex(exemplar.trace_id())));
        line(out, format_args!("     -> Span ID: {}", Hex(exemplar.span_id())));
        line(out, format_args!("     -> Timestamp: {}", Time(exemplar.time_unix_nano())));
        line(out, format_args!("     -> Value: {}", Value(exemplar.value())));
        nested(out, exemplar.filtered_attributes());
    }
}

fn attributes(out: &mut String, title: &str, list: List<'_, KeyValueView<'_>>) {
    for (index, attribute) in list.enumerate() {
        if index == 0 {
            line(out, format_args!("{title}:"));
        }
        line(out, format_args!("     -> {}: {}", attribute.key(), Typed(&attribute.value())));
    }
}

/// ` key=value` for each.
fn pairs(list: List<'_, KeyValueView<'_>>) -> String {
    let mut text = String::new();
    for attribute in list {
        let _ = write!(text, " {}={}", attribute.key(), value::text(&attribute.value()));
    }
    text
}

fn bracketed(schema_url: &str) -> String {
    if schema_url.is_empty() { String::new() } else { format!(" [{schema_url}]") }
}

fn named(names: &[&'static str], number: i32) -> String {
    let name = usize::try_from(number).ok().and_then(|index| names.get(index));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// Writing to a string cannot fail.
fn line(out: &mut String, text: fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value with its kind: `Str(text)`.
struct Typed<'a, 'b>(&'b AnyValue<'a>);

impl Display for Typed<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            AnyValue::Empty => "Empty",
            AnyValue::String(_) => "Str",
            AnyValue::Bool(_) => "Bool",
            AnyValue::Int(_) => "Int",
            AnyValue::Double(_) => "Double",
            AnyValue::Array(_) => "Slice",
            AnyValue::KvList(_) => "Map",
            AnyValue::Bytes(_) => "Bytes",
        };
        write!(f, "{kind}({})", value::text(self.0))
    }
}

struct Value(Option<Number>);

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(Number::Int(value)) => value.fmt(f),
            Some(Number::Double(value)) => write!(f, "{value:.6}"),
        }
    }
}

/// Nanoseconds since 1970 as Go writes a time in UTC: no more digits of a second than are needed.
struct Time(u64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Days since 0000-03-01, so that a leap day ends its year; 400 years have 146 097 days.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)?;
        if nanos > 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str(" +0000 UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (951_782_399_000_000_000, "2000-02-28 23:59:59 +0000 UTC"),
            (951_782_400_500_000_000, "2000-02-29 00:00:00.5 +0000 UTC"),
            (1_581_452_772_000_000_321, "2020-02-11 20:26:12.000000321 +0000 UTC"),
            (4_107_542_399_000_000_000, "2100-02-28 23:59:59 +0000 UTC"),
            (4_107_542_400_000_000_000, "2100-03-01 00:00:00 +0000 UTC"),
            (u64::MAX, "2554-07-21 23:34:33.709551615 +0000 UTC"),
        ] {
            assert_eq!(Time(nanos).to_string(), text);
        }
        assert_eq!(["Info", "Info2", "Fatal4"], [9, 10, 24].map(severity)[..]);
    }
}
