use std::time::Duration;

use otlp_core::auth::base64;

use super::super::Authenticator;
use super::super::tests::{TestFile, takes};
use super::*;

/// As `htpasswd -nbB -C 4` makes them.
fn bcrypt_hash(password: &str) -> String {
    bcrypt::hash_with_salt(password, 4, *b"0123456789abcdef").unwrap().format_for_version(bcrypt::Version::TwoY)
}

fn basic(inline: &str) -> Authenticator {
    let config = Config { inline: Secret::new(inline), file: None };
    Authenticator::basic("basicauth", &config, Clock::system()).unwrap()
}

fn header(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

#[test]
fn passwords_are_checked_by_every_kind_of_hash() {
    let hash = bcrypt_hash("secret");
    let lines = format!(
        "# people\n\nann:{hash}\nbob:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\ncarl:secret\ndora:se:cret\n\
         eve:{}\n",
        hash.replace("$2y$", "$2a$")
    );
    let auth = basic(&lines);
    for user in ["ann", "bob", "carl", "eve"] {
        for password in ["wrong", "", "secre", "secret "] {
            assert!(!takes(&auth, &header(user, password)), "{user} {password:?}");
        }
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            let identity = auth.check([header(user, "secret").as_bytes()].into_iter()).unwrap();
            assert_eq!(identity, [("username".to_owned(), user.to_owned())]);
        }
        assert!(!takes(&auth, &header(user, "wrong")), "{user}");
    }
    assert!(takes(&auth, &header("dora", "se:cret")), "only the first colon ends the name");
    for value in [
        header("nobody", "secret"),
        header("", "secret"),
        header("# people", ""),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        format!("Basic {}", base64(b"ann")),
        format!("Basic {}", base64(b"\xff:secret")),
        header("ann", "secret").replace("Basic", "Bearer"),
        header("ann", "secret").replace("Basic ", "Basic"),
    ] {
        assert!(!takes(&auth, &value), "{value}");
    }
    assert!(takes(&auth, &header("ann", "secret").replace("Basic", "bASIC")), "RFC 7617: schemes have no case");
    assert!(
        matches!(auth.check(std::iter::empty()), Err(Denied::Credentials(challenge)) if challenge.starts_with("Basic realm="))
    );
}

#[test]
fn a_file_is_read_again_when_it_changes_and_inline_goes_before_it() {
    let file = TestFile::new("htpasswd", "ann:one\nbob:one\n");
    let clock = Clock::simulated();
    let config = Config { inline: "ann:inline".into(), file: Some(file.0.clone()) };
    let auth = Authenticator::basic("basicauth", &config, clock.clone()).unwrap();
    assert!(takes(&auth, &header("ann", "inline")) && !takes(&auth, &header("ann", "one")));
    assert!(takes(&auth, &header("bob", "one")));
    file.replace(&format!("bob:{}", bcrypt_hash("two")));
    clock.advance(Duration::from_secs(1));
    assert!(takes(&auth, &header("bob", "two")) && !takes(&auth, &header("bob", "one")));
    file.replace(&format!("bob:{}", bcrypt_hash("three")));
    clock.advance(Duration::from_secs(1));
    assert!(!takes(&auth, &header("bob", "two")), "what was remembered went with the file");
    file.replace("bob:$apr1$x$y\n");
    clock.advance(Duration::from_secs(1));
    assert!(takes(&auth, &header("bob", "three")), "nonsense does not lock anybody out");
}

#[test]
fn what_cannot_be_used_is_named_by_line_and_not_shown() {
    let slow = format!("hush:{}", bcrypt_hash("hush").replace("$04$", "$15$"));
    for (lines, message) in [
        ("", "must name a user"),
        ("\nhush", "line 2: expected user:hash"),
        (":hush", "line 1: expected user:hash"),
        ("hush:", "line 1: expected user:hash"),
        ("a:b\nhush:{SHA}hush", "line 2: behind {SHA}"),
        ("hush:$2y$04$hush", "line 1: this is no hash of bcrypt"),
        ("hush:$apr1$hush$hush", "line 1: hashes of this kind are not taken"),
        ("hush:{SSHA}hush", "line 1: hashes of this kind are not taken"),
        (&slow, "line 1: a bcrypt cost above 14"),
    ] {
        let config = Config { inline: lines.into(), file: None };
        let error = Authenticator::basic("basicauth", &config, Clock::system()).unwrap_err();
        assert!(error.message.starts_with(message), "{lines:?}: {error}");
        assert!(!format!("{error:?} {config:?}").contains("hush"), "{error}");
    }
}

#[test]
fn wrong_passwords_get_a_tenth_of_the_time() {
    let begin = Instant::now();
    let mut allowance = Allowance::new(begin);
    let took = Duration::from_millis(300);
    let mut asked = 0;
    while allowance.ask(begin).is_ok() {
        allowance.spend(took);
        asked += 1;
    }
    assert_eq!(asked, 4, "one second ahead");
    // 200 ms were overdrawn.
    assert_eq!(allowance.ask(begin), Err(Duration::from_secs(2)));
    assert!(allowance.ask(begin + Duration::from_millis(1900)).is_err());
    let (mut now, mut spent) = (begin + Duration::from_secs(2), Duration::ZERO);
    for _ in 0..1000 {
        now += Duration::from_millis(100);
        if allowance.ask(now).is_ok() {
            allowance.spend(took);
            spent += took;
        }
    }
    let tenth = Duration::from_secs(10);
    assert!(spent <= tenth + took && spent >= tenth - took, "{spent:?} of 100 s");
    assert!(allowance.ask(now + Duration::from_secs(3600)).is_ok());
    assert!(allowance.left <= nanoseconds(BURST), "it gathers no further");
}

#[test]
fn once_a_password_is_known_wrong_ones_cost_nothing_and_before_that_the_flood_is_refused() {
    let auth = basic(&format!("ann:{}\nbob:{}", bcrypt_hash("a"), bcrypt_hash("b")));
    let super::super::Kind::Basic(inner) = &*auth.0 else { panic!("it is") };
    assert!(takes(&auth, &header("ann", "a")));
    inner.slow.lock().left = i64::MIN / 2;
    assert!(takes(&auth, &header("ann", "a")));
    let wrong = auth.check([header("ann", "b").as_bytes()].into_iter());
    assert!(matches!(wrong, Err(Denied::Credentials(_))), "{wrong:?}");
    let unknown = auth.check([header("nobody", "b").as_bytes()].into_iter());
    assert!(matches!(unknown, Err(Denied::Credentials(_))), "{unknown:?}");
    let busy = auth.check([header("bob", "b").as_bytes()].into_iter());
    let Err(denied @ Denied::Busy(_)) = busy else { panic!("{busy:?}") };
    let (failure, challenge) = denied.failure();
    assert!(failure.is_retryable() && challenge.is_none());
}
