//! The batcher by table and against random input, and the queue's accounts.

use std::time::Duration;

use bytes::Bytes;
use otlp_core::flow::gate::{Admitted, gate};
use otlp_core::{Clock, Context, Group, ItemCount, Signal, shutdown};
use proptest::prelude::*;

use super::batcher::Batcher;
use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// One part for each item, each a span that says which it is, so that groups can be cut anywhere.
fn group(first: u64, items: u64, tenant: &str) -> Group {
    let mut group = Group::new(Signal::Traces);
    let context =
        std::sync::Arc::new(Context { metadata: vec![("tenant".into(), tenant.into())], ..Context::default() });
    for number in first..first + items {
        let body = Bytes::copy_from_slice(&number.to_le_bytes());
        group.push(otlp_core::Batch::trusted(Signal::Traces, ItemCount(1), body).with_context(context.clone()));
    }
    group
}

fn numbers(group: &Group) -> Vec<u64> {
    group.parts().iter().map(|part| u64::from_le_bytes(part.body()[..8].try_into().unwrap())).collect()
}

fn config(min_size: u64, max_size: u64) -> Batch {
    Batch { min_size, max_size, ..Batch::default() }
}

#[test]
fn every_wrong_value_is_named() {
    assert_eq!(Config::default().check(), Ok(()));
    let batch = |batch| Config { batch: Some(batch), ..Config::default() };
    let small = || Batch { min_size: 10, ..Batch::default() };
    for (key, wrong) in [
        ("num_consumers", Config { num_consumers: 0, ..Config::default() }),
        ("queue_size", Config { queue_size: 0, ..Config::default() }),
        ("wait_for_result", Config { wait_for_result: true, storage: Some("disk".into()), ..Config::default() }),
        ("batch::flush_timeout", batch(Batch { flush_timeout: Duration::ZERO, ..small() })),
        ("batch::sizer", batch(Batch { sizer: Sizer::Requests, ..small() })),
        ("batch::max_size", batch(Batch { max_size: 9, ..small() })),
        ("batch::min_size", Config { sizer: Sizer::Items, ..batch(Batch::default()) }),
        (
            "batch::partition::metadata_keys",
            batch(Batch { partition_metadata_keys: vec!["A".into(), "a".into()], ..small() }),
        ),
    ] {
        assert_eq!(wrong.check().unwrap_err().key.replace("::names", ""), key);
        assert_eq!(Config { enabled: false, ..wrong }.check(), Ok(()), "{key}");
    }
    assert_eq!(Config { storage: Some("disk".into()), ..Config::default() }.unbuilt(), Some("sending_queue::storage"));
    assert_eq!(Config::default().unbuilt(), None);
}

#[test]
fn batches_leave_by_size_by_age_and_at_the_end() {
    let clock = Clock::simulated();
    let (outlet, _inlet) = gate::<Group>(otlp_core::flow::gate::Capacity { requests: Some(100), ..Default::default() });
    let admit = |group: Group| {
        let permit = outlet.try_reserve(group.weight()).unwrap();
        Admitted { item: group, permit }
    };
    let mut batcher = Batcher::new(config(10, 15));
    batcher.add(admit(group(0, 6, "")), clock.now());
    assert!(batcher.next(clock.now(), false).is_none());
    assert_eq!(batcher.due(), Some(clock.now() + Duration::from_millis(200)));
    batcher.add(admit(group(6, 12, "")), clock.now());
    // 6 and 12 are more than 15 together: the first leaves alone, though it is small.
    let first = batcher.next(clock.now(), false).unwrap();
    assert_eq!(numbers(&first.group).len(), 6);
    let second = batcher.next(clock.now(), false).unwrap();
    assert_eq!(numbers(&second.group).len(), 12);
    assert!(batcher.is_empty() && batcher.due().is_none());
    assert_eq!(outlet.state().held.requests, 2);
    drop((first, second));
    assert_eq!(outlet.state().held.requests, 0);

    batcher.add(admit(group(0, 40, "")), clock.now());
    let sizes: Vec<_> =
        std::iter::from_fn(|| batcher.next(clock.now(), false)).map(|entry| numbers(&entry.group).len()).collect();
    assert_eq!(sizes, [15, 15, 10]);
    assert_eq!(outlet.state().held.requests, 0);

    batcher.add(admit(group(0, 3, "")), clock.now());
    clock.advance(MILLISECOND * 199);
    assert!(batcher.next(clock.now(), false).is_none());
    clock.advance(MILLISECOND);
    assert_eq!(numbers(&batcher.next(clock.now(), false).unwrap().group), [0, 1, 2]);

    batcher.add(admit(group(0, 1, "")), clock.now());
    assert!(batcher.next(clock.now(), true).is_some() && batcher.next(clock.now(), true).is_none());
}

#[test]
fn what_came_with_other_metadata_is_not_joined() {
    let clock = Clock::simulated();
    let keys = vec!["Tenant".to_owned()];
    let mut batcher = Batcher::new(Batch { partition_metadata_keys: keys, ..config(4, 0) });
    let (outlet, _inlet) = gate::<Group>(otlp_core::flow::gate::Capacity { requests: Some(100), ..Default::default() });
    let mut mixed = group(0, 2, "a");
    mixed.append(group(2, 1, "b"));
    for group in [mixed, group(3, 3, "b"), group(6, 1, "a")] {
        let permit = outlet.try_reserve(group.weight()).unwrap();
        batcher.add(Admitted { item: group, permit }, clock.now());
    }
    assert_eq!(numbers(&batcher.next(clock.now(), false).unwrap().group), [2, 3, 4, 5]);
    assert!(batcher.next(clock.now(), false).is_none());
    assert_eq!(outlet.state().held.requests, 2, "the mixed group's place is held by what is left of it");
    assert_eq!(numbers(&batcher.next(clock.now(), true).unwrap().group), [0, 1, 6]);
    assert_eq!(outlet.state().held.requests, 0);
}

#[test]
fn a_large_group_is_cut_by_bytes() {
    let clock = Clock::simulated();
    let limit = 20_000;
    let batch = otlp_core::testing::generate::batch(Signal::Logs, 3, 200);
    let (items, size) = (batch.items(), batch.size().get());
    assert!(size > 2 * limit);
    let config = Batch { sizer: Sizer::Bytes, min_size: limit, max_size: limit, ..Batch::default() };
    let mut batcher = Batcher::new(config);
    let (outlet, _inlet) = gate::<Group>(otlp_core::flow::gate::Capacity { requests: Some(9), ..Default::default() });
    let permit = outlet.try_reserve(batch.weight()).unwrap();
    batcher.add(Admitted { item: Group::of(batch), permit }, clock.now());
    let entries: Vec<Entry> = std::iter::from_fn(|| batcher.next(clock.now(), true)).collect();
    assert!(entries.len() as u64 >= size / limit);
    assert!(entries.iter().all(|entry| entry.group.size().get() <= limit));
    assert_eq!(entries.iter().map(|entry| entry.group.items()).sum::<ItemCount>(), items);
    assert_eq!(outlet.state().held.requests, 1);
    drop(entries);
    assert_eq!(outlet.state().held.requests, 0);
}

#[derive(Clone, Debug)]
enum Action {
    Push(u64),
    Take,
    Release(usize),
    Advance(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1u64..30).prop_map(Action::Push),
        4 => Just(Action::Take),
        2 => (0usize..8).prop_map(Action::Release),
        1 => (0u64..300).prop_map(Action::Advance),
    ]
}

#[test]
fn the_queue_is_bounded_by_bytes_as_well_and_what_is_larger_alone_has_it_alone() {
    let weight = |bytes| Weight { requests: 1, items: 1, bytes };
    let new = |config| Queue::new(&config, Clock::simulated());
    for sizer in [Sizer::Requests, Sizer::Items] {
        let queue = new(Config { sizer, memory_max: Some(ByteSize(100)), ..Config::default() });
        let first = queue.try_reserve(weight(60)).unwrap();
        assert_eq!(queue.try_reserve(weight(41)).map(drop), Err(Full { never: false }));
        let second = queue.try_reserve(weight(40)).unwrap();
        drop(first);
        assert!(queue.can_hold(weight(1000)));
        assert_eq!(queue.try_reserve(weight(1000)).map(drop), Err(Full { never: false }));
        drop(second);
        let large = queue.try_reserve(weight(1000)).unwrap();
        assert!(queue.try_reserve(weight(1)).is_err());
        drop(large);
        assert_eq!(queue.state().held, Weight::default());
    }
    let endless = new(Config { memory_max: None, ..Config::default() });
    assert!(endless.try_reserve(weight(u64::MAX)).is_ok());
    let by_bytes = new(Config { sizer: Sizer::Bytes, memory_max: Some(ByteSize(100)), ..Config::default() });
    let _most = by_bytes.try_reserve(weight(1000)).unwrap();
    assert!(!by_bytes.can_hold(weight(1001)));
}

proptest! {
    #[test]
    fn the_queue_is_a_list_with_an_exact_limit(
        actions in prop::collection::vec(action(), 1..80),
        queue_size in 1u64..40,
        items_sizer: bool,
        batch in prop::option::of((0u64..25, 0u64..40)),
    ) {
        let sizer = if items_sizer { Sizer::Items } else { Sizer::Requests };
        let batch = batch.map(|(min, max)| config(min, if max == 0 { 0 } else { max.max(min) }));
        let clock = Clock::simulated();
        let queue = Queue::new(&Config { queue_size, sizer, batch: batch.clone(), ..Config::default() }, clock.clone());
        let (mut stopper, stop) = shutdown::stop();
        let weigh = |items: u64| if items_sizer { items } else { 1 };
        // The model: what each place stands for, and the numbers in order.
        let (mut next_number, mut waiting, mut taken) = (0u64, Vec::new(), Vec::<(Entry, Vec<u64>)>::new());
        let mut places: Vec<(std::ops::Range<u64>, u64)> = Vec::new();
        let mut seen: u64 = 0;
        let held = |places: &[(std::ops::Range<u64>, u64)]| places.iter().map(|(_, weight)| weight).sum::<u64>();
        let release = |entry: (Entry, Vec<u64>), places: &mut Vec<(std::ops::Range<u64>, u64)>, left: &[u64]| {
            drop(entry.0);
            places.retain(|(range, _)| left.iter().any(|number| range.contains(number)));
        };
        for action in actions {
            match action {
                Action::Push(items) => {
                    let group = group(next_number, items, "");
                    let expected = held(&places) + weigh(items) <= queue_size;
                    match queue.try_reserve(group.weight()) {
                        Ok(permit) => {
                            prop_assert!(expected);
                            places.push((next_number..next_number + items, weigh(items)));
                            waiting.extend(next_number..next_number + items);
                            next_number += items;
                            prop_assert!(queue.push(group, permit).is_ok());
                        }
                        Err(full) => {
                            prop_assert!(!expected);
                            prop_assert_eq!(full.never, weigh(items) > queue_size);
                        }
                    }
                }
                Action::Take => {
                    let Next::Entry(entry) = queue.next(&stop, Duration::ZERO) else { continue };
                    let got = numbers(&entry.group);
                    prop_assert_eq!(&got[..], &waiting[..got.len()], "in order, nothing lost, nothing twice");
                    waiting.drain(..got.len());
                    seen += got.len() as u64;
                    if let Some(batch) = &batch {
                        prop_assert!(batch.max_size == 0 || got.len() as u64 <= batch.max_size);
                    }
                    taken.push((entry, got));
                }
                Action::Release(index) if index < taken.len() => {
                    let entry = taken.remove(index);
                    let left: Vec<u64> = waiting.iter().copied().chain(taken.iter().flat_map(|(_, n)| n.iter().copied())).collect();
                    release(entry, &mut places, &left);
                }
                Action::Release(_) => {}
                Action::Advance(ms) => clock.advance(MILLISECOND * ms as u32),
            }
            prop_assert_eq!(queue.size(), (held(&places), queue_size));
        }
        stopper.stop();
        while let Next::Entry(entry) = queue.next(&stop, Duration::ZERO) {
            let got = numbers(&entry.group);
            prop_assert_eq!(&got[..], &waiting[..got.len()]);
            waiting.drain(..got.len());
            seen += got.len() as u64;
        }
        prop_assert_eq!((seen, waiting.len()), (next_number, 0));
        drop(taken);
        prop_assert_eq!(queue.size().0, 0);
    }
}
