//! What the fuzz targets call: properties of the wire operations and of the codings on any bytes.
//!
//! The first byte of the input chooses: the signal and how much is kept or split, or the coding and the limit; the rest is
//! the body. Each function panics where a property does not hold.

mod views;

use bytes::Bytes;

use super::random::Random;
use crate::batch::Batch;
use crate::codec::{Coding, decode, encode};
use crate::signal::Signal;
use crate::unit::{ByteSize, ItemCount};
use crate::wire::edit::{AttributeList, Editor, Value, edit};
use crate::wire::view::{ItemView, ResourceItemsView, ScopeItemsView};
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

/// Every view can be asked for everything, and they show as many items as the validator counts.
///
/// # Panics
///
/// Where that does not hold.
pub fn wire_views(bytes: &[u8]) {
    let Some((signal, _, body)) = choose(bytes) else { return };
    match validate(signal, body, &Limits::default()) {
        Ok(checked) => {
            assert_eq!(views::walk(signal, &normalize(signal, body)), normal_items(signal, body, checked.items));
        }
        // The validator is what bounds the nesting: without it only so much is looked at that the stack suffices.
        Err(_) => drop(views::walk(signal, &body[..body.len().min(512)])),
    }
}

/// Items of a message that was given twice and merged may be fewer than those that came.
fn normal_items(signal: Signal, body: &[u8], items: ItemCount) -> u64 {
    match validate(signal, &normalize(signal, body), &Limits::default()) {
        Ok(checked) if checked.items <= items => checked.items.get(),
        other => panic!("normalised bytes are malformed or have more items: {other:?}"),
    }
}

/// Whatever an editor does, the result is valid, canonical, and has as many items; nothing to do changes nothing.
///
/// # Panics
///
/// Where that does not hold, and where bytes that nobody validated make it panic.
pub fn wire_edit(bytes: &[u8]) {
    struct Nothing;
    impl Editor for Nothing {}
    let Some((signal, choice, body)) = choose(bytes) else { return };
    let is_valid = validate(signal, body, &Limits::default()).is_ok();
    let body = if is_valid { normalize(signal, body) } else { Bytes::copy_from_slice(body) };
    assert_eq!(edit(signal, &body, &mut Nothing), None);
    let before = validate(signal, &body, &Limits::default());
    let mut random = Random::new(choice);
    let mut edited = body;
    for _ in 0..2 {
        edited = edit(signal, &edited, &mut Any(&mut random)).unwrap_or(edited);
    }
    let marked = edit(signal, &edited, &mut Mark(Value::int(choice as i64))).unwrap_or(edited);
    let Ok(before) = before else { return };
    match validate(signal, &marked, &Limits::default()) {
        Ok(checked) => assert!(checked.canonical && checked.items == before.items, "{before:?} became {checked:?}"),
        Err(malformed) => panic!("an edit made it malformed: {malformed:?}"),
    }
    assert_eq!(edit(signal, &marked, &mut Mark(Value::int(choice as i64))), None, "the same again changes nothing");
}

/// Gives every list of attributes the same one.
struct Mark(Value);

impl Editor for Mark {
    fn resource(&mut self, _: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        attributes.upsert("mark", &self.0);
        true
    }

    fn scope(&mut self, _: ScopeItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        attributes.upsert("mark", &self.0);
        true
    }

    fn item(&mut self, _: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        attributes.upsert("mark", &self.0);
    }
}

/// Does anything to every list of attributes.
struct Any<'a>(&'a mut Random);

impl Editor for Any<'_> {
    fn resource(&mut self, _: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        change(self.0, attributes);
        !self.0.once_in(8)
    }

    fn scope(&mut self, _: ScopeItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        change(self.0, attributes);
        !self.0.once_in(8)
    }

    fn item(&mut self, _: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        change(self.0, attributes);
    }
}

fn change(random: &mut Random, list: &mut AttributeList<'_>) {
    for _ in 0..random.index(4) {
        let key = *random.pick(&[&"", &"mark", &"service.name", &"a.key.with.a.name.that.is.somewhat.longer"]);
        let value = match random.index(6) {
            0 => Value::default(),
            1 => Value::int(random.bits() as i64),
            2 => Value::double(random.unit()),
            3 => Value::array([Value::bool(true), Value::bytes(&random.bytes::<8>())]),
            4 => Value::kvlist([("", Value::string("ü"))]),
            _ => Value::string(&"long ".repeat(random.index(60))),
        };
        let slots = list.find_all(|_| true);
        let Some(&slot) = slots.get(random.index(slots.len())) else {
            list.upsert(key, &value);
            continue;
        };
        match random.index(10) {
            0 => list.remove(slot),
            1 => list.set(slot, &value),
            2 => list.set_string(slot, "set"),
            3 => list.rename(slot, key),
            4 => drop(list.append_from(key, slot)),
            5 => list.set_from(slot, slots[random.index(slots.len())]),
            6 => drop(list.delete(key)),
            7 => drop(list.insert(key, &value)),
            8 => drop(list.update(key, &value)),
            _ => list.upsert(key, &value),
        }
    }
}

/// Inflating never exceeds its limit or asks for more memory than that, and what it gives, as any other bytes, comes
/// back from compressing and inflating as it was.
///
/// # Panics
///
/// Where that does not hold.
pub fn codec(bytes: &[u8]) {
    let Some((&first, body)) = bytes.split_first() else { return };
    let coding = Coding::ALL[usize::from(first) % Coding::ALL.len()];
    if !coding.is_built() {
        return;
    }
    let limit = ByteSize(u64::from(first) / 8 * 997);
    let inflated = decode(coding, body, limit, &mut |wanted| {
        assert!(wanted <= limit, "asked for {wanted} of {limit}");
        Ok(())
    });
    if let Ok(inflated) = inflated {
        assert!(inflated.len() as u64 <= limit.get());
        comes_back(coding, &inflated);
    }
    comes_back(coding, body);
}

fn comes_back(coding: Coding, bytes: &[u8]) {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    let mut deflated = Vec::new();
    assert_eq!(encode(coding, None, &[one, two], &mut deflated), Ok(()));
    let inflated = decode(coding, &deflated, ByteSize::from(bytes.len()), &mut |_| Ok(()));
    assert!(inflated.as_deref() == Ok(bytes), "{coding} does not give back {bytes:?}");
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
        let mut valid = 0;
        for case in 0..3_000 {
            let mut random = Random::new(case);
            let signal = random.index(3);
            let mut input = vec![(random.index(80) * 3 + signal) as u8];
            let mut body = generate::ugly(Signal::ALL[signal], case).to_vec();
            mutate(&mut random, &mut body);
            valid += u64::from(validate(Signal::ALL[signal], &body, &Limits::default()).is_ok());
            input.extend_from_slice(&body);
            wire_check(&input);
            wire_items(&input);
            wire_views(&input);
            wire_edit(&input);
        }
        assert!((300..2_700).contains(&valid), "{valid} of 3000 were still valid");
    }

    #[test]
    fn the_targets_hold_on_damaged_compressed_bodies() {
        for (case, coding) in (0..125).flat_map(|case| Coding::ALL.map(|coding| (case, coding))) {
            let mut random = Random::new(case);
            let body = generate::ugly(Signal::ALL[random.index(3)], case);
            let mut deflated = Vec::new();
            if encode(coding, None, &[&body], &mut deflated).is_err() {
                assert!(!coding.is_built());
                continue;
            }
            if case % 5 != 0 {
                mutate(&mut random, &mut deflated);
            }
            let at = Coding::ALL.iter().position(|&other| other == coding).unwrap();
            deflated.insert(0, (random.index(31) * 8 + at) as u8);
            codec(&deflated);
        }
    }
}
