//! What the fuzz targets call: properties of the wire operations on any bytes.
//!
//! The first byte of the input chooses the signal and how much is kept or split; the rest is the body. Each function
//! panics where a property does not hold.

use bytes::Bytes;

use crate::batch::Batch;
use crate::signal::Signal;
use crate::unit::{ByteSize, ItemCount};
use crate::wire::{Index, Limits, PartLimit, normalize, retain, split, validate, walk};

fn choose(bytes: &[u8]) -> Option<(Signal, u64, &[u8])> {
    let (first, body) = bytes.split_first()?;
    Some((Signal::ALL[usize::from(*first) % 3], u64::from(*first) / 3, body))
}

/// The validator accepts what prost accepts (with the feature `types`), and what is accepted can be normalised.
///
/// # Panics
///
/// Where that does not hold.
pub fn wire_check(bytes: &[u8]) {
    let Some((signal, _, body)) = choose(bytes) else { return };
    let checked = validate(signal, body, &Limits::default());
    #[cfg(feature = "types")]
    assert_eq!(typed(signal, body).is_some(), checked.is_ok(), "{checked:?}");
    // Whatever the verdict, normalising does not panic.
    let normal = normalize(signal, body);
    let Ok(checked) = checked else { return };
    let Ok(again) = validate(signal, &normal, &Limits::default()) else { panic!("normalised bytes are malformed") };
    assert!(again.canonical && again.items <= checked.items);
    assert_eq!(normalize(signal, &normal), normal);
    #[cfg(feature = "types")]
    assert_eq!(typed(signal, body), typed(signal, &normal));
    assert!(Batch::check(signal, Bytes::copy_from_slice(body), &Limits::default()).is_ok());
}

/// Walking, indexing, retaining and splitting agree on the items, and never panic on bytes that nobody validated.
///
/// # Panics
///
/// Where that does not hold.
pub fn wire_items(bytes: &[u8]) {
    let Some((signal, choice, body)) = choose(bytes) else { return };
    let checked = validate(signal, body, &Limits::default());
    let body = match checked {
        Ok(_) => normalize(signal, body),
        Err(_) => Bytes::copy_from_slice(body),
    };
    let mut items = 0;
    walk(signal, &body, |_| items += 1);
    let index = Index::of(signal, &body);
    assert!((0..items).all(|item| index.get(&body, item).is_some()) && index.get(&body, items).is_none());
    let mut asked = 0;
    let left = retain(signal, &body, |_| {
        asked += 1;
        asked % (choice + 1) != 0
    });
    assert_eq!((asked, left.kept + left.removed), (items as u64, ItemCount(items as u64)));
    let limit = match choice % 2 {
        0 => PartLimit::items(ItemCount(choice)),
        _ => PartLimit::bytes(ByteSize(choice * 8)),
    };
    let parts = split(Batch::trusted(signal, ItemCount(items as u64), body), limit);
    if checked.is_ok() {
        for part in &parts {
            let Ok(checked) = validate(signal, part.body(), &Limits::default()) else { panic!("a part is malformed") };
            assert!(checked.canonical && checked.items == part.items());
        }
        assert_eq!(parts.iter().map(Batch::items).sum::<ItemCount>(), ItemCount(items as u64));
    }
}

/// The request as prost sees it, encoded again.
#[cfg(feature = "types")]
fn typed(signal: Signal, body: &[u8]) -> Option<Vec<u8>> {
    use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
    use prost::Message;
    match signal {
        Signal::Traces => trace::v1::ExportTraceServiceRequest::decode(body).ok().map(|typed| typed.encode_to_vec()),
        Signal::Metrics => {
            metrics::v1::ExportMetricsServiceRequest::decode(body).ok().map(|typed| typed.encode_to_vec())
        }
        Signal::Logs => logs::v1::ExportLogsServiceRequest::decode(body).ok().map(|typed| typed.encode_to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::generate;
    use crate::testing::mutate::mutate;
    use crate::testing::random::Random;

    #[test]
    fn the_targets_hold_on_damaged_requests() {
        for case in 0..3_000 {
            let mut random = Random::new(case);
            let signal = random.index(3);
            let mut input = vec![(random.index(80) * 3 + signal) as u8];
            let mut body = generate::ugly(Signal::ALL[signal], case).to_vec();
            mutate(&mut random, &mut body);
            input.extend_from_slice(&body);
            wire_check(&input);
            wire_items(&input);
        }
    }
}
