use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::component::{Downstream, Processor};
use otlp_core::flow::gate::{Capacity, GateInlet, GateOutlet, Place, Room, Weight, gate};
use otlp_core::telemetry::Registry;
use otlp_core::telemetry::ledger::Ledger;
use otlp_core::telemetry::registry::SampleValue;
use otlp_core::testing::{generate, verify};
use otlp_core::{Ack, AckMode, Batch, Clock, Context, Failure, Group, ItemCount, Reason, Signal};
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// One byte an item, so that bytes can be split without knowing OTLP and tell who they are.
fn batch(first: u8, items: usize) -> Batch {
    let body: Vec<u8> = (0..items).map(|index| first.wrapping_add(index as u8)).collect();
    Batch::trusted(Signal::Traces, ItemCount::from(items), Bytes::from(body))
}

fn split(batch: &mut Batch, items: ItemCount) -> Option<Batch> {
    let at = items.get() as usize;
    let (first, rest) = (batch.body().slice(..at), batch.body().slice(at..));
    Some(batch.split_off(items, first, rest))
}

/// A downstream with one destination behind a real gate, and books.
struct Sink {
    clock: Clock,
    ledger: Arc<Ledger>,
    outlet: GateOutlet<Group>,
    _inlet: GateInlet<Group>,
    groups: Vec<Group>,
    idle: bool,
}

impl Sink {
    fn new(items: Option<u64>) -> Sink {
        let (outlet, inlet) = gate(Capacity { requests: Some(4000), items, bytes: None });
        Sink {
            clock: Clock::simulated(),
            ledger: Ledger::new("traces", Signal::Traces, ["a"]),
            outlet,
            _inlet: inlet,
            groups: Vec::new(),
            idle: false,
        }
    }

    fn reserve(&self, weight: Weight) -> Result<Room, Failure> {
        match self.outlet.try_reserve(weight) {
            Ok(permit) => Ok(Room { permits: [Place::Permit(permit)].into_iter().collect() }),
            Err(_) => Err(Failure::refused(Reason::QUEUE_FULL, "sending queue is full")),
        }
    }

    /// What left so far, as bytes a group.
    fn left(&self) -> Vec<Vec<u8>> {
        self.groups.iter().map(|group| group.joined().to_vec()).collect()
    }

    fn held(&self) -> u64 {
        self.ledger.page().held.get()
    }
}

impl Downstream for Sink {
    fn emit(&mut self, group: Group) {
        let mut group = group;
        if group.room_mut().is_none() {
            let room = match self.reserve(group.weight()) {
                Ok(room) => room,
                Err(failure) => {
                    for part in group.into_parts() {
                        let ledger = Arc::clone(&self.ledger);
                        refuse(part, &ledger, failure.clone());
                    }
                    return;
                }
            };
            group.join_room(room);
            for part in group.parts_mut() {
                let items = part.items();
                part.ticket_mut().accept(&self.ledger, items);
            }
        }
        self.groups.push(group);
    }

    fn hold(&mut self, batch: &mut Batch, joins: bool) -> Result<Room, Failure> {
        self.hold_split(batch, u64::from(!joins))
    }

    fn hold_split(&mut self, batch: &mut Batch, begins: u64) -> Result<Room, Failure> {
        let room = self.reserve(Weight { requests: begins, ..batch.weight() })?;
        let items = batch.items();
        batch.ticket_mut().accept(&self.ledger, items);
        batch.ticket_mut().queued();
        Ok(room)
    }

    fn is_idle(&self) -> bool {
        self.idle
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }
}

fn refuse(batch: Batch, ledger: &Ledger, failure: Failure) {
    let mut batch = batch;
    std::mem::replace(batch.ticket_mut(), otlp_core::Ticket::new(ItemCount::ZERO, Ack::nobody()))
        .refuse(ledger, failure);
}

fn config(size: u32, max: u32) -> Config {
    Config { send_batch_size: size, send_batch_max_size: max, ..Config::default() }
}

fn processor(config: Config) -> BatchProcessor {
    BatchProcessor::with_split("batch", config, split, &Registry::new()).unwrap()
}

/// Offers batches of these sizes, numbered through, and says what left.
fn run(config: Config, sizes: &[usize]) -> (Vec<usize>, u64) {
    let (mut processor, mut sink) = (processor(config), Sink::new(None));
    let mut next = 0u8;
    for &size in sizes {
        processor.process(batch(next, size), &mut sink).unwrap();
        next = next.wrapping_add(size as u8);
    }
    let joined: Vec<u8> = sink.left().concat();
    assert!(joined.iter().enumerate().all(|(index, &byte)| index as u8 == byte), "order is kept");
    (sink.left().iter().map(Vec::len).collect(), sink.held())
}

#[test]
fn groups_leave_at_their_size_and_are_split_above_the_maximum() {
    for (size, max, offered, left) in [
        (10, 0, &[9][..], &[][..]),
        (10, 0, &[10], &[10]),
        (10, 0, &[9, 1], &[10]),
        (10, 0, &[9, 5], &[14]),
        (10, 0, &[35], &[35]),
        (10, 10, &[9, 5], &[10]),
        (10, 10, &[9, 11], &[10, 10]),
        (10, 10, &[35], &[10, 10, 10]),
        (10, 12, &[9, 5], &[12]),
        (10, 12, &[9, 15], &[12, 12]),
        (10, 12, &[9, 13], &[12, 10]),
        (0, 0, &[1, 3], &[1, 3]),
        (0, 2, &[1, 3], &[1, 2, 1]),
    ] {
        let (found, held) = run(config(size, max), offered);
        assert_eq!(found, left, "size {size}, maximum {max}, offered {offered:?}");
        let total: usize = offered.iter().sum();
        let gone: usize = left.iter().sum();
        assert_eq!(held, total as u64, "nothing is settled yet, {gone} of {total} left");
    }
}

#[test]
fn without_a_timeout_everything_goes_straight_through() {
    let straight = |max| Config { timeout: Duration::ZERO, send_batch_max_size: max, ..Config::default() };
    assert_eq!(run(straight(0), &[1, 2, 3]).0, [1, 2, 3]);
    assert_eq!(run(straight(8192), &[20, 1]).0, [20, 1]);
}

#[test]
fn a_group_leaves_when_its_first_batch_is_old() {
    let (mut processor, mut sink) = (processor(Config::default()), Sink::new(None));
    assert_eq!(processor.tick(&mut sink), None);
    let began = sink.clock.now();
    processor.process(batch(0, 3), &mut sink).unwrap();
    sink.clock.advance(150 * MS);
    processor.process(batch(3, 2), &mut sink).unwrap();
    assert_eq!(processor.tick(&mut sink), Some(began + 200 * MS));
    sink.clock.advance(50 * MS);
    assert_eq!(processor.tick(&mut sink), None);
    assert_eq!(sink.left(), [[0, 1, 2, 3, 4]]);
}

#[test]
fn flush_lets_all_go_in_the_order_in_which_groups_were_begun() {
    let keyed = Config { metadata_keys: vec!["Tenant".into()], ..Config::default() };
    let (mut processor, mut sink) = (processor(keyed), Sink::new(None));
    for (first, tenant) in [(0, "b"), (10, "a"), (20, "b")] {
        processor.process(of_tenant(batch(first, 1), Some(tenant)), &mut sink).unwrap();
        sink.clock.advance(MS);
    }
    processor.flush(&mut sink);
    assert_eq!(sink.left(), [vec![0, 20], vec![10]]);
}

fn of_tenant(batch: Batch, tenant: Option<&str>) -> Batch {
    let metadata = tenant.map(|tenant| ("tenant".to_owned(), tenant.to_owned())).into_iter().collect();
    batch.with_context(Arc::new(Context { metadata, ..Context::default() }))
}

#[test]
fn one_combination_of_metadata_too_many_is_rejected() {
    let keyed = Config { metadata_keys: vec!["tenant".into()], metadata_cardinality_limit: 2, ..Config::default() };
    let (mut processor, mut sink) = (processor(keyed), Sink::new(None));
    processor.process(of_tenant(batch(0, 1), None), &mut sink).unwrap();
    processor.process(of_tenant(batch(1, 1), Some("a")), &mut sink).unwrap();
    let refused = processor.process(of_tenant(batch(2, 1), Some("b")), &mut sink).unwrap_err();
    assert_eq!(&*refused.failure.message, "too many batcher metadata-value combinations");
    assert_eq!((refused.failure.reason, refused.failure.is_retryable()), (Reason::CARDINALITY, false));
    processor.process(of_tenant(batch(3, 1), Some("a")), &mut sink).unwrap();
    processor.flush(&mut sink);
    assert_eq!(sink.left(), [vec![0], vec![1, 3]]);
}

#[test]
fn a_sender_who_waits_for_the_queue_hears_at_once_and_one_who_waits_for_the_export_does_not() {
    for (mode, hears) in [(AckMode::Queued, true), (AckMode::Stored, false), (AckMode::Exported, false)] {
        let (mut processor, mut sink) = (processor(Config::default()), Sink::new(None));
        let (sender, heard) = crossbeam_channel::unbounded();
        let ack = Ack::new(mode, move |outcome| drop(sender.send(outcome)));
        processor.process(batch(0, 1).with_ack(ack), &mut sink).unwrap();
        assert_eq!(heard.try_recv().is_ok(), hears, "{mode:?}");
    }
}

#[test]
fn a_group_leaves_early_only_when_every_open_request_waits_in_it() {
    for (mode, idle, leaves) in [
        (AckMode::Exported, true, true),
        (AckMode::Stored, true, true),
        (AckMode::Exported, false, false),
        (AckMode::Queued, true, false),
    ] {
        let (mut processor, mut sink) = (processor(Config::default()), Sink::new(None));
        sink.idle = idle;
        processor.process(batch(0, 1).with_ack(Ack::new(mode, |_| {})), &mut sink).unwrap();
        let next = processor.tick(&mut sink);
        assert_eq!((sink.groups.len() == 1, next.is_none()), (leaves, leaves), "{mode:?}, idle {idle}");
    }
}

#[test]
fn what_is_held_leaves_where_the_queue_has_no_room_for_more() {
    let (mut processor, mut sink) = (processor(Config::default()), Sink::new(Some(10)));
    processor.process(batch(0, 8), &mut sink).unwrap();
    // Refused, but now what was held is on its way and will make room.
    processor.process(batch(8, 8), &mut sink).unwrap();
    assert_eq!(sink.left(), [[0, 1, 2, 3, 4, 5, 6, 7]]);
    let page = sink.ledger.page();
    assert_eq!((page.accepted, page.refused[&Reason::QUEUE_FULL]), (ItemCount(8), ItemCount(8)));
    sink.groups.clear();
    processor.process(batch(16, 8), &mut sink).unwrap();
    assert_eq!(sink.held() + page.accepted.get(), 16);
}

#[test]
fn a_batch_that_would_be_split_is_taken_whole_or_not_at_all() {
    let (mut processor, mut sink) = (processor(config(4, 4)), Sink::new(Some(10)));
    let refused = processor.process(batch(0, 11), &mut sink).unwrap_err();
    assert_eq!(refused.batch.items(), ItemCount(11));
    assert_eq!(sink.ledger.page().accepted, ItemCount::ZERO);
    processor.process(batch(0, 10), &mut sink).unwrap();
    assert_eq!(sink.left(), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    assert_eq!(sink.outlet.state().held, Weight { requests: 3, items: 10, bytes: 10 });
}

#[test]
fn a_group_leaves_before_it_would_be_too_large_for_a_collector() {
    let large = |first| Batch::trusted(Signal::Traces, ItemCount(1), Bytes::from(vec![first; 9 << 20]));
    let (mut processor, mut sink) = (processor(Config::default()), Sink::new(None));
    processor.process(large(1), &mut sink).unwrap();
    assert!(sink.groups.is_empty());
    processor.process(large(2), &mut sink).unwrap();
    assert_eq!(sink.groups.len(), 1);
    assert_eq!(sink.groups[0].items(), ItemCount(1));
}

#[test]
fn sends_are_counted_by_their_trigger() {
    let registry = Registry::new();
    let mut processor = BatchProcessor::new("batch/2", config(2, 0), &registry).unwrap();
    let mut sink = Sink::new(None);
    processor.process(batch(0, 2), &mut sink).unwrap();
    processor.process(batch(2, 1), &mut sink).unwrap();
    sink.clock.advance(200 * MS);
    processor.tick(&mut sink);
    for (name, value) in [
        ("otelcol_processor_batch_batch_size_trigger_send", 1.0),
        ("otelcol_processor_batch_timeout_trigger_send", 1.0),
        ("otelcol_processor_batch_metadata_cardinality", 1.0),
    ] {
        let found = registry.samples().into_iter().find(|sample| sample.name == name).unwrap();
        assert_eq!((found.value, &found.labels[0].1[..]), (SampleValue::Number(value), "batch/2"), "{name}");
    }
    let sizes = registry.samples().into_iter().find(|sample| sample.name.ends_with("batch_send_size")).unwrap();
    assert!(matches!(sizes.value, SampleValue::Histogram { count: 2, sum, .. } if sum == 3.0));
}

#[test]
fn otlp_of_every_signal_is_split_at_the_maximum_and_stays_valid() {
    for signal in Signal::ALL {
        let mut processor = BatchProcessor::new("batch", config(100, 100), &Registry::new()).unwrap();
        let mut sink = Sink::new(None);
        for seed in 0..7 {
            processor.process(generate::batch(signal, seed, 90), &mut sink).unwrap();
        }
        processor.flush(&mut sink);
        let sizes: Vec<u64> = sink.groups.iter().map(|group| group.items().get()).collect();
        let total: u64 = (0..7).map(|seed| generate::batch(signal, seed, 90).items().get()).sum();
        assert_eq!(sizes.iter().sum::<u64>(), total, "{signal}");
        assert!(sizes[..sizes.len() - 1].iter().all(|&size| size == 100), "{signal}: {sizes:?}");
        for group in &sink.groups {
            let checked = wire::validate(signal, &group.joined(), &wire::Limits::default()).unwrap();
            assert_eq!(checked.items, group.items(), "{signal}");
        }
    }
}

#[test]
fn the_contract_is_kept() {
    for config in [config(10, 0), config(10, 12), config(0, 0), Config::default()] {
        for signal in Signal::ALL {
            verify::processor(signal, || BatchProcessor::new("batch", config.clone(), &Registry::new()).unwrap());
        }
    }
}

#[test]
fn a_wrong_key_is_named() {
    let keys =
        |keys: &[&str]| Config { metadata_keys: keys.iter().map(|&key| key.to_owned()).collect(), ..Config::default() };
    for (key, config) in [
        ("", Config::default()),
        ("", config(10, 10)),
        ("", keys(&["a", "b"])),
        ("send_batch_max_size", config(10, 9)),
        ("send_batch_max_size", Config { send_batch_max_size: 8191, ..Config::default() }),
        ("metadata_keys", keys(&["tenant", "b", "Tenant"])),
    ] {
        assert_eq!(config.check().err().map_or_else(String::new, |error| error.key), key, "{config:?}");
    }
}

proptest! {
    /// Whatever comes: order and counts are kept, no group is larger than it may be or smaller than it must, places in
    /// the queue are exactly those of the groups, and the books balance.
    #[test]
    fn nothing_is_lost_or_turned_around(
        size in 0u32..20,
        extra in 0u32..20,
        bounded in any::<bool>(),
        sizes in prop::collection::vec((1usize..50, 0u64..150), 1..40),
    ) {
        let max = if bounded { (size + extra).max(1) } else { 0 };
        let (mut processor, mut sink) = (processor(config(size, max)), Sink::new(None));
        let mut offered: Vec<u8> = Vec::new();
        let mut ages: VecDeque<Instant> = VecDeque::new();
        for (items, pause) in sizes {
            let first = offered.len() as u8;
            offered.extend((0..items).map(|index| first.wrapping_add(index as u8)));
            ages.extend(std::iter::repeat_n(sink.clock.now(), items));
            processor.process(batch(first, items), &mut sink).unwrap();
            sink.clock.advance(pause as u32 * MS);
            let next = processor.tick(&mut sink);
            let left: usize = sink.groups.iter().map(|group| group.items().get() as usize).sum();
            match ages.get(left) {
                Some(&oldest) => prop_assert_eq!(next, Some(oldest + 200 * MS)),
                None => prop_assert_eq!(next, None),
            }
            prop_assert!(next.is_none_or(|next| next > sink.clock.now()));
            prop_assert!(offered.len() - left < size.max(1) as usize);
            prop_assert_eq!(sink.ledger.page().balance(), Ok(()));
        }
        processor.flush(&mut sink);
        prop_assert_eq!(sink.left().concat(), offered.clone());
        for group in &sink.groups {
            prop_assert!(max == 0 || group.items().get() <= u64::from(max));
            prop_assert!(group.items().get() > 0);
        }
        let held = Weight { requests: sink.groups.len() as u64, items: offered.len() as u64, bytes: offered.len() as u64 };
        prop_assert_eq!(sink.outlet.state().held, held);
        sink.groups.clear();
        prop_assert_eq!(sink.outlet.state().held, Weight::default());
    }
}
