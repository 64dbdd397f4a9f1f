//! Kernels on fixed requests, each once, for counting instructions: `ci/instructions` runs them under callgrind.
//!
//! `kernels` prints their names, `kernels NAME` runs one twice: once for what is only paid the first time, once inside
//! [`counted`], where callgrind looks. Not for clocks; those are in the other benches.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use otlp_core::codec::{Coding, decode_into, encode};
use otlp_core::component::Transform;
use otlp_core::flow::gate::{Capacity, Weight, gate};
use otlp_core::testing::generate;
use otlp_core::wire::edit::Value;
use otlp_core::wire::{Limits, PartLimit, retain, split, validate, view, walk};
use otlp_core::{Batch, ByteSize, Group, ItemCount, Signal, json};
use otlp_process::attributes::{Action, Attributes, Config};
use otlp_process::chain::Prefix;

const ITEMS: usize = 512;

type Kernel = Box<dyn FnMut()>;

/// Where callgrind counts.
#[inline(never)]
fn counted(kernel: &mut dyn FnMut()) {
    kernel();
    // Not to be a tail call, which would leave this function before the kernel runs.
    black_box(());
}

fn body(signal: Signal) -> Bytes {
    generate::request(signal, 1, ITEMS)
}

fn batch(body: &Bytes) -> Batch {
    Batch::trusted(Signal::Traces, ItemCount(ITEMS as u64), body.clone())
}

fn edits(body: Bytes, actions: &[(&str, &str)]) -> Kernel {
    let transforms = actions.iter().map(|&(action, key)| {
        let value = (action != "delete").then(|| Value::string("production"));
        let action = Action { action: action.into(), key: key.into(), value, ..Action::default() };
        let config = Config { actions: vec![action], ..Config::default() };
        let attributes = Attributes::new(config, Signal::Traces).expect("the configuration is good");
        Arc::new(attributes) as Arc<dyn Transform>
    });
    let prefix = Prefix::new(transforms.collect());
    Box::new(move || {
        let _ = black_box(prefix.apply(batch(&body)));
    })
}

fn to_json(signal: Signal, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(signal, body, &mut out);
    out
}

fn decoded(coding: Coding) -> Kernel {
    let (mut encoded, mut out) = (Vec::new(), Vec::new());
    encode(coding, None, &[&body(Signal::Traces)], &mut encoded).expect("the default level is there");
    Box::new(move || {
        out.clear();
        decode_into(coding, &encoded, ByteSize::mib(64), &mut out, &mut |_| Ok(())).expect("it was just encoded");
    })
}

fn encoded(coding: Coding) -> Kernel {
    let (body, mut out) = (body(Signal::Traces), Vec::new());
    Box::new(move || {
        out.clear();
        encode(coding, None, &[&body], &mut out).expect("the default level is there");
    })
}

fn kernels() -> Vec<(String, Kernel)> {
    let mut kernels: Vec<(String, Kernel)> = Vec::new();
    let mut add = |name: &str, kernel: Kernel| kernels.push((name.to_owned(), kernel));
    for signal in Signal::ALL {
        let bytes = body(signal);
        let of = bytes.clone();
        add(
            &format!("validate/{signal}"),
            Box::new(move || {
                black_box(validate(signal, &of, &Limits::default()).expect("generated requests are valid"));
            }),
        );
        // As the Collector sends them, the fields of each message from the last to the first.
        let of = generate::in_collector_order(signal, &bytes);
        add(
            &format!("check/from-collector/{signal}"),
            Box::new(move || {
                black_box(Batch::check(signal, of.clone(), &Limits::default()).expect("generated requests are valid"));
            }),
        );
        let of = bytes.clone();
        add(
            &format!("json/write/{signal}"),
            Box::new(move || {
                black_box(to_json(signal, &of));
            }),
        );
        let document = to_json(signal, &bytes);
        add(
            &format!("json/read/{signal}"),
            Box::new(move || {
                black_box(json::decode(signal, &document, &json::Limits::default()).expect("our JSON is OTLP"));
            }),
        );
    }
    let traces = body(Signal::Traces);
    let of = traces.clone();
    add(
        "walk",
        Box::new(move || {
            let mut bytes = 0;
            walk(Signal::Traces, &of, |item| bytes += item.bytes.len());
            black_box(bytes);
        }),
    );
    let of = traces.clone();
    add(
        "view/attributes",
        Box::new(move || {
            let mut attributes = 0;
            view::for_each_item(Signal::Traces, &of, |_, _, item| attributes += item.attributes().count());
            black_box(attributes);
        }),
    );
    let of = traces.clone();
    add(
        "filter",
        Box::new(move || {
            let mut place = 0;
            black_box(retain(Signal::Traces, &of, |_| {
                place += 1;
                place % 20 == 0
            }));
        }),
    );
    let of = traces.clone();
    add(
        "split-in-4",
        Box::new(move || {
            black_box(split(batch(&of), PartLimit::items(ItemCount(ITEMS as u64 / 4))));
        }),
    );
    let of = traces.clone();
    add(
        "join-4",
        Box::new(move || {
            let mut group = Group::new(Signal::Traces);
            (0..4).for_each(|_| group.push(batch(&of)));
            black_box(group.joined());
        }),
    );
    add("edit/nothing-to-change", edits(traces.clone(), &[("delete", "no.such.key")]));
    add("edit/insert", edits(traces.clone(), &[("insert", "deployment.environment.name")]));
    let three = [
        ("upsert", "http.request.method"),
        ("delete", "network.protocol.version"),
        ("insert", "deployment.environment.name"),
    ];
    add("edit/three", edits(traces.clone(), &three));
    let (from_collector, _) =
        Batch::check(Signal::Traces, generate::in_collector_order(Signal::Traces, &traces), &Limits::default())
            .expect("generated requests are valid");
    add("edit/three/from-collector", edits(from_collector.body().clone(), &three));
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Snappy, Coding::Lz4] {
        add(&format!("codec/{coding}/out"), encoded(coding));
        add(&format!("codec/{coding}/in"), decoded(coding));
    }
    let weight = Weight { requests: 1, items: ITEMS as u64, bytes: traces.len() as u64 };
    let (outlet, inlet) = gate::<Bytes>(Capacity { requests: Some(64), ..Capacity::default() });
    add(
        "gate",
        Box::new(move || {
            for _ in 0..1000 {
                outlet.offer(traces.clone(), weight).expect("there is room");
                black_box(inlet.try_recv().expect("it was just offered").item);
            }
        }),
    );
    kernels
}

fn main() -> ExitCode {
    // Cargo passes `--bench`.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let Some(wanted) = wanted else {
        kernels().iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, mut kernel)) = kernels().into_iter().find(|(name, _)| *name == wanted) else {
        eprintln!("there is no kernel {wanted}");
        return ExitCode::FAILURE;
    };
    kernel();
    counted(&mut kernel);
    ExitCode::SUCCESS
}
