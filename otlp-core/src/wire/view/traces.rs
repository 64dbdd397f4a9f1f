//! Span, event, link, status.

use super::KeyValueView;
use super::field::{List, view};

view! {
    /// A span.
    SpanView {
        /// 16 bytes, unless the sender erred: kept as they came.
        trace_id: &'a [u8] = 1,
        /// 8 bytes, unless the sender erred: kept as they came.
        span_id: &'a [u8] = 2,
        /// The W3C tracestate header.
        trace_state: &'a str = 3,
        /// Empty for a root span.
        parent_span_id: &'a [u8] = 4,
        /// W3C trace flags in the lowest eight bits, then whether the parent is remote.
        flags: u32 = 16,
        /// The operation.
        name: &'a str = 5,
        /// 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer; others are kept.
        kind: i32 = 6,
        /// Nanoseconds since 1970.
        start_time_unix_nano: u64 = 7,
        /// Nanoseconds since 1970.
        end_time_unix_nano: u64 = 8,
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 9,
        /// Attributes that the sender left out.
        dropped_attributes_count: u32 = 10,
        /// Events, in order.
        events: List<'a, EventView<'a>> = 11,
        /// Events that the sender left out.
        dropped_events_count: u32 = 12,
        /// Links, in order.
        links: List<'a, LinkView<'a>> = 13,
        /// Links that the sender left out.
        dropped_links_count: u32 = 14,
        /// The status. Absent means unset, as a status with code 0 does.
        status: Option<StatusView<'a>> = 15,
    }
}

view! {
    /// Something that happened during a span.
    EventView {
        /// Nanoseconds since 1970.
        time_unix_nano: u64 = 1,
        /// What happened.
        name: &'a str = 2,
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 3,
        /// Attributes that the sender left out.
        dropped_attributes_count: u32 = 4,
    }
}

view! {
    /// A pointer to another span.
    LinkView {
        /// 16 bytes, unless the sender erred.
        trace_id: &'a [u8] = 1,
        /// 8 bytes, unless the sender erred.
        span_id: &'a [u8] = 2,
        /// The W3C tracestate header.
        trace_state: &'a str = 3,
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 4,
        /// Attributes that the sender left out.
        dropped_attributes_count: u32 = 5,
        /// As [`SpanView::flags`].
        flags: u32 = 6,
    }
}

view! {
    /// How a span ended.
    StatusView {
        /// For a person.
        message: &'a str = 2,
        /// 0 unset, 1 ok, 2 error; others are kept.
        code: i32 = 3,
    }
}
