//! Reads everything there is to read of a request.

use std::fmt::{self, Debug, Write};

use crate::signal::Signal;
use crate::wire::view::{
    AnyValue, DataView, ExemplarView, KeyValueView, List, MetricView, PointView, ScopeItemsView, SpanView, resources,
};

/// Asks every view for everything, and gives back how many items there were.
pub(super) fn walk(signal: Signal, body: &[u8]) -> u64 {
    let mut items = 0;
    for resource in resources(body) {
        seen(&resource);
        if let Some(resource) = resource.resource() {
            attributes(resource.attributes());
            for entity in resource.entity_refs() {
                seen(&entity);
                entity.id_keys().chain(entity.description_keys()).for_each(|key| seen(&key));
            }
        }
        for scope in resource.scopes() {
            seen(&scope);
            if let Some(scope) = scope.scope() {
                attributes(scope.attributes());
            }
            items += below_scope(signal, scope);
        }
    }
    items
}

fn below_scope(signal: Signal, scope: ScopeItemsView<'_>) -> u64 {
    match signal {
        Signal::Traces => scope.spans().map(span).count() as u64,
        Signal::Metrics => scope.metrics().map(metric).sum(),
        Signal::Logs => {
            let records = scope.log_records().inspect(|record| {
                seen(record);
                attributes(record.attributes());
                if let Some(body) = record.body() {
                    value(&body);
                }
            });
            records.count() as u64
        }
    }
}

fn span(span: SpanView<'_>) {
    seen(&span);
    attributes(span.attributes());
    for event in span.events() {
        seen(&event);
        attributes(event.attributes());
    }
    for link in span.links() {
        seen(&link);
        attributes(link.attributes());
    }
}

fn metric(metric: MetricView<'_>) -> u64 {
    seen(&metric);
    attributes(metric.metadata());
    match metric.data() {
        None => {}
        Some(DataView::Gauge(data)) => seen(&data),
        Some(DataView::Sum(data)) => seen(&data),
        Some(DataView::Histogram(data)) => seen(&data),
        Some(DataView::ExponentialHistogram(data)) => seen(&data),
        Some(DataView::Summary(data)) => seen(&data),
    }
    metric.points().map(point).count() as u64
}

fn point(point: PointView<'_>) {
    seen(&point);
    attributes(point.attributes());
    match point {
        PointView::Number(point) => {
            seen(&point.value());
            point.exemplars().for_each(exemplar);
        }
        PointView::Histogram(point) => {
            seen(&point.bucket_counts().fold(0u64, u64::wrapping_add));
            seen(&point.explicit_bounds().sum::<f64>());
            point.exemplars().for_each(exemplar);
        }
        PointView::ExponentialHistogram(point) => {
            seen(&point.scale());
            for buckets in [point.positive(), point.negative()].into_iter().flatten() {
                seen(&(buckets.offset(), buckets.bucket_counts().fold(0u64, u64::wrapping_add)));
            }
            point.exemplars().for_each(exemplar);
        }
        PointView::Summary(point) => point.quantile_values().for_each(|quantile| seen(&quantile)),
    }
}

fn exemplar(exemplar: ExemplarView<'_>) {
    seen(&exemplar);
    seen(&exemplar.value());
    attributes(exemplar.filtered_attributes());
}

fn attributes<'a>(list: List<'a, KeyValueView<'a>>) {
    for pair in list.clone() {
        seen(&pair);
        assert!(list.get(pair.key()).is_some(), "a name that was read is found");
        value(&pair.value());
    }
}

fn value(any: &AnyValue<'_>) {
    seen(any);
    seen(&(any.kind(), any.to_text().len()));
    match any {
        AnyValue::Array(values) => values.clone().for_each(|any| value(&any)),
        AnyValue::KvList(pairs) => attributes(pairs.clone()),
        _ => {}
    }
}

/// Formatting asks a view for each of its fields.
fn seen(what: &dyn Debug) {
    struct Nowhere;
    impl Write for Nowhere {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            Ok(())
        }
    }
    assert!(write!(Nowhere, "{what:?}").is_ok());
}
