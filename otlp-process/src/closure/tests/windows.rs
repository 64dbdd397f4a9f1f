//! aggregate and retry: what is held, and for how long.

use std::time::Duration;

use otlp_core::component::{Processor, Refused};
use otlp_core::testing::{generate, verify};
use otlp_core::{Code, Deadline, Signal};
use proptest::prelude::*;

use super::super::*;
use super::*;

fn summary(items: u64) -> Batch {
    Batch::trusted(Signal::Traces, ItemCount(items), verify::request(Signal::Traces, items, 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Every window but the last has exactly as many items as asked for, order is kept, and nothing is lost.
    #[test]
    fn windows_are_exact(sizes in prop::collection::vec(1usize..30, 1..20), window in 1u64..40, mode in 0usize..3) {
        let mode = [AckMode::Queued, AckMode::Stored, AckMode::Exported][mode];
        let mut end = End::new(Signal::Traces);
        let mut seen = Vec::new();
        let mut windows = Vec::new();
        let mut heard = Vec::new();
        let mut expected = Vec::new();
        {
            let mut aggregate = aggregate(window, |window: Window<'_>| {
                windows.push(window.items().get());
                window.for_each(|item| seen.push(item.span().unwrap().span_id().to_vec()));
                Aggregated::Keep
            });
            for (seed, &items) in sizes.iter().enumerate() {
                let (batch, answer) = asked(generate::batch(Signal::Traces, seed as u64, items), mode);
                batch.walk(|item| expected.push(Item::of(item).span().unwrap().span_id().to_vec()));
                aggregate.process(batch, &mut end).unwrap();
                heard.push(answer);
            }
            aggregate.flush(&mut end);
        }
        let total = sizes.iter().sum::<usize>() as u64;
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(end.sizes(), windows.clone());
        let (full, rest) = (total / window, total % window);
        let mut exact = vec![window; full as usize];
        exact.extend((rest > 0).then_some(rest));
        prop_assert_eq!(windows, exact);
        end.settle(&Outcome::Delivered);
        prop_assert_eq!(end.books(), [total, 0, total, 0]);
        for answer in heard {
            prop_assert_eq!(answer.try_iter().collect::<Vec<_>>(), [Outcome::Delivered]);
        }
    }
}

#[test]
fn a_summary_takes_the_place_of_its_window_and_everybody_hears_what_becomes_of_it() {
    let failure = Outcome::Failed(Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "no"));
    for outcome in [Outcome::Delivered, failure] {
        let mut end = End::new(Signal::Traces);
        let mut windows = aggregate(10, |_: Window<'_>| Aggregated::Replace(summary(2)));
        let (one, first) = asked(generate::batch(Signal::Traces, 1, 4), AckMode::Exported);
        let (two, second) = asked(generate::batch(Signal::Traces, 2, 9), AckMode::Exported);
        windows.process(one, &mut end).unwrap();
        assert_eq!(end.books(), [4, 0, 0, 4]);
        windows.process(two, &mut end).unwrap();
        assert_eq!((end.sizes(), end.books()), (vec![2], [15, 10, 0, 5]));
        assert!(first.try_recv().is_err() && second.try_recv().is_err(), "nothing has been exported yet");
        end.settle(&outcome);
        assert_eq!(first.try_recv(), Ok(outcome.clone()));
        assert!(second.try_recv().is_err(), "its last items are in the window that is open");
        windows.flush(&mut end);
        end.settle(&outcome);
        assert_eq!(second.try_recv(), Ok(outcome.clone()));
        let exported = if outcome.is_delivered() { 4 } else { 0 };
        assert_eq!(end.books(), [17, 13, exported, 0]);
    }
}

#[test]
fn who_was_promised_a_place_in_a_queue_hears_when_the_window_takes_it() {
    let mut end = End::new(Signal::Traces);
    let mut windows = aggregate(10, |_: Window<'_>| Aggregated::Remove);
    let (batch, heard) = asked(generate::batch(Signal::Traces, 1, 4), AckMode::Queued);
    windows.process(batch, &mut end).unwrap();
    assert_eq!(heard.try_recv(), Ok(Outcome::Delivered));
    windows.flush(&mut end);
    assert!(end.out.is_empty());
    assert_eq!(end.books(), [4, 4, 0, 0]);
}

#[test]
fn a_window_ends_by_age_or_where_there_is_no_room_for_more() {
    let mut end = End::new(Signal::Logs);
    let mut windows = aggregate(100, |_: Window<'_>| Aggregated::Keep).with_age_max(Duration::from_secs(5));
    windows.process(generate::batch(Signal::Logs, 1, 3), &mut end).unwrap();
    let due = windows.tick(&mut end).unwrap();
    assert_eq!(due - end.clock.now(), Duration::from_secs(5));
    end.clock.advance(Duration::from_secs(5));
    assert_eq!((windows.tick(&mut end), end.sizes()), (None, vec![3]));
    windows.process(generate::batch(Signal::Logs, 2, 4), &mut end).unwrap();
    end.full = true;
    let refused = windows.process(generate::batch(Signal::Logs, 3, 5), &mut end).unwrap_err();
    assert_eq!((refused.batch.items(), refused.failure.reason), (ItemCount(5), Reason::QUEUE_FULL));
    assert_eq!(end.sizes(), [3, 4]);
    end.settle(&Outcome::Delivered);
    assert_eq!(end.books(), [7, 0, 7, 0]);
}

#[test]
fn a_batch_of_another_signal_does_not_take_a_windows_place() {
    let mut end = End::new(Signal::Logs);
    let mut windows = aggregate(2, |_: Window<'_>| Aggregated::Replace(summary(1)));
    windows.process(generate::batch(Signal::Logs, 1, 2), &mut end).unwrap();
    assert_eq!(end.sizes(), [2]);
    end.settle(&Outcome::Delivered);
    assert_eq!(end.books(), [2, 0, 2, 0]);
}

fn failing(times: u32) -> impl FnMut(Batch) -> Result<Option<Batch>, Refused> + Send {
    let mut left = times;
    move |batch: Batch| {
        if left == 0 {
            return Ok(Some(batch));
        }
        left -= 1;
        let failure = Failure::refused(Reason::UNAVAILABLE, "not now");
        Err(Refused { batch: Box::new(batch), failure, hold: false })
    }
}

#[test]
fn a_step_is_tried_again_when_it_is_due_and_not_more_often_than_that() {
    for (fails, retried, exported) in [(0, 3, 2), (1, 3, 2), (3, 3, 2), (4, 3, 0), (1, 0, 0)] {
        let mut end = End::new(Signal::Traces);
        let mut step = retry(retries(retried, Duration::from_millis(100)), failing(fails));
        let (batch, heard) = asked(generate::batch(Signal::Traces, 1, 2), AckMode::Exported);
        let result = step.process(batch, &mut end);
        assert_eq!(result.is_err(), retried == 0 && fails > 0, "without a retry it comes back");
        if let Err(refused) = result {
            assert_eq!((refused.batch.items(), refused.failure.reason), (ItemCount(2), Reason::UNAVAILABLE));
            continue;
        }
        let mut ticks = 0;
        while let Some(due) = step.tick(&mut end) {
            assert_eq!(due - end.clock.now(), Duration::from_millis(100), "{fails} failures");
            end.clock.advance(due - end.clock.now());
            ticks += 1;
        }
        assert_eq!(ticks, fails.min(retried));
        end.settle(&Outcome::Delivered);
        let outcome = heard.try_recv().unwrap();
        match exported {
            0 => {
                let Outcome::Failed(failure) = outcome else { panic!("delivered") };
                assert_eq!(failure.reason, Reason::RETRIES_EXHAUSTED);
                assert_eq!(end.ledger.page().destinations[0].dropped_for(Reason::RETRIES_EXHAUSTED), ItemCount(2));
            }
            _ => assert_eq!(outcome, Outcome::Delivered),
        }
        assert_eq!(end.books(), [2, 0, exported, 0]);
    }
}

#[test]
fn what_fails_for_good_is_not_tried_again_and_the_end_is_the_last_attempt() {
    let mut end = End::new(Signal::Traces);
    let mut attempts = 0;
    let mut step = retry(retries(9, Duration::from_secs(1)), |batch: Batch| {
        attempts += 1;
        let failure = Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "never");
        Err(Refused { batch: Box::new(batch), failure, hold: false })
    });
    let refused = step.process(generate::batch(Signal::Traces, 1, 2), &mut end).unwrap_err();
    assert_eq!(refused.failure.reason, Reason::PERMANENT);
    drop(step);
    assert_eq!(attempts, 1);

    let mut step = retry(retries(9, Duration::from_secs(1)), failing(2));
    step.process(generate::batch(Signal::Traces, 1, 2), &mut end).unwrap();
    step.flush(&mut end);
    assert_eq!(end.ledger.page().destinations[0].dropped_for(Reason::SHUTDOWN), ItemCount(2));
    step.shutdown(Deadline::NEVER);
    let refused = step.process(generate::batch(Signal::Traces, 1, 2), &mut end).unwrap_err();
    assert_eq!(refused.failure.reason, Reason::SHUTDOWN);
    assert_eq!(end.books(), [2, 0, 0, 0]);
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let mut end = End::new(Signal::Traces);
    let mut step = retry(retries(9, Duration::from_secs(1)), failing(u32::MAX));
    end.full = true;
    step.process(generate::batch(Signal::Traces, 1, 2), &mut end).unwrap_err();
    end.full = false;
    for _ in 0..super::super::retry::WAITING_BATCHES_MAX {
        step.process(Batch::trusted(Signal::Traces, ItemCount(1), bytes::Bytes::new()), &mut end).unwrap();
    }
    step.process(generate::batch(Signal::Traces, 1, 2), &mut end).unwrap_err();
    step.flush(&mut end);
    assert_eq!(end.books()[3], 0);
}

#[test]
fn windows_and_retries_keep_the_contract() {
    for signal in Signal::ALL {
        verify::processor(signal, || aggregate(5, |_: Window<'_>| Aggregated::Keep));
        verify::processor(signal, || {
            aggregate(3, |_: Window<'_>| Aggregated::Remove).with_age_max(Duration::from_secs(1))
        });
        verify::processor(signal, || {
            let items = 1;
            aggregate(3, move |window: Window<'_>| {
                let body = verify::request(window.signal(), items, 0);
                Aggregated::Replace(Batch::trusted(window.signal(), ItemCount(items), body))
            })
        });
        verify::processor(signal, || retry(retries(2, Duration::from_millis(300)), failing(20)));
    }
}
