use otlp_core::wire::reader::{Value, fields};
use otlp_core::wire::schema::{Kind, Label, Message};
use otlp_core::wire::{Limits, normalize, validate};

use crate::support::{Typed, cases, sample};

/// Unknown fields with the path that leads to them, and whether a member of a oneof was overwritten somewhere.
#[derive(Default)]
pub(crate) struct Unknown {
    pub(crate) found: Vec<(Vec<u32>, Vec<u8>)>,
    lossy: bool,
}

impl Unknown {
    pub(crate) fn of(message: Message, body: &[u8]) -> Unknown {
        let mut unknown = Unknown::default();
        unknown.collect(message, &[], body);
        unknown.found.sort();
        unknown
    }

    fn collect(&mut self, message: Message, path: &[u32], body: &[u8]) {
        // Members of the oneof; of two values that merge each has its own.
        let (mut oneofs, mut values) = (0, 0);
        for field in fields(body) {
            let field = field.expect("validated");
            let path = [path, &[field.number]].concat();
            match (message.field(field.number), field.value) {
                (None, _) => self.found.push((path, body[field.start..field.end].to_vec())),
                (Some(known), Value::Len(inner)) => {
                    oneofs += u32::from(known.label == Label::Oneof);
                    if let Kind::Message(of) = known.kind {
                        values += u32::from(of == Message::AnyValue && known.label == Label::Singular);
                        self.collect(of, &path, inner);
                    }
                }
                (Some(known), _) => oneofs += u32::from(known.label == Label::Oneof),
            }
        }
        self.lossy |= oneofs > 1 || values > 1;
    }
}

#[test]
fn normalizing_changes_the_shape_alone() {
    let (mut odd, mut kept) = (0, 0);
    for case in 0..cases(100_000) {
        let (signal, body) = sample(case, case.is_multiple_of(4));
        let Ok(checked) = validate(signal, &body, &Limits::default()) else { continue };
        let normal = normalize(signal, &body);
        if checked.canonical {
            // Tags and lengths may have got shorter, nothing else.
            assert!(normal.len() <= body.len(), "case {case}, {signal}");
        } else {
            odd += 1;
        }
        let again = validate(signal, &normal, &Limits::default()).unwrap_or_else(|e| panic!("case {case}: {e}"));
        assert!(again.canonical, "case {case}, {signal}");
        assert_eq!(normalize(signal, &normal), normal, "case {case}, {signal}");
        let typed = [&body[..], &normal].map(|body| Typed::decode(signal, body).expect("validated").encode());
        assert!(typed[0] == typed[1], "case {case}, {signal}");
        let [before, after] = [&body[..], &normal].map(|body| Unknown::of(Message::request(signal), body));
        if before.lossy {
            assert!(after.found.iter().all(|field| before.found.contains(field)), "case {case}, {signal}");
        } else {
            kept += before.found.len();
            assert!(before.found == after.found, "case {case}, {signal}");
        }
    }
    assert!(odd > 100 && kept > 100, "{odd} odd requests, {kept} unknown fields");
}
