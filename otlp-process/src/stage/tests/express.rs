//! The short way: in whose thread a batch is processed, and when it is not taken.

use std::thread::ThreadId;

use super::*;
use crate::inlet::Tee;

/// Queues that never make anybody wait.
struct Prompt(Arc<Queues>);

impl Fanout for Prompt {
    fn reserve(&self, weight: Weight) -> Result<Room, Failure> {
        self.0.reserve(weight)
    }

    fn send(&self, group: Group, room: Room) {
        self.0.send(group, room);
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// Remembers who ran it, and takes its time.
struct Takes {
    clock: Clock,
    time: Duration,
    by: StdMutex<Vec<ThreadId>>,
}

impl Takes {
    fn new(clock: &Clock, time: Duration) -> Arc<Takes> {
        Arc::new(Takes { clock: clock.clone(), time, by: StdMutex::default() })
    }
}

impl Transform for Takes {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        self.by.lock().unwrap().push(std::thread::current().id());
        if !self.time.is_zero() {
            self.clock.advance(self.time);
        }
        Ok(Some(batch))
    }
}

fn express(chain: Vec<Box<dyn Processor>>, clock: &Clock) -> Running {
    let ledger = ledger();
    let capacity = Capacity { requests: Some(1000), ..Capacity::default() };
    let (outlet, inlet) = PipelineOutlet::new(GateOptions { capacity, ..GateOptions::default() }, Arc::clone(&ledger));
    let queues = Queues::new(2, Capacity::default());
    let stage = Stage::start(StageOptions {
        name: "proc-0".into(),
        ledger: Arc::clone(&ledger),
        chain: Chain::new(chain),
        fanout: Arc::new(Prompt(Arc::clone(&queues))),
        inlet,
        pool: None,
        max_concurrent: 0,
        pool_work_min: Duration::ZERO,
        registry: Registry::new(),
        clock: clock.clone(),
        thread: ThreadOptions::default(),
    })
    .unwrap();
    outlet.attach(stage.express().unwrap());
    Running { stage, outlet, queues, ledger }
}

/// The same without a thread: what does not go the short way stays in the inlet.
struct Still {
    outlet: PipelineOutlet,
    inlet: GateInlet<Batch>,
    queues: Arc<Queues>,
    ledger: Arc<Ledger>,
}

fn still(chain: Vec<Box<dyn Processor>>, clock: &Clock) -> Still {
    let (ledger, queues) = (ledger(), Queues::new(2, Capacity::default()));
    let capacity = Capacity { requests: Some(1000), ..Capacity::default() };
    let (outlet, inlet) = PipelineOutlet::new(GateOptions { capacity, ..GateOptions::default() }, Arc::clone(&ledger));
    let fanout = Arc::new(Prompt(Arc::clone(&queues))) as Arc<dyn Fanout>;
    let chain = Chain::new(chain);
    let processing = Processing::new(chain, Arc::clone(&ledger), Arc::clone(&fanout), &Registry::new(), clock.clone());
    outlet.attach(Express::new(&Arc::new(Mutex::new(processing)), fanout, EXPRESS_WORK_MAX).unwrap());
    Still { outlet, inlet, queues, ledger }
}

#[test]
fn where_handing_on_may_wait_there_is_no_short_way() {
    let mut running = running(vec![obedient()], 1, 0, Vec::new());
    assert!(running.stage.express().is_none());
    assert!(running.stop());
}

#[test]
fn whoever_hands_over_takes_it_through_the_chain() {
    let takes = Takes::new(&Clock::simulated(), Duration::ZERO);
    let still = still(vec![Box::new(Stateless(Arc::clone(&takes))), Box::new(Touchy)], &Clock::simulated());
    for id in 0..100 {
        still.outlet.try_send(batch(id, 2)).unwrap();
        assert_eq!(still.queues.export(0, &delivered()), [vec![id; 2]], "it is there at once");
        still.queues.export(1, &delivered());
    }
    assert!(takes.by.lock().unwrap().iter().all(|&by| by == std::thread::current().id()));
    let page = still.ledger.page();
    assert_eq!((page.accepted, page.destinations[0].exported), (ItemCount(200), ItemCount(200)));
}

#[test]
fn nothing_overtakes_what_waits_in_the_inlet() {
    let still = still(vec![obedient()], &Clock::simulated());
    let permit = still.outlet.gate().try_reserve(batch(0, 1).weight()).unwrap();
    still.outlet.gate().send(batch(0, 1), permit).unwrap();
    still.outlet.try_send(batch(1, 1)).unwrap();
    assert_eq!(still.inlet.len(), 2);
}

#[test]
fn a_poison_batch_costs_itself_on_the_short_way_too() {
    let mut running = express(vec![obedient(), Box::new(Touchy)], &Clock::system());
    for poison in [PANICS, PANICS_IN_TAIL] {
        let (poison, heard) = awaited(batch(poison, 3), AckMode::Exported);
        running.outlet.try_send(poison).unwrap();
        let heard = heard.recv_timeout(GENEROUS);
        assert!(matches!(heard, Ok(Outcome::Failed(failure)) if failure.reason == Reason::PANIC));
        running.outlet.try_send(batch(1, 1)).unwrap();
    }
    assert!(running.stop());
    let page = running.ledger.page();
    assert_eq!((page.accepted, page.refused[&Reason::PANIC]), (ItemCount(2), ItemCount(6)));
    assert_eq!(page.balance(), Ok(()));
}

#[test]
fn a_chain_that_takes_long_is_left_to_its_thread() {
    let clock = Clock::simulated();
    let takes = Takes::new(&clock, EXPRESS_WORK_MAX * 100);
    let still = still(vec![Box::new(Stateless(Arc::clone(&takes)))], &clock);
    (0..3).for_each(|id| still.outlet.try_send(batch(id, 1)).unwrap());
    assert_eq!((takes.by.lock().unwrap().len(), still.inlet.len()), (1, 2), "of the first nothing was known");
}

#[test]
fn a_chain_that_takes_a_while_is_run_by_whoever_hands_over_only_where_little_comes() {
    let clock = Clock::simulated();
    // An eighth of it is what one batch teaches: twice what is always taken.
    let takes = Takes::new(&clock, EXPRESS_WORK_MAX * 16);
    let still = still(vec![Box::new(Stateless(Arc::clone(&takes)))], &clock);
    let ran = || takes.by.lock().unwrap().len();
    still.outlet.try_send(batch(0, 1)).unwrap();
    clock.advance(EXPRESS_WORK_MAX * 9);
    still.outlet.try_send(batch(1, 1)).unwrap();
    assert_eq!((ran(), still.inlet.len()), (2, 0), "the chain had nothing to do for long enough");
    still.outlet.try_send(batch(2, 1)).unwrap();
    assert_eq!((ran(), still.inlet.len()), (2, 1), "it has just had something to do");
}

#[test]
fn where_the_chain_is_busy_a_batch_waits_in_the_inlet() {
    let crowd = Arc::new(Crowd { expected: 2, ..Crowd::default() });
    let mut running = express(vec![Box::new(Stateless(Arc::clone(&crowd)))], &Clock::system());
    std::thread::scope(|scope| {
        let outlet = &running.outlet;
        scope.spawn(|| outlet.try_send(batch(0, 1)).unwrap());
        let mut now = crowd.now.lock().unwrap();
        while *now == 0 {
            now = crowd.came.wait(now).unwrap();
        }
        drop(now);
        outlet.try_send(batch(1, 1)).unwrap();
        assert_eq!(outlet.state().held.requests, 1);
        // Lets the first go on.
        crowd.most.store(2, Ordering::SeqCst);
        crowd.came.notify_all();
    });
    assert!(running.stop());
    assert_eq!(running.queues.export(0, &delivered()).len(), 2);
    assert_eq!(running.outlet.state().held, Weight::default());
}

#[test]
fn what_a_processor_holds_leaves_in_time_although_nothing_woke_the_thread() {
    let soon = Config { timeout: Duration::from_millis(20), ..Config::default() };
    let mut running = express(vec![batching(soon)], &Clock::system());
    for id in 0..3 {
        running.outlet.try_send(batch(id, 1)).unwrap();
        let group = running.queues.inlets[0].recv_deadline(Deadline::after(Instant::now(), GENEROUS)).unwrap();
        group.item.settle(delivered());
        running.queues.export(1, &delivered());
    }
    assert!(running.stop());
}

#[test]
fn a_stage_that_has_stopped_takes_nothing_the_short_way() {
    let never = Config { timeout: Duration::from_secs(3600), ..Config::default() };
    let mut running = express(vec![batching(never)], &Clock::system());
    running.outlet.try_send(batch(0, 1)).unwrap();
    assert!(running.stop());
    assert_eq!(running.queues.export(0, &delivered()).len(), 1, "what was held has left");
    let refused = running.outlet.try_send(batch(1, 1)).unwrap_err();
    assert_eq!(refused.failure.reason, Reason::SHUTDOWN);
}

#[test]
fn several_pipelines_are_each_gone_through() {
    let stills = [still(vec![obedient()], &Clock::simulated()), still(vec![obedient()], &Clock::simulated())];
    let (outlets, rest): (Vec<_>, Vec<_>) =
        stills.into_iter().map(|still| (Arc::new(still.outlet), (still.inlet, still.queues))).unzip();
    let tee = Tee::new(outlets);
    let (batch, heard) = awaited(batch(7, 2), AckMode::Exported);
    tee.try_send(batch).unwrap();
    for (_, queues) in &rest {
        assert_eq!(queues.export(0, &delivered()), [vec![7, 7]]);
        queues.export(1, &delivered());
    }
    assert_eq!(heard.try_recv(), Ok(Outcome::Delivered));
    assert!(rest.iter().all(|(inlet, _)| inlet.is_empty()));
}
