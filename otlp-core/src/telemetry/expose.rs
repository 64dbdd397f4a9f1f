//! What gates, budgets, threads and the books show of themselves, as series of a registry.
//!
//! Each is read when the metrics are, all of its series from one look at it: the series of a ledger come from one page,
//! so what is scraped balances.

use std::sync::Arc;

use super::ledger::{Column, Ledger};
use super::names::{self, Name};
use super::registry::{Labels, Registry, Sample};
use crate::component::Health;
use crate::flow::gate::GateState;
use crate::flow::memory::MemoryBudget;
use crate::outcome::Reason;
use crate::unit::ItemCount;

/// Shows a gate, under the label `gate`: what `state` says, for instance [`crate::flow::gate::GateOutlet::watch`].
///
/// Capacity, held and available come for each `unit` (`requests`, `items`, `bytes`), the first and the last only where
/// there is a limit.
pub fn register_gate(
    registry: &Registry,
    gate: impl Into<String>,
    state: impl Fn() -> GateState + Send + Sync + 'static,
) {
    let gate = gate.into();
    registry.collector(format!("gate {gate}"), move |samples| {
        let state = state();
        let labels: Labels = vec![("gate", gate.clone())];
        let (capacity, available) = (state.capacity, state.available());
        for (unit, capacity, held, available) in [
            ("requests", capacity.requests, state.held.requests, available.requests),
            ("items", capacity.items, state.held.items, available.items),
            ("bytes", capacity.bytes, state.held.bytes, available.bytes),
        ] {
            let labels = with(&labels, "unit", unit);
            let mut add = |name, value: Option<u64>| {
                samples.extend(value.map(|value| Sample::number(name, None, labels.clone(), value as f64)));
            };
            add(names::GATE_CAPACITY, capacity);
            add(names::GATE_HELD, Some(held));
            add(names::GATE_AVAILABLE, available);
        }
        for (name, value) in [
            (names::GATE_BLOCKED, state.blocked.as_secs_f64()),
            (names::GATE_REFUSED, state.refused as f64),
            (names::GATE_RATE_LIMITED, state.rate_limited as f64),
            (names::GATE_DROPPED, state.dropped as f64),
            (names::GATE_WAITING, state.waiting as f64),
        ] {
            samples.push(Sample::number(name, None, labels.clone(), value));
        }
    });
}

/// Shows the memory budget.
pub fn register_budget(registry: &Registry, budget: &MemoryBudget) {
    let budget = budget.clone();
    registry.collector("memory budget", move |samples| {
        for (name, value) in [
            (names::MEMORY_BUDGET_LIMIT, budget.limit().get()),
            (names::MEMORY_BUDGET_RESERVED, budget.reserved().get()),
            (names::MEMORY_BUDGET_REFUSED, budget.refusals()),
        ] {
            samples.push(Sample::number(name, None, Labels::new(), value as f64));
        }
    });
}

/// Shows how often a thread was begun again, under the label `thread`: what [`crate::thread::Supervised::watch`] says.
pub fn register_thread(
    registry: &Registry,
    thread: impl Into<String>,
    watch: impl Fn() -> (Health, u64) + Send + Sync + 'static,
) {
    let thread = thread.into();
    registry.read(names::THREAD_RESTARTS, None, vec![("thread", thread)], move || watch().1 as f64);
}

/// Shows the books of a pipeline, under the labels `pipeline`, `data_type`, and `exporter` and `reason` where they apply.
/// What is held before the queues has no `exporter`.
pub fn register_ledger(registry: &Registry, ledger: Arc<Ledger>) {
    registry.collector(format!("ledger {}", ledger.pipeline()), move |samples| {
        let page = ledger.page();
        let labels: Labels =
            vec![("pipeline", ledger.pipeline().to_owned()), ("data_type", ledger.signal().as_str().to_owned())];
        let mut add = |name: Name, labels: &Labels, items: ItemCount| {
            samples.push(Sample::number(name, None, labels.clone(), items.get() as f64));
        };
        add(names::BOOKS_ACCEPTED, &labels, page.accepted);
        add(names::BOOKS_REMOVED, &labels, page.removed);
        add(names::BOOKS_HELD, &labels, page.held);
        for (&reason, &items) in &page.refused {
            add(names::BOOKS_REFUSED, &with(&labels, "reason", reason.as_str()), items);
        }
        for (destination, column) in ledger.destinations().iter().zip(&page.destinations) {
            add_column(&with(&labels, "exporter", destination), column, &mut add);
        }
    });
}

fn add_column(labels: &Labels, column: &Column, add: &mut impl FnMut(Name, &Labels, ItemCount)) {
    add(names::BOOKS_EXPORTED, labels, column.exported);
    add(names::BOOKS_HELD, labels, column.held);
    add(names::BOOKS_MAYBE_DUPLICATED, labels, column.maybe_duplicated);
    let by_reason = |reason: &Reason| with(labels, "reason", reason.as_str());
    for (reason, &items) in &column.rejected {
        add(names::BOOKS_REJECTED, &by_reason(reason), items);
    }
    for (reason, &items) in &column.dropped {
        add(names::BOOKS_DROPPED, &by_reason(reason), items);
    }
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    labels.iter().cloned().chain([(name, value.to_owned())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::{Ack, Ticket};
    use crate::flow::gate::{Capacity, Weight, gate};
    use crate::outcome::{Code, Failure, Outcome};
    use crate::signal::Signal;
    use crate::unit::ByteSize;

    fn rows(registry: &Registry) -> Vec<String> {
        registry.samples().iter().map(Sample::to_string).collect()
    }

    #[test]
    fn a_ledger_shows_one_balanced_page() {
        let registry = Registry::new();
        let ledger = Ledger::new("traces/a", Signal::Traces, ["otlp_http", "debug"]);
        register_ledger(&registry, Arc::clone(&ledger));
        let mut ticket = Ticket::new(ItemCount(10), Ack::nobody());
        ticket.accept(&ledger, ItemCount(9));
        let rest = ticket.split(ItemCount(2));
        let mut shares = ticket.assign().into_iter();
        shares.next().unwrap().settle(Outcome::Delivered);
        let rejected = Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "no");
        shares.next().unwrap().settle(rejected.into());
        Ticket::new(ItemCount(4), Ack::nobody()).refuse(&ledger, Failure::refused(Reason::QUEUE_FULL, "full"));
        assert_eq!(
            rows(&registry),
            [
                r#"otlpd_books_accepted{pipeline="traces/a",data_type="traces"} 10"#,
                r#"otlpd_books_exported{pipeline="traces/a",data_type="traces",exporter="debug"} 0"#,
                r#"otlpd_books_exported{pipeline="traces/a",data_type="traces",exporter="otlp_http"} 7"#,
                r#"otlpd_books_held{pipeline="traces/a",data_type="traces"} 2"#,
                r#"otlpd_books_held{pipeline="traces/a",data_type="traces",exporter="debug"} 0"#,
                r#"otlpd_books_held{pipeline="traces/a",data_type="traces",exporter="otlp_http"} 0"#,
                r#"otlpd_books_maybe_duplicated{pipeline="traces/a",data_type="traces",exporter="debug"} 0"#,
                r#"otlpd_books_maybe_duplicated{pipeline="traces/a",data_type="traces",exporter="otlp_http"} 0"#,
                r#"otlpd_books_refused{pipeline="traces/a",data_type="traces",reason="queue_full"} 4"#,
                r#"otlpd_books_rejected{pipeline="traces/a",data_type="traces",exporter="debug",reason="permanent"} 7"#,
                r#"otlpd_books_removed{pipeline="traces/a",data_type="traces"} 1"#,
            ]
        );
        drop(rest);
    }

    #[test]
    fn a_gate_and_a_budget_show_what_they_hold() {
        let registry = Registry::new();
        let (outlet, _inlet) = gate::<u8>(Capacity { requests: Some(5), items: None, bytes: Some(100) });
        let _permit = outlet.try_reserve(Weight { requests: 2, items: 7, bytes: 30 }).unwrap();
        register_gate(&registry, "inlet", outlet.watch());
        let budget = MemoryBudget::new(ByteSize(1000));
        let _reservation = budget.reserve(ByteSize(10)).unwrap();
        register_budget(&registry, &budget);
        assert_eq!(
            rows(&registry),
            [
                r#"otlpd_gate_available{gate="inlet",unit="bytes"} 70"#,
                r#"otlpd_gate_available{gate="inlet",unit="requests"} 3"#,
                r#"otlpd_gate_blocked{gate="inlet"} 0"#,
                r#"otlpd_gate_capacity{gate="inlet",unit="bytes"} 100"#,
                r#"otlpd_gate_capacity{gate="inlet",unit="requests"} 5"#,
                r#"otlpd_gate_dropped{gate="inlet"} 0"#,
                r#"otlpd_gate_held{gate="inlet",unit="bytes"} 30"#,
                r#"otlpd_gate_held{gate="inlet",unit="items"} 7"#,
                r#"otlpd_gate_held{gate="inlet",unit="requests"} 2"#,
                r#"otlpd_gate_rate_limited{gate="inlet"} 0"#,
                r#"otlpd_gate_refused{gate="inlet"} 0"#,
                r#"otlpd_gate_waiting{gate="inlet"} 0"#,
                "otlpd_memory_budget_limit 1000",
                "otlpd_memory_budget_refused 0",
                "otlpd_memory_budget_reserved 10",
            ]
        );
    }

    #[test]
    fn a_page_balances_whenever_it_is_read() {
        let registry = Registry::new();
        let ledger = Ledger::new("logs", Signal::Logs, ["a"]);
        register_ledger(&registry, Arc::clone(&ledger));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                for count in 1..3000 {
                    let mut ticket = Ticket::new(ItemCount(count % 7 + 1), Ack::nobody());
                    ticket.accept(&ledger, ItemCount(count % 7));
                    for share in ticket.assign() {
                        share.settle(Outcome::Delivered);
                    }
                }
            });
            while !worker.is_finished() {
                let sum = |names: &[Name]| -> f64 {
                    let samples = registry.samples();
                    let of = |name: &Name| {
                        samples.iter().filter(|sample| sample.entry == *name).filter_map(Sample::as_number).sum::<f64>()
                    };
                    of(&names[0]) - names[1..].iter().map(of).sum::<f64>()
                };
                use names::{BOOKS_ACCEPTED, BOOKS_DROPPED, BOOKS_EXPORTED, BOOKS_HELD, BOOKS_REJECTED, BOOKS_REMOVED};
                let columns =
                    [BOOKS_ACCEPTED, BOOKS_REMOVED, BOOKS_EXPORTED, BOOKS_REJECTED, BOOKS_DROPPED, BOOKS_HELD];
                assert_eq!(sum(&columns), 0.0);
            }
        });
    }
}
