use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use otlp_core::component::{HealthState, Processor};
use otlp_core::telemetry::Registry;
use otlp_core::testing::verify;
use otlp_core::{Batch, ByteSize, Clock, ItemCount, Reason, Retry, Signal};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    Config { check_interval: SECOND, limit_mib: 100, ..Config::default() }
}

struct Bench {
    limiter: MemoryLimiter,
    clock: Clock,
    resident: Arc<AtomicU64>,
    readings: Arc<AtomicU64>,
    registry: Registry,
}

/// A reading of `UNKNOWN` stands for a system that does not say.
const UNKNOWN: u64 = u64::MAX;

fn bench() -> Bench {
    let (clock, registry) = (Clock::simulated(), Registry::new());
    let (resident, readings) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let read: ReadResident = Box::new({
        let (resident, readings) = (Arc::clone(&resident), Arc::clone(&readings));
        move || {
            readings.fetch_add(1, Ordering::SeqCst);
            Some(resident.load(Ordering::SeqCst)).filter(|&bytes| bytes != UNKNOWN).map(ByteSize)
        }
    });
    let limiter =
        MemoryLimiter::new("memory_limiter", &config(), ByteSize::mib(1000), read, clock.clone(), &registry).unwrap();
    Bench { limiter, clock, resident, readings, registry }
}

impl Bench {
    fn offer(&self) -> Result<(), Failure> {
        let batch = Batch::trusted(Signal::Logs, ItemCount(5), bytes::Bytes::from_static(b"12345"));
        match self.limiter.transform().unwrap().apply(batch) {
            Ok(Some(batch)) => {
                assert_eq!(batch.items(), ItemCount(5));
                Ok(())
            }
            Ok(None) => panic!("removed"),
            Err(refused) => {
                assert_eq!(refused.batch.items(), ItemCount(5), "the batch comes back");
                Err(refused.failure)
            }
        }
    }

    fn holds(&self, bytes: u64) -> &Bench {
        self.resident.store(bytes, Ordering::SeqCst);
        self
    }
}

#[test]
fn refuses_from_the_soft_limit_on_until_a_measurement_is_below_it() {
    let bench = bench();
    let soft = ByteSize::mib(80).get();
    assert_eq!(bench.limiter.limits().soft, ByteSize(soft));
    assert_eq!(bench.holds(soft - 1).offer(), Ok(()));
    assert_eq!(bench.holds(soft).offer(), Ok(()), "not measured again before the interval is over");
    bench.clock.advance(SECOND);
    let failure = bench.offer().unwrap_err();
    assert_eq!((failure.reason, failure.retry), (Reason::MEMORY_LIMIT, Retry::After(SECOND)));
    assert_eq!(&*failure.message, "data refused due to high memory usage");
    assert!(bench.holds(0).offer().is_err(), "not measured again before the interval is over");
    assert_eq!(bench.limiter.health().state, HealthState::Unhealthy);
    bench.clock.advance(SECOND);
    assert_eq!(bench.offer(), Ok(()));
    assert_eq!(bench.readings.load(Ordering::SeqCst), 3);
}

#[test]
fn refusing_ends_without_traffic() {
    let bench = bench();
    assert!(bench.holds(ByteSize::mib(90).get()).offer().is_err());
    bench.holds(0).clock.advance(SECOND * 3600);
    assert_eq!(bench.limiter.health().state, HealthState::Ok);
}

#[test]
fn what_cannot_be_measured_changes_nothing() {
    let bench = bench();
    assert_eq!(bench.holds(UNKNOWN).offer(), Ok(()));
    bench.holds(ByteSize::mib(90).get()).clock.advance(SECOND);
    assert!(bench.offer().is_err());
    bench.holds(UNKNOWN).clock.advance(SECOND);
    assert!(bench.offer().is_err());
}

#[test]
fn the_contract_is_kept() {
    for resident in [0, 90] {
        let make = move || {
            let mut readings = 0;
            // The first reading lets it be healthy.
            let read: ReadResident = Box::new(move || {
                readings += 1;
                Some(ByteSize::mib(if readings == 1 { 0 } else { resident }))
            });
            let clock = Clock::simulated();
            MemoryLimiter::new("memory_limiter", &config(), ByteSize::mib(1000), read, clock, &Registry::new()).unwrap()
        };
        verify::processor(Signal::Metrics, make);
    }
}

#[test]
fn items_are_counted() {
    let bench = bench();
    bench.offer().unwrap();
    bench.holds(ByteSize::mib(90).get()).clock.advance(SECOND);
    bench.offer().unwrap_err();
    bench.offer().unwrap_err();
    let names: Vec<(String, otlp_core::telemetry::registry::SampleValue)> =
        bench.registry.samples().into_iter().map(|sample| (sample.name, sample.value)).collect();
    let number = |name: &str| {
        names
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_else(|| panic!("{name}"))
    };
    use otlp_core::telemetry::registry::SampleValue::Number;
    assert_eq!(number("otelcol_processor_memory_limiter_accepted_log_records"), Number(5.0));
    assert_eq!(number("otelcol_processor_memory_limiter_refused_log_records"), Number(10.0));
    assert_eq!(number("otelcol_processor_memory_limiter_refused_spans"), Number(0.0));
}

#[test]
fn limits_are_computed_as_the_collector_does() {
    let mib = ByteSize::mib;
    let total = mib(1000);
    for (limit_mib, spike_limit_mib, limit_percentage, spike_limit_percentage, hard, soft) in [
        (100, 0, 0, 0, 100, 80),
        (100, 30, 0, 0, 100, 70),
        (100, 30, 90, 10, 100, 70),
        (0, 0, 50, 0, 500, 400),
        (0, 0, 50, 10, 500, 400),
        (0, 0, 80, 30, 800, 500),
    ] {
        let config = Config { limit_mib, spike_limit_mib, limit_percentage, spike_limit_percentage, ..config() };
        let limits = config.limits(total);
        let about = |bytes: ByteSize| (bytes.get() + (1 << 19)) >> 20;
        assert_eq!((about(limits.hard), about(limits.soft)), (hard, soft), "{config:?}");
    }
}

#[test]
fn a_wrong_key_is_named() {
    let seconds = Duration::from_secs;
    for (key, config) in [
        ("", config()),
        ("", Config { limit_mib: 0, limit_percentage: 100, ..config() }),
        ("", Config { max_gc_interval_when_soft_limited: Duration::ZERO, ..config() }),
        ("check_interval", Config { check_interval: Duration::ZERO, ..config() }),
        ("limit_mib", Config { limit_mib: 0, ..config() }),
        ("spike_limit_mib", Config { spike_limit_mib: 100, ..config() }),
        ("limit_percentage", Config { limit_percentage: 101, ..config() }),
        ("spike_limit_percentage", Config { spike_limit_percentage: 101, ..config() }),
        ("spike_limit_percentage", Config { limit_percentage: 50, spike_limit_percentage: 50, ..config() }),
        ("min_gc_interval_when_soft_limited", Config { min_gc_interval_when_hard_limited: seconds(11), ..config() }),
        ("max_gc_interval_when_soft_limited", Config { max_gc_interval_when_soft_limited: seconds(9), ..config() }),
        (
            "max_gc_interval_when_hard_limited",
            Config {
                min_gc_interval_when_hard_limited: seconds(5),
                max_gc_interval_when_hard_limited: seconds(4),
                ..config()
            },
        ),
    ] {
        let found = config.check().err().map_or_else(String::new, |error| error.key);
        assert_eq!(found, key, "{config:?}");
    }
}

#[test]
fn the_budget_is_what_the_limiter_leaves_or_a_quarter_of_all() {
    let mib = ByteSize::mib;
    for (soft, idle, total, budget) in [
        (Some(mib(400)), mib(10), Some(mib(8000)), mib(390)),
        (Some(mib(16)), mib(10), Some(mib(8000)), mib(8)),
        (None, mib(10), Some(mib(8000)), mib(2000)),
        (None, mib(10), Some(mib(400)), mib(160)),
        (None, mib(10), None, mib(160)),
    ] {
        assert_eq!(default_budget(soft, idle, total), budget);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_says_what_this_process_holds() {
    let held = resident()().unwrap();
    let total = total().unwrap();
    assert!(held > ByteSize::mib(1) && held < total, "{held} of {total}");
}
