//! filter, map and partition: item by item.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use otlp_core::component::{Outlet, Processor};
use otlp_core::testing::sinks::{Answer, CollectingOutlet};
use otlp_core::testing::{generate, verify};
use otlp_core::wire::edit::Value;
use otlp_core::wire::{Limits, validate};
use otlp_core::{Code, Signal};
use proptest::prelude::*;
use prost::Message;

use super::super::*;
use super::*;

fn apply(processor: &impl Processor, batch: Batch) -> Option<Batch> {
    processor.transform().unwrap().apply(batch).unwrap()
}

fn traces(body: &Bytes) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(body.clone()).unwrap()
}

fn is_valid(batch: &Batch) {
    let checked = validate(batch.signal(), batch.body(), &Limits::default()).unwrap();
    assert_eq!((checked.canonical, checked.items), (true, batch.items()));
}

/// Removes spans as the filter should; scopes and resources that were emptied go, those that were empty stay.
fn retain_spans(request: &mut ExportTraceServiceRequest, keep: impl Fn(&Span) -> bool) {
    request.resource_spans.retain_mut(|resource| {
        let had = !resource.scope_spans.is_empty();
        resource.scope_spans.retain_mut(|scope| {
            let had = !scope.spans.is_empty();
            scope.spans.retain(&keep);
            !had || !scope.spans.is_empty()
        });
        !had || !resource.scope_spans.is_empty()
    });
}

fn spans(request: &mut ExportTraceServiceRequest) -> impl Iterator<Item = &mut Span> {
    let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
    scopes.flat_map(|scope| &mut scope.spans)
}

fn duration(span: &Span) -> Duration {
    Duration::from_nanos(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano))
}

fn pair(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn filter_is_decode_retain_encode(seed in any::<u64>(), items in 1usize..80, quantile in 0usize..80) {
        let batch = generate::batch(Signal::Traces, seed, items);
        let mut expected = traces(batch.body());
        let mut durations: Vec<_> = spans(&mut expected).map(|span| duration(span)).collect();
        durations.sort();
        let least = durations[quantile % durations.len()];
        retain_spans(&mut expected, |span| duration(span) >= least);
        let left = apply(&filter(move |item| item.duration() >= least), batch).unwrap();
        is_valid(&left);
        prop_assert_eq!(traces(left.body()), expected);
    }

    #[test]
    fn map_is_decode_change_encode(seed in any::<u64>(), items in 1usize..60, every in 1u64..5) {
        let batch = generate::batch(Signal::Traces, seed, items);
        let mut expected = traces(batch.body());
        for span in spans(&mut expected) {
            if span.start_time_unix_nano % every == 0 {
                span.name = format!("renamed {}", span.name);
                span.attributes.push(pair("added", span.start_time_unix_nano as i64));
            }
            if span.start_time_unix_nano % (every + 1) == 0 {
                span.name.clear();
            }
        }
        let changed = apply(&map(move |item| {
            let otlp_core::wire::view::ItemView::Span(span) = item.view() else { panic!("a span") };
            let start = span.start_time_unix_nano();
            if start % every == 0 {
                let name = format!("renamed {}", item.name());
                assert!(item.set_name(&name));
                assert_eq!(item.name(), name);
                item.attributes().append("added", &Value::int(start as i64));
            }
            if start % (every + 1) == 0 {
                item.set_name("");
            }
        }), batch).unwrap();
        is_valid(&changed);
        prop_assert_eq!(traces(changed.body()), expected);
    }

    /// Both parts together are the whole, each is what the filter would leave, and the sender hears once.
    #[test]
    fn a_partition_is_two_filters(seed in any::<u64>(), items in 1usize..60, modulus in 1u64..4) {
        let (batch, heard) = asked(generate::batch(Signal::Traces, seed, items), AckMode::Exported);
        let body = batch.body().clone();
        let matches = move |item: Item<'_>| item.span().unwrap().start_time_unix_nano().is_multiple_of(modulus);
        let (yes, no) = (CollectingOutlet::new(), CollectingOutlet::new());
        partition(matches, Arc::new(yes.clone()), Arc::new(no.clone())).try_send(batch).unwrap();
        prop_assert_eq!(heard.try_iter().collect::<Vec<_>>(), [Outcome::Delivered]);
        for (outlet, kept) in [(yes, true), (no, false)] {
            let mut expected = traces(&body);
            retain_spans(&mut expected, |span| span.start_time_unix_nano.is_multiple_of(modulus) == kept);
            let count = spans(&mut expected).count() as u64;
            prop_assert_eq!(outlet.items(), ItemCount(count));
            match outlet.taken().as_slice() {
                [] => prop_assert_eq!(count, 0),
                [seen] => prop_assert_eq!(traces(&seen.body), expected),
                more => prop_assert!(false, "{} batches", more.len()),
            }
        }
    }
}

/// By what they encode to: a NaN is equal to nothing.
fn is_same(batch: &Batch, expected: &ExportTraceServiceRequest) -> bool {
    traces(batch.body()).encode_to_vec() == expected.encode_to_vec()
}

/// Odd but legal shapes: names given twice or not at all, fields in any order, unknown ones between.
#[test]
fn ugly_requests_are_renamed_and_filtered_as_others() {
    let (mut renamed, mut removed) = (0, 0);
    for seed in 0..u64::from(cases()) * 10 {
        let Ok((batch, _)) = Batch::check(Signal::Traces, generate::ugly(Signal::Traces, seed), &Limits::default())
        else {
            continue;
        };
        if batch.items() == ItemCount::ZERO {
            continue;
        }
        let mut expected = traces(batch.body());
        for span in spans(&mut expected) {
            if span.kind % 2 == 0 {
                span.name.push('!');
                renamed += 1;
            }
        }
        let rename = map(|item| {
            let otlp_core::wire::view::ItemView::Span(span) = item.view() else { panic!("a span") };
            if span.kind() % 2 == 0 {
                let name = format!("{}!", item.name());
                item.set_name(&name);
            }
        });
        let changed = apply(&rename, batch).unwrap();
        is_valid(&changed);
        assert!(is_same(&changed, &expected), "seed {seed}");
        let whole = changed.items();
        retain_spans(&mut expected, |span| span.name.ends_with('!'));
        if let Some(left) = apply(&filter(|item| item.name().ends_with('!')), changed) {
            is_valid(&left);
            assert!(is_same(&left, &expected), "seed {seed}");
            removed += (whole - left.items()).get();
        }
    }
    assert!(renamed > 0 && removed > 0, "{renamed} renamed, {removed} removed");
}

#[test]
fn an_item_knows_what_it_stands_in() {
    for signal in Signal::ALL {
        let batch = generate::batch(signal, 5, 40);
        let mut seen = 0;
        batch.walk(|item| {
            let item = Item::of(item);
            let kinds = [item.span().is_some(), item.point().is_some(), item.log_record().is_some()];
            assert_eq!(kinds, Signal::ALL.map(|of| of == signal));
            assert_eq!(item.metric().is_some(), signal == Signal::Metrics);
            assert!(item.resource().attributes().next().is_some());
            assert!(!item.scope().name().is_empty());
            let first = item.view().attributes().next();
            if let Some(pair) = first {
                assert_eq!(item.attribute(pair.key()), Some(pair.value()));
            }
            seen += 1;
        });
        assert_eq!(seen, 40);
    }
    let body = generate::request(Signal::Metrics, 3, 30);
    let mut expected: Vec<String> = Vec::new();
    for metric in ExportMetricsServiceRequest::decode(body.clone())
        .unwrap()
        .resource_metrics
        .into_iter()
        .flat_map(|resource| resource.scope_metrics)
        .flat_map(|scope| scope.metrics)
    {
        let points = match metric.data.unwrap() {
            Data::Gauge(data) => data.data_points.len(),
            Data::Sum(data) => data.data_points.len(),
            Data::Histogram(data) => data.data_points.len(),
            Data::ExponentialHistogram(data) => data.data_points.len(),
            Data::Summary(data) => data.data_points.len(),
        };
        expected.extend(std::iter::repeat_n(metric.name, points));
    }
    let mut names = Vec::new();
    otlp_core::wire::walk(Signal::Metrics, &body, |item| names.push(Item::of(item).name().to_owned()));
    assert_eq!(names, expected);
}

#[test]
fn events_are_renamed_and_data_points_are_not() {
    let logs = generate::batch(Signal::Logs, 9, 20);
    let mut expected = ExportLogsServiceRequest::decode(logs.body().clone()).unwrap();
    let scopes = expected.resource_logs.iter_mut().flat_map(|resource| &mut resource.scope_logs);
    for record in scopes.flat_map(|scope| &mut scope.log_records) {
        record.event_name = "device.boot".into();
    }
    let named = apply(&map(|item| assert!(item.set_name("device.boot"))), logs).unwrap();
    is_valid(&named);
    assert_eq!(ExportLogsServiceRequest::decode(named.body().clone()).unwrap(), expected);

    let metrics = generate::batch(Signal::Metrics, 9, 20);
    let body = metrics.body().clone();
    let same = apply(&map(|item| assert!(!item.set_name("x"))), metrics).unwrap();
    assert_eq!(same.body().as_ptr(), body.as_ptr());
}

#[test]
fn what_is_not_changed_keeps_its_bytes_and_what_is_unknown_survives() {
    let batch = generate::batch(Signal::Traces, 1, 30);
    let pointer = batch.body().as_ptr();
    let batch = apply(&filter(|_| true), batch).unwrap();
    let batch = apply(&map(|item| assert!(item.set_name(&String::from(item.name())))), batch).unwrap();
    assert_eq!(batch.body().as_ptr(), pointer);
    // A span with an unknown field before, and one after, its name given twice.
    let span = [0x98, 6, 1, 0x2a, 1, b'a', 0x2a, 1, b'b', 0x9a, 6, 1, b'?'];
    let body = [&[0x0a, 17, 0x12, 15, 0x12, 13][..], &span].concat();
    let batch = Batch::trusted(Signal::Traces, ItemCount(1), body.into());
    let named = apply(&map(|item| assert!(item.set_name("new"))), batch).unwrap();
    let renamed = [0x98, 6, 1, 0x2a, 3, b'n', b'e', b'w', 0x9a, 6, 1, b'?'];
    assert_eq!(named.body()[..], [&[0x0a, 16, 0x12, 14, 0x12, 12][..], &renamed].concat());
}

#[test]
fn a_filter_and_a_map_keep_the_contract() {
    for signal in Signal::ALL {
        verify::processor(signal, || filter(|_| true));
        verify::processor(signal, || filter(|_| false));
        verify::processor(signal, || map(|item| item.attributes().upsert("k", &Value::bool(true))));
    }
    // Names are `item-N`: half of the batches go.
    verify::processor(Signal::Traces, || filter(|item| item.name().len() % 2 == 0));
}

#[test]
fn what_a_filter_removes_is_counted_as_removed() {
    let mut end = End::new(Signal::Traces);
    let mut chain = crate::Chain::new(vec![Box::new(filter(|item| item.name() != "item-1"))]);
    for mark in [1, 2] {
        let body = verify::request(Signal::Traces, 3, mark);
        let batch = Batch::trusted(Signal::Traces, ItemCount(3), body);
        let offered = batch.ticket().offered();
        match chain.prefix().apply(batch).unwrap() {
            Some(batch) => chain.process_tail(batch, &mut end).unwrap(),
            None => end.removed(offered),
        }
    }
    end.settle(&Outcome::Delivered);
    assert_eq!(end.books(), [6, 3, 3, 0]);
}

#[test]
fn a_partition_that_is_refused_comes_back_whole_or_by_the_part_that_is_left() {
    let failure = Failure::refused(Reason::QUEUE_FULL, "full");
    let by_mark = |item: Item<'_>| item.name() == "item-1";
    let both = || {
        let body = [verify::request(Signal::Traces, 2, 1), verify::request(Signal::Traces, 3, 2)].concat();
        asked(Batch::trusted(Signal::Traces, ItemCount(5), body.into()), AckMode::Exported)
    };
    let refusing = || CollectingOutlet::answering([], Answer::Refuse(failure.clone()));

    let (batch, heard) = both();
    let (yes, no) = (refusing(), CollectingOutlet::new());
    let refused = partition(by_mark, Arc::new(yes), Arc::new(no.clone())).try_send(batch).unwrap_err();
    assert_eq!((refused.batch.items(), no.calls()), (ItemCount(5), 0));
    assert!(heard.try_recv().is_err(), "nobody has decided yet");
    refused.batch.settle(failure.clone().into());
    assert_eq!(heard.try_recv(), Ok(failure.clone().into()));

    let (batch, heard) = both();
    let (yes, no) =
        (CollectingOutlet::new(), CollectingOutlet::answering([Answer::Full], Answer::Settle(Outcome::Delivered)));
    let split = partition(by_mark, Arc::new(yes.clone()), Arc::new(no.clone()));
    let refused = split.try_send(batch).unwrap_err();
    assert_eq!((refused.hold, refused.batch.items(), yes.items()), (true, ItemCount(3), ItemCount(2)));
    assert!(heard.try_recv().is_err());
    split.try_send(*refused.batch).unwrap();
    assert_eq!((yes.items(), no.items()), (ItemCount(2), ItemCount(3)), "each item once");
    assert_eq!(heard.try_recv(), Ok(Outcome::Delivered));

    // The answer is the worse of the two.
    let rejected = Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "no");
    let (batch, heard) = both();
    let no = CollectingOutlet::answering([], Answer::Settle(rejected.clone().into()));
    partition(by_mark, Arc::new(CollectingOutlet::new()), Arc::new(no)).try_send(batch).unwrap();
    assert_eq!(heard.try_recv(), Ok(rejected.into()));
}
