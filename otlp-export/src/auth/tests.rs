use std::time::Duration;

use otlp_core::{Failure, Reason};

use super::*;

struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, text: &str) -> TestFile {
        let path = std::env::temp_dir().join(format!("otlp-export-auth-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        TestFile(path)
    }

    /// Another file takes its place, as tools that rotate secrets do it.
    fn replace(&self, text: &str) {
        let other = self.0.with_extension("new");
        fs::write(&other, text).unwrap();
        fs::rename(&other, &self.0).unwrap();
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sent(auth: &Authenticator) -> String {
    auth.credentials().unwrap().value.reveal().to_owned()
}

fn unauthenticated() -> Outcome {
    Failure::rejected(Code::Unauthenticated, Reason::UNAUTHORIZED, "no").into()
}

#[test]
fn credentials_are_written_as_configured() {
    let clock = Clock::system();
    for (scheme, value) in [("Bearer", "Bearer a b"), ("Token", "Token a b"), ("", "a b")] {
        let config = Bearer { scheme: scheme.into(), token: "a b".into(), ..Bearer::default() };
        assert_eq!(sent(&Authenticator::bearer("b", &config, clock.clone()).unwrap()), value);
    }
    // The example of RFC 7617, section 2.
    let config = Basic { username: "Aladdin".into(), password: "open sesame".into(), ..Basic::default() };
    let auth = Authenticator::basic("b", &config, clock.clone()).unwrap();
    assert_eq!(sent(&auth), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let name = TestFile::new("name", "Aladdin\n");
    let word = TestFile::new("word", "open sesame\n");
    let config = Basic {
        username: "ignored".into(),
        username_file: Some(name.0.clone()),
        password_file: Some(word.0.clone()),
        ..Basic::default()
    };
    let auth = Authenticator::basic("b", &config, clock).unwrap();
    assert_eq!(sent(&auth), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

#[test]
fn credentials_take_the_place_of_a_header_of_their_name() {
    let header = |name: &str| (name.to_owned(), "x".to_owned());
    let credentials = Credentials { header: "Authorization".into(), value: "Bearer a".into() };
    let among = credentials.among(&[header("authorization"), header("X")]);
    assert_eq!(among, [header("X"), ("Authorization".to_owned(), "Bearer a".to_owned())]);
    let (name, value) = credentials.field().unwrap();
    assert!(name == "authorization" && value.is_sensitive());
    assert!(!format!("{credentials:?} {value:?}").contains("Bearer a"));
}

#[test]
fn a_file_is_read_again_when_it_changes_and_at_once_when_the_token_will_not_do() {
    let file = TestFile::new("token", "one\nsecond line\n");
    let clock = Clock::simulated();
    let config = Bearer { filename: Some(file.0.clone()), token: "ignored".into(), ..Bearer::default() };
    let auth = Authenticator::bearer("b", &config, clock.clone()).unwrap();
    assert_eq!(sent(&auth), "Bearer one");
    file.replace("two");
    assert_eq!(sent(&auth), "Bearer one", "looked at once a second");
    clock.advance(Duration::from_secs(1));
    assert_eq!(sent(&auth), "Bearer two");

    let before = auth.credentials().unwrap();
    assert_eq!(auth.renewed(&unauthenticated(), &before), None, "the same would be refused again");
    file.replace("three");
    assert_eq!(auth.renewed(&Outcome::Delivered, &before), None);
    let forbidden = Failure::rejected(Code::PermissionDenied, Reason::UNAUTHORIZED, "no").into();
    assert_eq!(auth.renewed(&forbidden, &before), None, "another token of ours is not another right");
    let renewed = auth.renewed(&unauthenticated(), &before).unwrap();
    assert_eq!((renewed.value.reveal(), renewed.header.as_str()), ("Bearer three", "Authorization"));
    // Another thread that had sent the old one gets what was read meanwhile.
    assert_eq!(auth.renewed(&unauthenticated(), &before), Some(renewed));
    assert_eq!(sent(&auth), "Bearer three");

    fs::remove_file(&file.0).unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(sent(&auth), "Bearer three", "the old one stays");
    file.replace("four\u{7}");
    clock.advance(Duration::from_secs(1));
    assert_eq!(sent(&auth), "Bearer three");
}

#[test]
fn until_a_file_that_may_come_later_is_there_requests_wait() {
    let file = TestFile::new("later", "");
    fs::remove_file(&file.0).unwrap();
    let clock = Clock::simulated();
    let config = Bearer { filename: Some(file.0.clone()), file_may_come_later: true, ..Bearer::default() };
    let auth = Authenticator::bearer("bearertokenauth/x", &config, clock.clone()).unwrap();
    for text in [None, Some("\n")] {
        text.into_iter().for_each(|text| file.replace(text));
        clock.advance(Duration::from_secs(1));
        let failure = auth.credentials().unwrap_err();
        assert!(failure.is_retryable() && failure.to_string().contains("bearertokenauth/x"), "{failure}");
    }
    file.replace("one # until May");
    assert!(auth.credentials().is_err(), "looked at once a second");
    clock.advance(Duration::from_secs(1));
    assert_eq!(sent(&auth), "Bearer one");
    let wrong = Bearer { header: "a:b".into(), ..config };
    assert_eq!(Authenticator::bearer("b", &wrong, clock).unwrap_err().key, "header", "only the file may be missing");
}

#[test]
fn what_cannot_be_sent_is_refused_without_being_shown() {
    let bearer = |change: fn(&mut Bearer)| {
        let mut config = Bearer { token: "hush".into(), ..Bearer::default() };
        change(&mut config);
        (Authenticator::bearer("b", &config, Clock::system()).map(drop), format!("{config:?}"))
    };
    let basic = |change: fn(&mut Basic)| {
        let mut config = Basic { username: "a".into(), password: "hush".into(), ..Basic::default() };
        change(&mut config);
        (Authenticator::basic("b", &config, Clock::system()).map(drop), format!("{config:?}"))
    };
    for (key, (made, debug)) in [
        ("token", bearer(|config| config.token = Secret::NONE)),
        ("token", bearer(|config| config.token = "hush\r\nx: y".into())),
        ("header", bearer(|config| config.header = "a:b".into())),
        ("scheme", bearer(|config| config.scheme = "a b".into())),
        ("filename", bearer(|config| config.filename = Some("/nowhere/at/all".into()))),
        ("client_auth::username", basic(|config| config.username = "a:b".into())),
        ("client_auth::password_file", basic(|config| config.password_file = Some("/nowhere/at/all".into()))),
    ] {
        let error = made.unwrap_err();
        assert_eq!(error.key, key);
        assert!(!format!("{error:?} {error} {debug}").contains("hush"), "{error:?} {debug}");
    }
}
