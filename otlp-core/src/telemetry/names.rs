//! Every metric we expose, in one table: the Collector's own names where it has one, ours beside them.
//!
//! A name, once released, is somebody's dashboard: `names.txt` is the table as it was agreed on, and a test compares them.
//! `{signal}` in a name stands for [`crate::Signal::metric_suffix`].

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, or sizes, in buckets.
    Histogram,
}

/// A metric's entry in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Without the unit and type suffixes that the Prometheus reader may add.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The unit, as the Collector writes it.
    pub unit: &'static str,
    /// One line.
    pub help: &'static str,
}

macro_rules! names {
    ($($ident:ident = $kind:ident $name:literal [$unit:literal] $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: Name = Name { name: $name, kind: Kind::$kind, unit: $unit, help: $help };)*

        /// The whole table.
        pub const ALL: &[Name] = &[$($ident),*];
    };
}

names! {
    RECEIVER_ACCEPTED = Counter "otelcol_receiver_accepted_{signal}" ["{item}"] "Items that the sender was told are taken.";
    RECEIVER_REFUSED = Counter "otelcol_receiver_refused_{signal}" ["{item}"] "Items that could not be handed to the pipeline.";
    RECEIVER_FAILED = Counter "otelcol_receiver_failed_{signal}" ["{item}"] "Items that the receiver itself failed on.";
    EXPORTER_SENT = Counter "otelcol_exporter_sent_{signal}" ["{item}"] "Items that the destination confirmed.";
    EXPORTER_SEND_FAILED = Counter "otelcol_exporter_send_failed_{signal}" ["{item}"] "Items in failed attempts to send, after all retries.";
    EXPORTER_ENQUEUE_FAILED = Counter "otelcol_exporter_enqueue_failed_{signal}" ["{item}"] "Items for which the sending queue had no room.";
    EXPORTER_QUEUE_SIZE = Gauge "otelcol_exporter_queue_size" ["{batch}"] "What the sending queue holds, in units of its sizer.";
    EXPORTER_QUEUE_CAPACITY = Gauge "otelcol_exporter_queue_capacity" ["{batch}"] "What the sending queue can hold, in units of its sizer.";
    EXPORTER_IN_FLIGHT = Gauge "otelcol_exporter_in_flight_requests" ["{request}"] "Requests being sent or waiting to be sent again.";
    PROCESSOR_INCOMING = Counter "otelcol_processor_incoming_items" ["{item}"] "Items passed to the processor.";
    PROCESSOR_OUTGOING = Counter "otelcol_processor_outgoing_items" ["{item}"] "Items emitted by the processor.";
    MEMORY_LIMITER_ACCEPTED = Counter "otelcol_processor_memory_limiter_accepted_{signal}" ["{item}"] "Items let through.";
    MEMORY_LIMITER_REFUSED = Counter "otelcol_processor_memory_limiter_refused_{signal}" ["{item}"] "Items refused because of high memory usage.";
    BATCH_SEND_SIZE = Histogram "otelcol_processor_batch_batch_send_size" ["{unit}"] "Items in a batch that was sent.";
    BATCH_SIZE_TRIGGER = Counter "otelcol_processor_batch_batch_size_trigger_send" ["{time}"] "Batches sent because of their size.";
    BATCH_TIMEOUT_TRIGGER = Counter "otelcol_processor_batch_timeout_trigger_send" ["{time}"] "Batches sent because of the timeout.";
    BATCH_CARDINALITY = Gauge "otelcol_processor_batch_metadata_cardinality" ["{combination}"] "Distinct combinations of metadata values.";
    PROCESS_UPTIME = Counter "otelcol_process_uptime" ["s"] "Time since the start.";
    PROCESS_CPU_SECONDS = Counter "otelcol_process_cpu_seconds" ["s"] "CPU time, user and system.";
    PROCESS_MEMORY_RSS = Gauge "otelcol_process_memory_rss" ["By"] "Resident memory.";
    RECEIVER_REQUESTS = Counter "otlpd_receiver_requests" ["{request}"] "Requests by outcome.";
    RECEIVER_BYTES = Counter "otlpd_receiver_bytes" ["By"] "Body bytes as they came over the wire.";
    RECEIVER_FAILURES = Counter "otlpd_receiver_failures" ["{request}"] "Requests not taken, by reason.";
    RECEIVER_DURATION = Histogram "otlpd_receiver_duration" ["s"] "From the first byte of a request to its answer.";
    RECEIVER_DURATION_MIN = Gauge "otlpd_receiver_duration_min" ["s"] "The shortest of the last minute.";
    RECEIVER_DURATION_MAX = Gauge "otlpd_receiver_duration_max" ["s"] "The longest of the last minute.";
    RECEIVER_CONNECTIONS = Gauge "otlpd_receiver_connections" ["{connection}"] "Open connections.";
    RECEIVER_CONNECTIONS_OPENED = Counter "otlpd_receiver_connections_opened" ["{connection}"] "Connections accepted.";
    RECEIVER_INVALID_IDS = Counter "otlpd_receiver_invalid_ids" ["{item}"] "Items with a trace or span id of the wrong length or all zero; passed on unchanged.";
    PIPELINE_REQUESTS = Counter "otlpd_pipeline_requests" ["{request}"] "Batches processed.";
    PIPELINE_BYTES = Counter "otlpd_pipeline_bytes" ["By"] "Bytes processed, uncompressed.";
    PIPELINE_FAILURES = Counter "otlpd_pipeline_failures" ["{request}"] "Batches refused or rejected by the processing stage, by reason.";
    PIPELINE_DURATION = Histogram "otlpd_pipeline_duration" ["s"] "Time a batch spent in the chain of processors.";
    PIPELINE_DURATION_MIN = Gauge "otlpd_pipeline_duration_min" ["s"] "The shortest of the last minute.";
    PIPELINE_DURATION_MAX = Gauge "otlpd_pipeline_duration_max" ["s"] "The longest of the last minute.";
    EXPORTER_REQUESTS = Counter "otlpd_exporter_requests" ["{request}"] "Requests sent, retries included.";
    EXPORTER_BYTES = Counter "otlpd_exporter_bytes" ["By"] "Body bytes sent, as they went over the wire, retries included.";
    EXPORTER_FAILURES = Counter "otlpd_exporter_failures" ["{request}"] "Failed attempts, by reason.";
    EXPORTER_DURATION = Histogram "otlpd_exporter_duration" ["s"] "Time of one attempt.";
    EXPORTER_DURATION_MIN = Gauge "otlpd_exporter_duration_min" ["s"] "The shortest of the last minute.";
    EXPORTER_DURATION_MAX = Gauge "otlpd_exporter_duration_max" ["s"] "The longest of the last minute.";
    EXPORTER_CONNECTIONS_OPENED = Counter "otlpd_exporter_connections_opened" ["{connection}"] "Connections opened.";
    EXPORTER_CONNECTIONS_REUSED = Counter "otlpd_exporter_connections_reused" ["{request}"] "Requests sent over a connection that was open already.";
    GATE_CAPACITY = Gauge "otlpd_gate_capacity" ["1"] "What a gate can hold.";
    GATE_HELD = Gauge "otlpd_gate_held" ["1"] "What a gate holds.";
    GATE_AVAILABLE = Gauge "otlpd_gate_available" ["1"] "What a gate has room for.";
    GATE_BLOCKED = Counter "otlpd_gate_blocked" ["s"] "Time spent waiting for room, all senders together.";
    GATE_REFUSED = Counter "otlpd_gate_refused" ["{request}"] "Batches for which there was no room.";
    GATE_RATE_LIMITED = Counter "otlpd_gate_rate_limited" ["{request}"] "Batches that came faster than the configured rate.";
    GATE_DROPPED = Counter "otlpd_gate_dropped" ["{request}"] "Batches dropped to make room, as configured.";
    GATE_WAITING = Gauge "otlpd_gate_waiting" ["{thread}"] "Senders that wait for room.";
    MEMORY_BUDGET_LIMIT = Gauge "otlpd_memory_budget_limit" ["By"] "The memory budget.";
    MEMORY_BUDGET_RESERVED = Gauge "otlpd_memory_budget_reserved" ["By"] "What is reserved of it.";
    MEMORY_BUDGET_REFUSED = Counter "otlpd_memory_budget_refused" ["{request}"] "Reservations for which there was no room.";
    THREAD_RESTARTS = Counter "otlpd_thread_restarts" ["{restart}"] "Times a thread was begun again after a panic.";
    BOOKS_ACCEPTED = Counter "otlpd_books_accepted" ["{item}"] "Items accepted by a pipeline.";
    BOOKS_REMOVED = Counter "otlpd_books_removed" ["{item}"] "Items removed by processors, as configured.";
    BOOKS_REFUSED = Counter "otlpd_books_refused" ["{item}"] "Items never accepted, by reason.";
    BOOKS_HELD = Gauge "otlpd_books_held" ["{item}"] "Items held, before the queues (no destination) or for a destination.";
    BOOKS_EXPORTED = Counter "otlpd_books_exported" ["{item}"] "Items that a destination confirmed.";
    BOOKS_REJECTED = Counter "otlpd_books_rejected" ["{item}"] "Items that a destination will never take, by reason.";
    BOOKS_DROPPED = Counter "otlpd_books_dropped" ["{item}"] "Items accepted and lost, by reason.";
    BOOKS_MAYBE_DUPLICATED = Counter "otlpd_books_maybe_duplicated" ["{item}"] "Items exported after their sender was told to send again.";
}

impl Name {
    /// The entries under which the smallest and the largest value of a histogram's last minute are shown, where the table
    /// has them. The Prometheus format has no place for them in the histogram itself.
    pub fn extremes(self) -> Option<(Name, Name)> {
        let find = |suffix: &str| ALL.iter().copied().find(|name| name.name.strip_suffix(suffix) == Some(self.name));
        Some((find("_min")?, find("_max")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_was_agreed_on() {
        let table: String =
            ALL.iter().map(|name| format!("{} {:?} {} {}\n", name.name, name.kind, name.unit, name.help)).collect();
        let agreed = include_str!("names.txt");
        for (ours, agreed) in table.lines().zip(agreed.lines()) {
            assert_eq!(ours, agreed, "a released name is changed on purpose, and in names.txt as well");
        }
        assert_eq!(table.lines().count(), agreed.lines().count(), "a new name goes into names.txt as well");
    }

    #[test]
    fn names_are_unique_and_in_the_form_that_prometheus_takes() {
        for (index, name) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != name.name), "{} twice", name.name);
            let plain = name.name.replace("{signal}", "x");
            assert!(plain.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{plain}");
            assert!(name.help.ends_with('.') && !name.unit.is_empty());
        }
    }

    #[test]
    fn every_histogram_of_durations_has_its_extremes() {
        for name in ALL.iter().filter(|name| name.kind == Kind::Histogram && name.unit == "s") {
            let (min, max) = name.extremes().unwrap();
            assert_eq!((min.unit, max.unit), ("s", "s"));
        }
        assert_eq!(BATCH_SEND_SIZE.extremes(), None);
    }
}
