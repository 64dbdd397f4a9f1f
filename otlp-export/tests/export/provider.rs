//! The host's cryptography: it is used where it is passed, and nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otlp_core::component::Exporter;
use otlp_core::telemetry::registry::Registry;
use otlp_core::{Batch, Clock, Deadline, Group, ItemCount, Outcome, Signal};
use otlp_export::client::{Mode, OtlpClient};
use otlp_export::otlp_http::{self, OtlpHttp};
use otlp_export::{ConfigError, tls};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SupportedKxGroup, ring};
use rustls::{Error, NamedGroup};

use crate::sink::{By, Sink};
use crate::support;

const LONG: Duration = Duration::from_secs(60);

/// ring's, and counts the key exchanges that it begins.
#[derive(Debug)]
struct Counting(AtomicUsize);

impl SupportedKxGroup for Counting {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        ring::kx_group::X25519.start()
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// A provider whose only group counts, and the count.
fn counting() -> (Arc<CryptoProvider>, &'static AtomicUsize) {
    let group: &'static Counting = Box::leak(Box::new(Counting(AtomicUsize::new(0))));
    (Arc::new(CryptoProvider { kx_groups: vec![group], ..ring::default_provider() }), &group.0)
}

#[test]
fn the_client_uses_what_it_is_passed_over_https_and_grpc() {
    let cells = [By::Https, By::Grpcs].into_iter().flat_map(|by| [Mode::Queued, Mode::Direct].map(|mode| (by, mode)));
    for (by, mode) in cells {
        let sink = Sink::start(by, || {});
        let (provider, used) = counting();
        // Whatever the order of the settings.
        let first = OtlpClient::builder().crypto_provider(Arc::clone(&provider));
        let client = sink.builder(first).mode(mode).build().unwrap();
        assert_eq!(used.load(Ordering::SeqCst), 0, "nothing is connected to yet");
        client.send_trace("a").finish();
        assert_eq!(client.shutdown(LONG).unwrap().delivered.get(), 1, "{by:?} {mode:?}");
        assert_eq!(used.load(Ordering::SeqCst), 1, "{by:?} {mode:?}");
        assert_eq!(sink.seen.try_iter().count(), 1);
    }
}

#[test]
fn a_signals_own_provider_stands_in_the_tls_of_an_exporter() {
    let sink = Sink::start(By::Https, || {});
    let (provider, used) = counting();
    let crypto_provider = Some(provider.into());
    let ca_pem = Some(sink.certificate().to_owned());
    let tls = tls::Config { ca_pem, crypto_provider, ..tls::Config::default() };
    let config = otlp_http::Config { endpoint: sink.url(), tls, ..Default::default() };
    let exporter = OtlpHttp::new("otlp_http", &config, Signal::Traces, Clock::system(), &Registry::new()).unwrap();
    let group = Group::of(Batch::trusted(Signal::Traces, ItemCount(3), support::spans(0, 3)));
    assert_eq!(exporter.export(&group, Deadline::NEVER), Outcome::Delivered);
    assert_eq!(used.load(Ordering::SeqCst), 1);
}

#[test]
fn what_the_provider_has_not_is_named() {
    let build = |tls: tls::Config| -> Result<OtlpClient, ConfigError> {
        let (provider, _) = counting();
        OtlpClient::builder().endpoint("https://localhost:1").tls(tls).crypto_provider(provider).build()
    };
    let curve_preferences = vec!["P256".to_owned()];
    let error = build(tls::Config { curve_preferences, ..tls::Config::default() }).unwrap_err().to_string();
    assert!(error.contains("tls::curve_preferences") && error.ends_with("is none of X25519"), "{error}");
    let cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
    build(tls::Config { cipher_suites, ..tls::Config::default() }).unwrap();
}
