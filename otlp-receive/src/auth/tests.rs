use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use otlp_core::Clock;
use otlp_core::auth::Secret;

use super::bearer::Config;
use super::*;

/// A file that is gone when the test ends.
pub(super) struct TestFile(pub(super) PathBuf);

impl TestFile {
    pub(super) fn new(name: &str, text: &str) -> TestFile {
        let path = std::env::temp_dir().join(format!("otlp-receive-auth-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        TestFile(path)
    }

    /// Another file takes its place, as tools that rotate secrets do it.
    pub(super) fn replace(&self, text: &str) {
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

pub(super) fn takes(auth: &Authenticator, value: &str) -> bool {
    auth.check([value.as_bytes()].into_iter()).is_ok()
}

fn bearer(config: Config) -> Authenticator {
    Authenticator::bearer("bearertokenauth", &config, Clock::system()).unwrap()
}

fn of(tokens: &[&str]) -> Config {
    Config { tokens: tokens.iter().map(|&token| Secret::new(token)).collect(), ..Config::default() }
}

#[test]
fn a_token_has_to_be_one_of_those_that_are_known() {
    let auth = bearer(of(&["one", "two two"]));
    assert_eq!(auth.field(), "authorization");
    for (value, taken) in [
        ("Bearer one", true),
        ("bearer one", true),
        ("BEARER  one ", true),
        ("Bearer two two", true),
        ("Bearer", false),
        ("Bearer ", false),
        ("Bearer on", false),
        ("Bearer onee", false),
        ("Bearer One", false),
        ("Bearerone", false),
        ("Basic one", false),
        ("one", false),
        ("", false),
        ("Béarer one", false),
    ] {
        assert_eq!(takes(&auth, value), taken, "{value:?}");
    }
    let denied = auth.check(std::iter::empty()).unwrap_err();
    assert_eq!(denied, Denied::Credentials("Bearer".into()));
    let twice = [&b"Bearer one"[..], b"Bearer one"];
    assert!(auth.check(twice.into_iter()).is_err(), "nobody sends it twice by chance");
}

#[test]
fn scheme_and_header_are_configurable() {
    let auth = bearer(Config { scheme: String::new(), header: "X-Api-Key".into(), ..of(&["one"]) });
    assert_eq!(auth.field(), "x-api-key");
    assert!(takes(&auth, "one") && takes(&auth, " one ") && !takes(&auth, "Bearer one"));
    let auth = bearer(Config { scheme: "Token".into(), ..of(&["one"]) });
    assert!(takes(&auth, "Token one") && !takes(&auth, "Bearer one"));
}

#[test]
fn a_file_is_read_again_when_it_changes_and_stays_in_force_when_it_goes() {
    let file = TestFile::new("tokens", "one\n two \n");
    let clock = Clock::simulated();
    let config = Config { filename: Some(file.0.clone()), ..of(&["ignored"]) };
    let auth = Authenticator::bearer("bearertokenauth", &config, clock.clone()).unwrap();
    assert!(takes(&auth, "Bearer one") && takes(&auth, "Bearer two") && !takes(&auth, "Bearer ignored"));
    file.replace("three\n");
    assert!(takes(&auth, "Bearer one"), "looked at once a second");
    assert!(!takes(&auth, "Bearer three"));
    clock.advance(Duration::from_millis(10));
    assert!(takes(&auth, "Bearer one") && takes(&auth, "Bearer three"), "sooner where a token will not do");
    assert!(!takes(&auth, "Bearer one"));
    file.replace("five\n");
    assert!(takes(&auth, "Bearer three"));
    file.replace("three\n");
    clock.advance(Duration::from_secs(1));
    assert!(takes(&auth, "Bearer three") && !takes(&auth, "Bearer one"));
    for text in ["", "\n\n"] {
        file.replace(text);
        clock.advance(Duration::from_secs(1));
        assert!(takes(&auth, "Bearer three"), "{text:?} lets nobody else in");
        assert!(!takes(&auth, "Bearer ") && !takes(&auth, ""));
    }
    fs::remove_file(&file.0).unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(takes(&auth, "Bearer three"));
    file.replace("four");
    clock.advance(Duration::from_secs(1));
    assert!(takes(&auth, "Bearer four") && !takes(&auth, "Bearer three"));
}

#[test]
fn until_a_file_that_may_come_later_is_there_nobody_is_let_in() {
    let file = TestFile::new("later", "");
    fs::remove_file(&file.0).unwrap();
    let clock = Clock::simulated();
    let config = Config { filename: Some(file.0.clone()), file_may_come_later: true, ..Config::default() };
    let auth = Authenticator::bearer("bearertokenauth", &config, clock.clone()).unwrap();
    for value in ["", "Bearer", "Bearer ", "Bearer one"] {
        assert!(!takes(&auth, value), "{value:?}");
        assert!(auth.check(std::iter::empty()).is_err());
    }
    file.replace("one until May\n");
    clock.advance(Duration::from_secs(1));
    assert!(takes(&auth, "Bearer one") && !takes(&auth, "Bearer until"));
}

#[test]
fn what_would_let_in_everybody_or_nobody_is_refused_without_being_shown() {
    let empty = TestFile::new("empty", " \n");
    for (key, config) in [
        ("token", of(&[])),
        ("token", of(&["hush", ""])),
        ("header", Config { header: String::new(), ..of(&["hush"]) }),
        ("header", Config { header: "a b".into(), ..of(&["hush"]) }),
        ("scheme", Config { scheme: "a b".into(), ..of(&["hush"]) }),
        ("filename", Config { filename: Some(empty.0.clone()), ..of(&["hush"]) }),
        ("filename", Config { filename: Some("/nowhere/at/all".into()), ..of(&["hush"]) }),
    ] {
        let error = Authenticator::bearer("b", &config, Clock::system()).unwrap_err();
        assert_eq!(error.key, key);
        assert!(!format!("{error:?} {error} {config:?}").contains("hush"), "{error}");
    }
    assert_eq!(format!("{:?}", bearer(of(&["hush"]))), "Authenticator(bearer)");
}
