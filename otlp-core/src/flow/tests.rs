use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::gate::{Capacity, GateOptions, NotTakenCause, WhenFull, gate, gate_with};
use super::*;
use crate::clock::Clock;
use crate::shutdown::Deadline;

const ONE: Weight = Weight { requests: 1, items: 1, bytes: 1 };

fn requests(requests: u64) -> Capacity {
    Capacity { requests: Some(requests), ..Capacity::default() }
}

fn far() -> Deadline {
    Deadline::after(Instant::now(), Duration::from_secs(60))
}

fn dropping(
    when_full: WhenFull,
    capacity: Capacity,
) -> (gate::GateOutlet<u64>, gate::GateInlet<u64>, Arc<Mutex<Vec<u64>>>) {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let options = GateOptions { capacity, when_full, ..GateOptions::default() };
    let (outlet, inlet) = gate_with(options, {
        let dropped = Arc::clone(&dropped);
        move |item| dropped.lock().unwrap().push(item)
    });
    (outlet, inlet, dropped)
}

/// Waits until a condition that another thread brings about holds.
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never came true");
        std::thread::yield_now();
    }
}

#[test]
fn each_limit_counts_and_what_is_held_until_the_permit_goes_counts_too() {
    let all = Capacity { requests: Some(3), items: Some(30), bytes: Some(300) };
    let (outlet, inlet) = gate::<u8>(all);
    let first = outlet.try_reserve(Weight { requests: 1, items: 10, bytes: 100 }).unwrap();
    outlet.send(1, first).unwrap();
    let taken = inlet.try_recv().unwrap();
    for (weight, never) in [
        (Weight { requests: 3, items: 0, bytes: 0 }, false),
        (Weight { requests: 1, items: 21, bytes: 0 }, false),
        (Weight { requests: 1, items: 0, bytes: 201 }, false),
        (Weight { requests: 1, items: 31, bytes: 0 }, true),
        (Weight { requests: u64::MAX, items: u64::MAX, bytes: u64::MAX }, true),
    ] {
        assert_eq!(outlet.try_reserve(weight).unwrap_err(), Full { never }, "{weight:?}");
    }
    assert_eq!(outlet.state().available(), Capacity { requests: Some(2), items: Some(20), bytes: Some(200) });
    drop(taken);
    assert!(outlet.try_reserve(Weight { requests: 3, items: 30, bytes: 300 }).is_ok());
    assert_eq!((outlet.state().held, outlet.state().refused), (Weight::default(), 5));
}

#[test]
fn a_refusing_gate_gives_the_item_back() {
    let (outlet, inlet, dropped) = dropping(WhenFull::Refuse, requests(2));
    outlet.offer(1, ONE).unwrap();
    outlet.offer(2, ONE).unwrap();
    let back = outlet.offer(3, ONE).unwrap_err();
    assert_eq!((back.item, back.cause), (3, NotTakenCause::Full));
    let back = outlet.offer(4, Weight { requests: 3, ..ONE }).unwrap_err();
    assert_eq!((back.item, back.cause), (4, NotTakenCause::TooLarge));
    assert_eq!((outlet.state().refused, outlet.state().dropped), (2, 0));
    drop(inlet);
    let back = outlet.offer(5, ONE).unwrap_err();
    assert_eq!((back.item, back.cause), (5, NotTakenCause::Closed));
    assert!(dropped.lock().unwrap().is_empty());
}

#[test]
fn drop_newest_drops_what_comes() {
    let (outlet, inlet, dropped) = dropping(WhenFull::DropNewest, requests(2));
    for item in 1..=4 {
        outlet.offer(item, ONE).unwrap();
    }
    assert_eq!(*dropped.lock().unwrap(), [3, 4]);
    assert_eq!([inlet.try_recv().unwrap().item, inlet.try_recv().unwrap().item], [1, 2]);
    assert_eq!((outlet.state().dropped, outlet.state().refused), (2, 0));
}

#[test]
fn drop_oldest_drops_as_many_of_those_that_wait_as_are_needed() {
    let capacity = Capacity { items: Some(10), ..Capacity::default() };
    let (outlet, inlet, dropped) = dropping(WhenFull::DropOldest, capacity);
    let items = |items| Weight { requests: 1, items, bytes: 0 };
    for item in 1..=3 {
        outlet.offer(item, items(3)).unwrap();
    }
    let working = inlet.try_recv().unwrap();
    outlet.offer(4, items(5)).unwrap();
    assert_eq!(*dropped.lock().unwrap(), [2, 3]);
    // All of the room that is left belongs to what is being worked on and to what makes way: then what comes is dropped.
    outlet.offer(5, items(8)).unwrap();
    assert_eq!(*dropped.lock().unwrap(), [2, 3, 4, 5]);
    assert_eq!(outlet.state().dropped, 4);
    drop(working);
    outlet.offer(6, items(8)).unwrap();
    assert_eq!(inlet.try_recv().unwrap().item, 6);
}

#[test]
fn what_waits_goes_with_the_last_inlet() {
    let item = Arc::new(());
    let (outlet, inlet) = gate(requests(2));
    outlet.offer(Arc::clone(&item), ONE).unwrap();
    let permit = outlet.try_reserve(ONE).unwrap();
    drop(inlet.clone());
    assert_eq!(Arc::strong_count(&item), 2);
    drop(inlet);
    assert_eq!(Arc::strong_count(&item), 1, "what waited is gone");
    assert!(outlet.send(Arc::clone(&item), permit).is_err());
    assert_eq!(outlet.offer(item, ONE).unwrap_err().cause, NotTakenCause::Closed);
    assert_eq!(outlet.state().held, Weight::default());
}

#[test]
fn a_blocking_gate_waits_for_room_and_counts_the_time() {
    let (outlet, inlet, _) = dropping(WhenFull::Block, requests(1));
    outlet.offer(1, ONE).unwrap();
    assert_eq!(outlet.offer(2, ONE).unwrap_err().cause, NotTakenCause::Full);
    let now = Deadline::after(Instant::now(), Duration::from_millis(2));
    assert_eq!(outlet.offer_deadline(3, ONE, now).unwrap_err().item, 3);
    assert!(outlet.state().blocked >= Duration::from_millis(2));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| outlet.offer_deadline(4, ONE, far()).is_ok());
        until(|| outlet.state().waiting == 1);
        let before = outlet.state().blocked;
        until(|| outlet.state().blocked > before);
        assert_eq!(inlet.try_recv().unwrap().item, 1);
        assert!(sender.join().unwrap());
    });
    assert_eq!(inlet.try_recv().unwrap().item, 4);
    assert_eq!((outlet.state().refused, outlet.state().waiting), (2, 0));
}

#[test]
fn who_waits_is_served_in_order_and_nobody_overtakes() {
    let capacity = Capacity { items: Some(10), ..Capacity::default() };
    let (outlet, inlet) = gate::<u64>(capacity);
    let items = |items| Weight { requests: 1, items, bytes: 0 };
    let small = outlet.try_reserve(items(2)).unwrap();
    let served = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (index, weight) in [10, 1, 5].into_iter().enumerate() {
            let (outlet, served) = (&outlet, &served);
            scope.spawn(move || {
                let permit = outlet.reserve_deadline(items(weight), far()).unwrap();
                served.lock().unwrap().push(weight);
                drop(permit);
            });
            until(|| outlet.state().waiting == index + 1);
        }
        // There is room for one, but who waits for ten was first.
        assert_eq!(outlet.try_reserve(items(1)).unwrap_err(), Full { never: false });
        drop(small);
    });
    // The ten come first, alone; the one and the five fit together and may report in either order.
    assert_eq!(served.lock().unwrap()[0], 10);
    assert_eq!(outlet.state().held, Weight::default());
    drop(inlet);
}

#[test]
fn one_who_gives_up_lets_the_next_one_have_the_room() {
    let capacity = Capacity { items: Some(10), ..Capacity::default() };
    let (outlet, _inlet) = gate::<u64>(capacity);
    let items = |items| Weight { requests: 1, items, bytes: 0 };
    let held = outlet.try_reserve(items(5)).unwrap();
    std::thread::scope(|scope| {
        let impatient = scope.spawn(|| {
            let soon = Deadline::after(Instant::now(), Duration::from_millis(50));
            outlet.reserve_deadline(items(9), soon).is_err()
        });
        // On a busy machine it may have given up before it is seen waiting.
        until(|| outlet.state().waiting == 1 || impatient.is_finished());
        let patient = scope.spawn(|| outlet.reserve_deadline(items(5), far()).is_ok());
        assert!(impatient.join().unwrap());
        assert!(patient.join().unwrap());
    });
    drop(held);
}

#[test]
fn who_waits_is_told_when_nobody_will_take_any_more() {
    let (outlet, inlet, _) = dropping(WhenFull::Block, requests(1));
    let _held = outlet.try_reserve(ONE).unwrap();
    std::thread::scope(|scope| {
        let offer = scope.spawn(|| outlet.offer_deadline(1, ONE, Deadline::NEVER).unwrap_err().cause);
        let reserve = scope.spawn(|| outlet.reserve_deadline(ONE, Deadline::NEVER).unwrap_err());
        until(|| outlet.state().waiting == 2);
        drop(inlet);
        assert_eq!(offer.join().unwrap(), NotTakenCause::Closed);
        assert_eq!(reserve.join().unwrap(), Full { never: true });
    });
}

#[test]
fn a_rate_lets_through_its_count_and_names_the_time_to_come_back() {
    let clock = Clock::simulated();
    let rate = RateLimit { capacity: Some(5), ..RateLimit::per_second(RateUnit::Items, 10) };
    let options =
        GateOptions { capacity: requests(3), rate: Some(rate), when_full: WhenFull::Refuse, clock: clock.clone() };
    let (outlet, inlet) = gate_with(options, |_: u64| {});
    let four = Weight { requests: 1, items: 4, bytes: 0 };
    outlet.offer(1, four).unwrap();
    let back = outlet.offer(2, four).unwrap_err();
    assert_eq!(back.cause, NotTakenCause::RateLimited { retry_after: Duration::from_millis(300) });
    assert_eq!(outlet.state().held, four, "the room is given back");
    clock.advance(Duration::from_millis(300));
    outlet.offer(2, four).unwrap();
    // A full gate takes nothing from the rate.
    outlet.offer(3, Weight { items: 0, ..four }).unwrap();
    clock.advance(Duration::from_millis(400));
    for _ in 0..5 {
        assert_eq!(outlet.offer(4, four).unwrap_err().cause, NotTakenCause::Full);
    }
    drop(inlet.try_recv());
    outlet.offer(4, four).unwrap();
    assert_eq!((outlet.state().rate_limited, outlet.state().refused), (1, 5));
}

#[test]
fn nothing_makes_way_for_what_the_rate_does_not_let_through() {
    let clock = Clock::simulated();
    let rate = RateLimit { capacity: Some(2), ..RateLimit::per_second(RateUnit::Requests, 1) };
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let options = GateOptions { capacity: requests(1), rate: Some(rate.clone()), when_full, clock: clock.clone() };
        let (outlet, inlet) = gate_with(options, |_: u64| {});
        outlet.offer(1, ONE).unwrap();
        outlet.offer(2, ONE).unwrap();
        assert_eq!(outlet.state().dropped, 1);
        if when_full == WhenFull::DropOldest {
            let back = outlet.offer(3, ONE).unwrap_err();
            assert_eq!(back.cause, NotTakenCause::RateLimited { retry_after: Duration::from_secs(1) });
            assert_eq!((inlet.try_recv().unwrap().item, outlet.state().dropped), (2, 1));
        } else {
            // What is dropped at once takes nothing from the rate.
            assert_eq!(inlet.try_recv().unwrap().item, 1);
            outlet.offer(3, ONE).unwrap();
            assert!(outlet.offer(4, ONE).is_ok() && outlet.state().dropped == 2);
        }
    }
}

#[test]
fn each_cause_tells_the_sender_what_to_do() {
    use crate::outcome::{Code, Failure, Reason, Retry};
    let wait = Duration::from_millis(300);
    for (cause, code, reason, retry) in [
        (NotTakenCause::Full, Code::Unavailable, Reason::QUEUE_FULL, Retry::Backoff),
        (NotTakenCause::Closed, Code::Unavailable, Reason::SHUTDOWN, Retry::Backoff),
        (NotTakenCause::TooLarge, Code::ResourceExhausted, Reason::TOO_LARGE, Retry::Never),
        (
            NotTakenCause::RateLimited { retry_after: wait },
            Code::ResourceExhausted,
            Reason::RATE_LIMIT,
            Retry::After(wait),
        ),
    ] {
        let failure = Failure::from(cause);
        assert_eq!((failure.code, failure.reason, failure.retry), (code, reason, retry));
    }
}

#[test]
fn many_threads_share_one_rate_exactly() {
    for algorithm in [RateAlgorithm::TokenBucket, RateAlgorithm::SlidingWindow] {
        let clock = Clock::simulated();
        let limit = RateLimit { algorithm, ..RateLimit::per_second(RateUnit::Items, 1000) };
        let limiter = Limiter::new(limit, clock.clone());
        let taken = AtomicU64::new(0);
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            if limiter.try_take(ONE).is_ok() {
                                taken.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!((taken.into_inner(), limiter.refused()), (3000, 3 * 3000 - 3000), "{algorithm:?}");
    }
}

#[test]
fn a_blocking_gate_waits_for_the_rate() {
    let rate = RateLimit { capacity: Some(1), ..RateLimit::per_second(RateUnit::Requests, 1000) };
    let options = GateOptions { rate: Some(rate), when_full: WhenFull::Block, ..GateOptions::default() };
    let (outlet, inlet) = gate_with(options, |_: u64| {});
    let start = Instant::now();
    for item in 0..20 {
        outlet.offer_deadline(item, ONE, far()).unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(19), "one at once and nineteen a millisecond apart");
    assert!(outlet.state().blocked > Duration::ZERO);
    assert_eq!(inlet.len(), 20);
    let slow = RateLimit { capacity: Some(1), ..RateLimit::per_second(RateUnit::Requests, 1) };
    let options = GateOptions { rate: Some(slow), when_full: WhenFull::Block, ..GateOptions::default() };
    let (outlet, _inlet) = gate_with(options, |_: u64| {});
    outlet.offer(1, ONE).unwrap();
    let soon = Deadline::after(Instant::now(), Duration::from_millis(2));
    let back = outlet.offer_deadline(2, ONE, soon).unwrap_err();
    assert!(matches!(back.cause, NotTakenCause::RateLimited { .. }), "{:?}", back.cause);
    assert_eq!(outlet.state().held.requests, 1);
}

#[test]
fn joined_permits_hold_the_items_of_both_and_one_place() {
    let (outlet, _inlet) = gate::<u64>(Capacity { requests: Some(2), items: Some(10), bytes: None });
    let mut one = outlet.try_reserve(Weight { requests: 1, items: 4, bytes: 7 }).unwrap();
    let two = outlet.try_reserve(Weight { requests: 1, items: 5, bytes: 7 }).unwrap();
    one.join(two);
    assert_eq!(outlet.state().held, Weight { requests: 1, items: 9, bytes: 14 });
    drop(one);
    assert_eq!(outlet.state().held, Weight::default());
}

/// A gate that closes while many send: each item is given back to somebody or dropped, none stays in the channel.
#[test]
fn nothing_stays_in_a_gate_that_closes_while_others_send() {
    for _ in 0..50 {
        let item = Arc::new(());
        let (outlet, inlet) = gate(requests(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (outlet, item) = (outlet.clone(), Arc::clone(&item));
                scope.spawn(move || while outlet.offer(Arc::clone(&item), ONE).is_ok() {});
            }
            scope.spawn(|| {
                let _ = inlet.recv_deadline(far());
                drop(inlet);
            });
        });
        assert_eq!((Arc::strong_count(&item), outlet.state().held), (1, Weight::default()));
    }
}

/// Many senders and takers on a small gate, for every policy: what is held never exceeds the capacity, and every item is
/// taken, dropped or given back, exactly once.
#[test]
fn many_threads_lose_nothing_and_never_exceed_the_capacity() {
    const SENDERS: u64 = 6;
    const EACH: u64 = 2000;
    for when_full in [WhenFull::Block, WhenFull::Refuse, WhenFull::DropOldest, WhenFull::DropNewest] {
        let capacity = Capacity { requests: Some(4), items: Some(20), bytes: None };
        let (outlet, inlet, dropped) = dropping(when_full, capacity);
        let seen = Mutex::new(Vec::new());
        let back = Mutex::new(Vec::new());
        let (holding, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let senders = AtomicUsize::new(SENDERS as usize);
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (outlet, back, senders) = (outlet.clone(), &back, &senders);
                scope.spawn(move || {
                    let mut state = sender + 1;
                    for item in sender * EACH..(sender + 1) * EACH {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let weight = Weight { requests: 1, items: 1 + (state >> 60), bytes: 0 };
                        let result = match state >> 40 & 3 {
                            0 => outlet.offer(item, weight),
                            _ => outlet.offer_deadline(item, weight, far()),
                        };
                        if let Err(not_taken) = result {
                            assert_eq!(not_taken.cause, NotTakenCause::Full);
                            back.lock().unwrap().push(not_taken.item);
                        }
                        let held = outlet.state().held;
                        assert!(held.requests <= 4 && held.items <= 20, "{held:?}");
                    }
                    senders.fetch_sub(1, Ordering::SeqCst);
                });
            }
            for _ in 0..3 {
                let (inlet, seen, holding, most) = (inlet.clone(), &seen, &holding, &most);
                scope.spawn(move || {
                    while let Ok(admitted) = inlet.recv_deadline(far()) {
                        let items = admitted.permit.weight().items;
                        let now = holding.fetch_add(items, Ordering::SeqCst) + items;
                        most.fetch_max(now, Ordering::SeqCst);
                        seen.lock().unwrap().push(admitted.item);
                        holding.fetch_sub(items, Ordering::SeqCst);
                    }
                });
            }
            drop(outlet);
        });
        let state = inlet.state();
        assert_eq!(state.held, Weight::default(), "{when_full:?}");
        assert!(most.into_inner() <= 20);
        let (seen, back, dropped) = (seen.into_inner().unwrap(), back.into_inner().unwrap(), dropped.lock().unwrap());
        assert_eq!((state.refused, state.dropped), (back.len() as u64, dropped.len() as u64), "{when_full:?}");
        match when_full {
            WhenFull::Block | WhenFull::Refuse => assert_eq!(state.dropped, 0),
            WhenFull::DropOldest | WhenFull::DropNewest => assert_eq!(state.refused, 0),
        }
        let mut all = [&seen[..], &back, &dropped].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..SENDERS * EACH), "{when_full:?}: each item exactly once");
    }
}
