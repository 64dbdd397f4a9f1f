//! Credentials on the wire.

use super::*;
use crate::auth::{Authenticator, Bearer};

#[test]
fn after_unauthenticated_the_token_is_read_again_and_the_call_made_once_more() {
    let refuse = || Do::Reply(status(16, &[]));
    let server = Server::start([ok(b""), refuse(), ok(b""), refuse(), refuse(), refuse()]);
    let file = std::env::temp_dir().join(format!("otlp-export-grpc-token-{}", std::process::id()));
    std::fs::write(&file, "one").unwrap();
    let bearer = Bearer { filename: Some(file.clone()), ..Bearer::default() };
    // Its clock stands still: what is read again is read because of the answer.
    let auth = Authenticator::bearer("bearertokenauth", &bearer, Clock::simulated()).unwrap();
    let headers = Headers(vec![("authorization".into(), "configured".into())]);
    let exporter = exporter(&Config { auth: Some(auth), headers, ..config(&server) });
    let heard = || seen(&server).header("authorization").map(str::to_owned);
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!((export(&exporter), heard()), (Outcome::Delivered, bearer("one")));
    std::fs::write(&file, "two").unwrap();
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!((heard(), heard()), (bearer("one"), bearer("two")));
    assert_eq!(failure(export(&exporter)).reason, Reason::UNAUTHORIZED);
    assert_eq!(heard(), bearer("two"), "the same is not tried again");
    std::fs::write(&file, "three").unwrap();
    assert_eq!(failure(export(&exporter)).reason, Reason::UNAUTHORIZED);
    assert_eq!((heard(), heard()), (bearer("two"), bearer("three")), "and another one once");
    std::fs::remove_file(file).unwrap();
}
