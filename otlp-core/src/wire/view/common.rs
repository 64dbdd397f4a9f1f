//! Resource, scope, and the envelopes around items: the same numbers in every signal.

use super::field::{FromField, List, Strings, view};
use super::{KeyValueView, LogRecordView, MetricView, SpanView};

/// The envelopes of an `Export*ServiceRequest`, in order.
pub fn resources(body: &[u8]) -> List<'_, ResourceItemsView<'_>> {
    List::read(body, 1)
}

view! {
    /// `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`: items of one resource.
    ResourceItemsView {
        /// What produced the items, where the sender said it.
        resource: Option<ResourceView<'a>> = 1,
        /// `scope_spans`, `scope_metrics` or `scope_logs`.
        scopes: List<'a, ScopeItemsView<'a>> = 2,
        /// The schema that the resource follows.
        schema_url: &'a str = 3,
    }
}

view! {
    /// `ScopeSpans`, `ScopeMetrics` or `ScopeLogs`: items of one scope. Only the accessor of the request's own signal
    /// means anything.
    ScopeItemsView {
        /// What recorded the items, where the sender said it.
        scope: Option<ScopeView<'a>> = 1,
        /// The items of a traces request.
        spans: List<'a, SpanView<'a>> = 2,
        /// The metrics of a metrics request.
        metrics: List<'a, MetricView<'a>> = 2,
        /// The items of a logs request.
        log_records: List<'a, LogRecordView<'a>> = 2,
        /// The schema that the items follow.
        schema_url: &'a str = 3,
    }
}

view! {
    /// What produced telemetry (OTLP, Resource).
    ResourceView {
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 1,
        /// Attributes that the sender left out.
        dropped_attributes_count: u32 = 2,
        /// Entities of which the attributes are a description (Development).
        entity_refs: List<'a, EntityRefView<'a>> = 3,
    }
}

view! {
    /// An entity that takes part in a resource (Development).
    EntityRefView {
        /// The schema that the entity follows.
        schema_url: &'a str = 1,
        /// The entity's type, such as `host`.
        entity_type: &'a str = 2,
        /// Keys of the attributes that identify it.
        id_keys: Strings<'a> = 3,
        /// Keys of the attributes that describe it.
        description_keys: Strings<'a> = 4,
    }
}

view! {
    /// What recorded telemetry (OTLP, InstrumentationScope).
    ScopeView {
        /// The name of the library.
        name: &'a str = 1,
        /// Its version.
        version: &'a str = 2,
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 3,
        /// Attributes that the sender left out.
        dropped_attributes_count: u32 = 4,
    }
}
