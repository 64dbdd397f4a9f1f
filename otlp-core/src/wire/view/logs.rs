//! Log record.

use super::field::{List, view};
use super::{AnyValue, KeyValueView};

view! {
    /// A log record.
    LogRecordView {
        /// Nanoseconds since 1970; 0 where the source gave none.
        time_unix_nano: u64 = 1,
        /// When the first observer saw it, in nanoseconds since 1970.
        observed_time_unix_nano: u64 = 11,
        /// 1 (trace) to 24 (fatal4); 0 unspecified; others are kept.
        severity_number: i32 = 2,
        /// The severity as the source wrote it.
        severity_text: &'a str = 3,
        /// What was logged. Absent is not the same as empty.
        body: Option<AnyValue<'a>> = 5,
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 6,
        /// Attributes that the sender left out.
        dropped_attributes_count: u32 = 7,
        /// W3C trace flags in the lowest eight bits.
        flags: u32 = 8,
        /// 16 bytes, or empty where it belongs to no trace.
        trace_id: &'a [u8] = 9,
        /// 8 bytes, or empty where it belongs to no span.
        span_id: &'a [u8] = 10,
        /// The name of the event that it is, if it is one.
        event_name: &'a str = 12,
    }
}
