//! What holds for any bytes at all: called by the tests with what they generate and by the fuzz targets with what the
//! fuzzer finds.

use crate::signal::Signal;
use crate::status::Status;
use crate::wire::schema::{Kind, Message};
use crate::wire::{self, normalize, reader, validate};

use super::schema::{Form, Table};
use super::{Limits, decode, decode_response, encode};

/// Any bytes as a JSON request: refused with a place inside them, or made into canonical protobuf that stays the same
/// through another round.
///
/// # Panics
///
/// Where that does not hold.
pub fn document(signal: Signal, bytes: &[u8]) {
    let _ = decode_response(signal, bytes).map_err(|error| error.to_string());
    let _ = Status::from_json(bytes).map_err(|error| error.to_string());
    match decode(signal, bytes, &Limits::default()) {
        Ok(protobuf) => {
            let checked = validate(signal, &protobuf, &wire::Limits::default());
            let checked = checked.unwrap_or_else(|error| panic!("what was decoded is not valid: {error}"));
            assert!(checked.canonical, "what was decoded is not canonical");
            assert!(protobuf.len() <= 4 * bytes.len(), "{} bytes of {}", protobuf.len(), bytes.len());
            round_trip(signal, &protobuf);
        }
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            assert_eq!(error.ended, error.offset == bytes.len(), "{error}");
        }
    }
}

/// Any bytes as a protobuf request: where they are one, its JSON is read back with every known value as it was.
///
/// # Panics
///
/// Where that does not hold.
pub fn protobuf(signal: Signal, bytes: &[u8]) {
    // Bytes that are no request give some JSON, and no panic.
    encode(signal, bytes, &mut Vec::new());
    if validate(signal, bytes, &wire::Limits::default()).is_ok() {
        round_trip(signal, bytes);
    }
}

fn round_trip(signal: Signal, protobuf: &[u8]) {
    let mut json = Vec::new();
    encode(signal, protobuf, &mut json);
    let limits = Limits { any_id_length: true, ..Limits::default() };
    let again = decode(signal, &json, &limits)
        .unwrap_or_else(|error| panic!("what was encoded cannot be read: {error}\n{}", String::from_utf8_lossy(&json)));
    // A member of a oneof that another one overwrote may hold data points; they are not there.
    let protobuf = &*normalize(signal, protobuf);
    let items = |bytes: &[u8]| validate(signal, bytes, &wire::Limits::default()).map(|checked| checked.items);
    assert_eq!(items(&again), items(protobuf), "items are lost or found");
    assert_eq!(values(signal, &again), values(signal, protobuf), "a value changed");
}

/// All known values of a request in one text, written without the codec: for comparison.
fn values(signal: Signal, protobuf: &[u8]) -> String {
    let mut text = String::new();
    message(&mut text, Message::request(signal), protobuf);
    text
}

fn message(text: &mut String, of: Message, bytes: &[u8]) {
    text.push('{');
    for (field, entry) in of.fields().iter().zip(Table::of(of).entries()) {
        let found = reader::fields(bytes).map_while(Result::ok).filter(|found| found.number == field.number);
        for found in found {
            let start = text.len();
            text.push_str(field.name);
            text.push('=');
            let mut default = false;
            match (field.kind, found.value) {
                (Kind::Message(inner), reader::Value::Len(body)) => message(text, inner, body),
                (_, reader::Value::Len(body)) if entry.repeated && entry.form != Form::Text => {
                    let mut at = 0;
                    while at < body.len() {
                        let bits = match field.kind {
                            Kind::Varint => reader::varint(body, &mut at),
                            _ => reader::fixed64(body, &mut at),
                        };
                        text.push_str(&format!("{:x},", exact(entry.form, bits.unwrap_or_default())));
                    }
                    default = body.is_empty();
                }
                (_, reader::Value::Len(body)) => {
                    text.push_str(&format!("{body:?}"));
                    default = body.is_empty() && !entry.repeated;
                }
                (_, reader::Value::Varint(bits) | reader::Value::Fixed64(bits)) => {
                    let bits = exact(entry.form, bits);
                    text.push_str(&format!("{bits:x}"));
                    default = bits == 0;
                }
                (_, reader::Value::Fixed32(bits)) => {
                    text.push_str(&format!("{bits:x}"));
                    default = bits == 0;
                }
                _ => {}
            }
            text.push(';');
            if default && !entry.explicit {
                text.truncate(start);
            }
        }
    }
    text.push('}');
}

/// What protobuf makes of the bits on the wire, and JSON of a NaN.
fn exact(form: Form, bits: u64) -> u64 {
    match form {
        Form::Bool => u64::from(bits != 0),
        Form::Enum | Form::Int32 | Form::Sint32 | Form::Uint32 => u64::from(bits as u32),
        Form::Double if f64::from_bits(bits).is_nan() => f64::NAN.to_bits(),
        _ => bits,
    }
}
