//! Credentials on the wire.

use super::*;
use crate::auth::{Authenticator, Bearer};
use crate::tls::authority::{Authority, BOTH, file};

#[test]
fn credentials_are_not_sent_in_plain_text() {
    let token = Bearer { token: "hush".into(), ..Bearer::default() };
    let auth = Authenticator::bearer("bearertokenauth", &token, Clock::system()).unwrap();
    let insecure = || tls::Config { insecure: true, ..tls::Config::default() };
    for (endpoint, tls, sent) in [
        ("a:1", tls::Config::default(), true),
        ("a:1", insecure(), false),
        ("http://a:1", insecure(), false),
        ("http://a:1", tls::Config::default(), true),
        ("https://a:1", insecure(), true),
        ("a:1", tls::Config { ca_file: Some("there".into()), ..insecure() }, true),
        ("a:1", tls::Config { insecure_skip_verify: true, ..insecure() }, false),
        ("unix:///there", insecure(), true),
    ] {
        let config = Config { endpoint: endpoint.into(), tls, auth: Some(auth.clone()), ..Config::default() };
        match config.check() {
            Ok(()) => assert!(sent, "{endpoint} {config:?}"),
            Err(error) => assert_eq!((sent, &*error.key), (false, "tls::insecure"), "{endpoint} {error}"),
        }
        assert_eq!(Config { auth: None, ..config }.check(), Ok(()));
    }
}

#[test]
fn after_unauthenticated_the_token_is_read_again_and_the_call_made_once_more() {
    let refuse = || Do::Reply(status(16, &[]));
    let script = [ok(b""), refuse(), ok(b""), refuse(), refuse(), refuse()];
    let authority = Authority::new();
    let secured = authority.issue("localhost").server(None, BOTH, &[b"h2"]);
    let server = Server::with(Options { tls: Some(secured), ..Options::default() }, script);
    let tls = tls::Config { ca_file: Some(file("credentials-ca.pem", &authority.pem)), ..tls::Config::default() };
    let endpoint = format!("localhost:{}", server.address.port());
    let file = std::env::temp_dir().join(format!("otlp-export-grpc-token-{}", std::process::id()));
    std::fs::write(&file, "one").unwrap();
    let bearer = Bearer { filename: Some(file.clone()), ..Bearer::default() };
    // Its clock stands still: what is read again is read because of the answer.
    let auth = Authenticator::bearer("bearertokenauth", &bearer, Clock::simulated()).unwrap();
    let headers = Headers(vec![("authorization".into(), "configured".into())]);
    let exporter = exporter(&Config { endpoint, tls, auth: Some(auth), headers, ..config(&server) });
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
