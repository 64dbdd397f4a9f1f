//! The OTLP messages as a table: every known field with its number, name, kind and label.
//!
//! It follows opentelemetry-proto 1.10, as prost generates it. The fast validator does not read it; it is what that
//! validator is checked against, and what errors, normalisation and generated test data are made from.
//!
//! Assumption: a message has at most one oneof, and no field number above 16 is known. Both hold for every message
//! here; a second oneof would need a number in [`Label::Oneof`], a higher number a wider mask in `validate.rs`.

use crate::signal::Signal;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integers, booleans and enums in varint form. A list of them may be packed.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes. A list of them may be packed.
    Fixed64,
    /// Bytes.
    Bytes,
    /// UTF-8.
    Text,
    /// A message.
    Message(Message),
}

/// How often a field may stand in its message, as the schema has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Once; where it is repeated all the same, messages merge and of other values the last counts.
    Singular,
    /// Any number of times.
    Repeated,
    /// At most one of the message's oneof fields; of several the last counts.
    Oneof,
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Its name in the schema.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// How often.
    pub label: Label,
}

macro_rules! schema {
    ($($(#[$doc:meta])* $message:ident { $($number:literal $name:ident: $label:ident $kind:ident $(($of:ident))?,)* })*) => {
        /// A message of OTLP.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Message {
            $($(#[$doc])* $message,)*
        }

        impl Message {
            /// Every message.
            pub const ALL: &'static [Message] = &[$(Message::$message),*];

            /// Its known fields, by number.
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Message::$message => &[$(
                        Field {
                            number: $number,
                            name: stringify!($name),
                            kind: Kind::$kind $((Message::$of))?,
                            label: Label::$label,
                        },
                    )*],)*
                }
            }
        }
    };
}

schema! {
    /// `ExportTraceServiceRequest`.
    TraceRequest { 1 resource_spans: Repeated Message(ResourceSpans), }
    /// `ExportMetricsServiceRequest`.
    MetricsRequest { 1 resource_metrics: Repeated Message(ResourceMetrics), }
    /// `ExportLogsServiceRequest`.
    LogsRequest { 1 resource_logs: Repeated Message(ResourceLogs), }
    /// `ResourceSpans`.
    ResourceSpans {
        1 resource: Singular Message(Resource),
        2 scope_spans: Repeated Message(ScopeSpans),
        3 schema_url: Singular Text,
    }
    /// `ResourceMetrics`.
    ResourceMetrics {
        1 resource: Singular Message(Resource),
        2 scope_metrics: Repeated Message(ScopeMetrics),
        3 schema_url: Singular Text,
    }
    /// `ResourceLogs`.
    ResourceLogs {
        1 resource: Singular Message(Resource),
        2 scope_logs: Repeated Message(ScopeLogs),
        3 schema_url: Singular Text,
    }
    /// `ScopeSpans`.
    ScopeSpans {
        1 scope: Singular Message(Scope),
        2 spans: Repeated Message(Span),
        3 schema_url: Singular Text,
    }
    /// `ScopeMetrics`.
    ScopeMetrics {
        1 scope: Singular Message(Scope),
        2 metrics: Repeated Message(Metric),
        3 schema_url: Singular Text,
    }
    /// `ScopeLogs`.
    ScopeLogs {
        1 scope: Singular Message(Scope),
        2 log_records: Repeated Message(LogRecord),
        3 schema_url: Singular Text,
    }
    /// `Resource`.
    Resource {
        1 attributes: Repeated Message(KeyValue),
        2 dropped_attributes_count: Singular Varint,
        3 entity_refs: Repeated Message(EntityRef),
    }
    /// `EntityRef`.
    EntityRef {
        1 schema_url: Singular Text,
        2 type: Singular Text,
        3 id_keys: Repeated Text,
        4 description_keys: Repeated Text,
    }
    /// `InstrumentationScope`.
    Scope {
        1 name: Singular Text,
        2 version: Singular Text,
        3 attributes: Repeated Message(KeyValue),
        4 dropped_attributes_count: Singular Varint,
    }
    /// `KeyValue`.
    KeyValue {
        1 key: Singular Text,
        2 value: Singular Message(AnyValue),
        3 key_strindex: Singular Varint,
    }
    /// `AnyValue`.
    AnyValue {
        1 string_value: Oneof Text,
        2 bool_value: Oneof Varint,
        3 int_value: Oneof Varint,
        4 double_value: Oneof Fixed64,
        5 array_value: Oneof Message(ArrayValue),
        6 kvlist_value: Oneof Message(KeyValueList),
        7 bytes_value: Oneof Bytes,
        8 string_value_strindex: Oneof Varint,
    }
    /// `ArrayValue`.
    ArrayValue { 1 values: Repeated Message(AnyValue), }
    /// `KeyValueList`.
    KeyValueList { 1 values: Repeated Message(KeyValue), }
    /// `Span`.
    Span {
        1 trace_id: Singular Bytes,
        2 span_id: Singular Bytes,
        3 trace_state: Singular Text,
        4 parent_span_id: Singular Bytes,
        5 name: Singular Text,
        6 kind: Singular Varint,
        7 start_time_unix_nano: Singular Fixed64,
        8 end_time_unix_nano: Singular Fixed64,
        9 attributes: Repeated Message(KeyValue),
        10 dropped_attributes_count: Singular Varint,
        11 events: Repeated Message(Event),
        12 dropped_events_count: Singular Varint,
        13 links: Repeated Message(Link),
        14 dropped_links_count: Singular Varint,
        15 status: Singular Message(Status),
        16 flags: Singular Fixed32,
    }
    /// `Span.Event`.
    Event {
        1 time_unix_nano: Singular Fixed64,
        2 name: Singular Text,
        3 attributes: Repeated Message(KeyValue),
        4 dropped_attributes_count: Singular Varint,
    }
    /// `Span.Link`.
    Link {
        1 trace_id: Singular Bytes,
        2 span_id: Singular Bytes,
        3 trace_state: Singular Text,
        4 attributes: Repeated Message(KeyValue),
        5 dropped_attributes_count: Singular Varint,
        6 flags: Singular Fixed32,
    }
    /// `Status`.
    Status {
        2 message: Singular Text,
        3 code: Singular Varint,
    }
    /// `LogRecord`.
    LogRecord {
        1 time_unix_nano: Singular Fixed64,
        2 severity_number: Singular Varint,
        3 severity_text: Singular Text,
        5 body: Singular Message(AnyValue),
        6 attributes: Repeated Message(KeyValue),
        7 dropped_attributes_count: Singular Varint,
        8 flags: Singular Fixed32,
        9 trace_id: Singular Bytes,
        10 span_id: Singular Bytes,
        11 observed_time_unix_nano: Singular Fixed64,
        12 event_name: Singular Text,
    }
    /// `Metric`.
    Metric {
        1 name: Singular Text,
        2 description: Singular Text,
        3 unit: Singular Text,
        5 gauge: Oneof Message(Gauge),
        7 sum: Oneof Message(Sum),
        9 histogram: Oneof Message(Histogram),
        10 exponential_histogram: Oneof Message(ExponentialHistogram),
        11 summary: Oneof Message(Summary),
        12 metadata: Repeated Message(KeyValue),
    }
    /// `Gauge`.
    Gauge { 1 data_points: Repeated Message(NumberDataPoint), }
    /// `Sum`.
    Sum {
        1 data_points: Repeated Message(NumberDataPoint),
        2 aggregation_temporality: Singular Varint,
        3 is_monotonic: Singular Varint,
    }
    /// `Histogram`.
    Histogram {
        1 data_points: Repeated Message(HistogramDataPoint),
        2 aggregation_temporality: Singular Varint,
    }
    /// `ExponentialHistogram`.
    ExponentialHistogram {
        1 data_points: Repeated Message(ExponentialHistogramDataPoint),
        2 aggregation_temporality: Singular Varint,
    }
    /// `Summary`.
    Summary { 1 data_points: Repeated Message(SummaryDataPoint), }
    /// `NumberDataPoint`.
    NumberDataPoint {
        2 start_time_unix_nano: Singular Fixed64,
        3 time_unix_nano: Singular Fixed64,
        4 as_double: Oneof Fixed64,
        5 exemplars: Repeated Message(Exemplar),
        6 as_int: Oneof Fixed64,
        7 attributes: Repeated Message(KeyValue),
        8 flags: Singular Varint,
    }
    /// `HistogramDataPoint`.
    HistogramDataPoint {
        2 start_time_unix_nano: Singular Fixed64,
        3 time_unix_nano: Singular Fixed64,
        4 count: Singular Fixed64,
        5 sum: Singular Fixed64,
        6 bucket_counts: Repeated Fixed64,
        7 explicit_bounds: Repeated Fixed64,
        8 exemplars: Repeated Message(Exemplar),
        9 attributes: Repeated Message(KeyValue),
        10 flags: Singular Varint,
        11 min: Singular Fixed64,
        12 max: Singular Fixed64,
    }
    /// `ExponentialHistogramDataPoint`.
    ExponentialHistogramDataPoint {
        1 attributes: Repeated Message(KeyValue),
        2 start_time_unix_nano: Singular Fixed64,
        3 time_unix_nano: Singular Fixed64,
        4 count: Singular Fixed64,
        5 sum: Singular Fixed64,
        6 scale: Singular Varint,
        7 zero_count: Singular Fixed64,
        8 positive: Singular Message(Buckets),
        9 negative: Singular Message(Buckets),
        10 flags: Singular Varint,
        11 exemplars: Repeated Message(Exemplar),
        12 min: Singular Fixed64,
        13 max: Singular Fixed64,
        14 zero_threshold: Singular Fixed64,
    }
    /// `ExponentialHistogramDataPoint.Buckets`.
    Buckets {
        1 offset: Singular Varint,
        2 bucket_counts: Repeated Varint,
    }
    /// `SummaryDataPoint`.
    SummaryDataPoint {
        2 start_time_unix_nano: Singular Fixed64,
        3 time_unix_nano: Singular Fixed64,
        4 count: Singular Fixed64,
        5 sum: Singular Fixed64,
        6 quantile_values: Repeated Message(ValueAtQuantile),
        7 attributes: Repeated Message(KeyValue),
        8 flags: Singular Varint,
    }
    /// `SummaryDataPoint.ValueAtQuantile`.
    ValueAtQuantile {
        1 quantile: Singular Fixed64,
        2 value: Singular Fixed64,
    }
    /// `Exemplar`.
    Exemplar {
        2 time_unix_nano: Singular Fixed64,
        3 as_double: Oneof Fixed64,
        4 span_id: Singular Bytes,
        5 trace_id: Singular Bytes,
        6 as_int: Oneof Fixed64,
        7 filtered_attributes: Repeated Message(KeyValue),
    }
}

impl Message {
    /// The request of a signal.
    pub const fn request(signal: Signal) -> Message {
        [Message::TraceRequest, Message::MetricsRequest, Message::LogsRequest][signal.index()]
    }

    /// The known field of that number.
    pub fn field(self, number: u32) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.number == number)
    }

    /// Whether it is an item: a span, data point or log record.
    pub const fn is_item(self) -> bool {
        matches!(
            self,
            Message::Span
                | Message::LogRecord
                | Message::NumberDataPoint
                | Message::HistogramDataPoint
                | Message::ExponentialHistogramDataPoint
                | Message::SummaryDataPoint
        )
    }

    /// Whether it holds what is of one resource, or of one scope: nearly all of a request.
    pub const fn is_envelope(self) -> bool {
        matches!(
            self,
            Message::ResourceSpans
                | Message::ResourceMetrics
                | Message::ResourceLogs
                | Message::ScopeSpans
                | Message::ScopeMetrics
                | Message::ScopeLogs
        )
    }
}
