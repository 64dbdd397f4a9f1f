//! Which proxy a request goes through: by `proxy_url`, else by the environment as Go reads it.
//!
//! `HTTP_PROXY` for http, `HTTPS_PROXY` for https, each in lower case where the upper case is not set; `NO_PROXY` lists
//! what goes straight: `*`, host names with their subdomains, `.name` for subdomains alone, addresses, networks, each with
//! a port if it is to hold for that port only. Requests to localhost and to loopback addresses are never proxied by the
//! environment.

use std::net::IpAddr;

use super::url::Url;
use crate::ConfigError;

/// The proxies of one exporter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Proxies {
    pub(crate) for_http: Option<Url>,
    pub(crate) for_https: Option<Url>,
    rules: Option<String>,
    /// From the environment: localhost goes straight.
    from_environment: bool,
}

impl Proxies {
    /// By the configuration, or by `variable`, which looks into the environment.
    pub(crate) fn new(proxy_url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, ConfigError> {
        if !proxy_url.is_empty() {
            let url = Url::parse(proxy_url).map_err(|error| ConfigError::new("proxy_url", error.to_string()))?;
            return Ok(Proxies { for_http: Some(url.clone()), for_https: Some(url), ..Proxies::default() });
        }
        let get = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_lowercase()))
        };
        let proxy = |name: &str| {
            let Some(value) = get(name) else { return Ok(None) };
            let with_scheme = if value.contains("://") { value } else { format!("http://{value}") };
            let url = Url::parse(&with_scheme);
            url.map(Some).map_err(|error| ConfigError::new(name, format!("the environment's proxy {error}")))
        };
        Ok(Proxies {
            for_http: proxy("HTTP_PROXY")?,
            for_https: proxy("HTTPS_PROXY")?,
            rules: get("NO_PROXY"),
            from_environment: true,
        })
    }

    #[cfg(feature = "grpc")]
    /// For gRPC, by the environment: `grpc_proxy`, which gRPC's own libraries look at first, else as for https.
    pub(crate) fn of_grpc(variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, ConfigError> {
        let own = variable("grpc_proxy").filter(|proxy| !proxy.is_empty());
        let variable = |name: &str| match (name, &own) {
            // That for http is not asked for, and need not be one that could be used.
            ("HTTP_PROXY" | "http_proxy", _) => None,
            ("HTTPS_PROXY", Some(own)) => Some(own.clone()),
            _ => variable(name),
        };
        Proxies::new("", variable)
    }

    /// The proxy for a request, if it takes one.
    pub(crate) fn for_url(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.https { self.for_https.as_ref() } else { self.for_http.as_ref() }?;
        (!self.is_straight(url)).then_some(proxy)
    }

    fn is_straight(&self, url: &Url) -> bool {
        if !self.from_environment || url.socket.is_some() {
            return url.socket.is_some();
        }
        let address = url.host.parse::<IpAddr>().ok();
        if url.host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let rules = self.rules.as_deref().unwrap_or_default();
        rules.split(',').map(|rule| rule.trim().to_lowercase()).any(|rule| matches(&rule, url, address))
    }
}

fn matches(rule: &str, url: &Url, address: Option<IpAddr>) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    if let Some((network, bits)) = rule.split_once('/') {
        let network = network.parse::<IpAddr>().ok().zip(bits.parse::<u32>().ok());
        return network.zip(address).is_some_and(|((network, bits), address)| within(address, network, bits));
    }
    let (host, port) = match rule.rsplit_once(':') {
        // An IPv6 address has colons of its own.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (rule, None),
    };
    if port.is_some_and(|port| port != url.port) {
        return false;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(rule) = host.parse::<IpAddr>() {
        return address == Some(rule);
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        Some(domain) => is_below(&url.host, domain),
        None => url.host == host || is_below(&url.host, host),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(environment: &[(&str, &str)], url: &str) -> Option<String> {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        let proxies = Proxies::new("", variable).unwrap();
        proxies.for_url(&Url::parse(url).unwrap()).map(|url| url.to_string())
    }

    #[test]
    fn proxies_are_chosen_by_scheme() {
        let environment = [("HTTP_PROXY", "one:3128"), ("https_proxy", "http://two:1"), ("http_proxy", "three")];
        assert_eq!(proxy(&environment, "http://h/").as_deref(), Some("http://one:3128/"));
        assert_eq!(proxy(&environment, "https://h/").as_deref(), Some("http://two:1/"));
        for url in ["http://localhost:4318", "http://127.0.0.9", "http://[::1]:1"] {
            assert_eq!(proxy(&environment, url), None, "{url}");
        }
        assert_eq!(proxy(&[], "http://h/"), None);
        assert_eq!(proxy(&[("HTTP_PROXY", "")], "http://h/"), None);
        let explicit = Proxies::new("http://p:1", |_| Some("x".into())).unwrap();
        assert!(explicit.for_url(&Url::parse("http://localhost").unwrap()).is_some());
        assert_eq!(Proxies::new("socks5://p", |_| None).unwrap_err().key, "proxy_url");
    }

    #[test]
    fn grpc_has_a_proxy_of_its_own_or_that_of_https() {
        let chosen = |environment: &[(&str, &str)], url: &str| {
            let variable =
                |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            let proxies = Proxies::of_grpc(variable).map_err(|error| error.key)?;
            Ok::<_, String>(proxies.for_url(&Url::parse(url).unwrap()).map(|url| url.to_string()))
        };
        let proxy = |url: &str| Ok(Some(url.to_owned()));
        let (own, https) = (("grpc_proxy", "http://own:1"), ("HTTPS_PROXY", "http://https:1"));
        assert_eq!(chosen(&[own, https], "https://h:1"), proxy("http://own:1/"));
        assert_eq!(chosen(&[https], "https://h:1"), proxy("http://https:1/"));
        assert_eq!(chosen(&[("https_proxy", "lower")], "https://h:1"), proxy("http://lower/"));
        assert_eq!(chosen(&[own, ("NO_PROXY", "h:1")], "https://h:1"), Ok(None));
        assert_eq!(chosen(&[own, ("no_proxy", "h:2")], "https://h:1"), proxy("http://own:1/"));
        assert_eq!(chosen(&[own], "https://localhost:1"), Ok(None));
        assert_eq!(chosen(&[("HTTP_PROXY", "socks5://http:1")], "https://h:1"), Ok(None));
        assert_eq!(chosen(&[("grpc_proxy", "socks5://p")], "https://h:1"), Err("HTTPS_PROXY".to_owned()));
    }

    #[test]
    fn a_unix_socket_is_never_behind_a_proxy() {
        let socket = Url::endpoint("unix:///run/a.sock").unwrap();
        let explicit = Proxies::new("http://p:1", |_| None).unwrap();
        assert_eq!(explicit.for_url(&socket), None);
        assert_eq!(Proxies::new("", |_| Some("http://p:1".into())).unwrap().for_url(&socket), None);
    }

    #[test]
    fn no_proxy_by_table() {
        for (rules, url, straight) in [
            ("*", "http://a.b", true),
            ("a.b", "http://a.b", true),
            ("a.b", "http://x.a.b", true),
            ("a.b", "http://xa.b", false),
            (".a.b", "http://a.b", false),
            (".a.b", "http://x.a.b", true),
            ("*.a.b", "http://x.a.b", true),
            ("A.B:80", "http://a.b", true),
            ("a.b:81", "http://a.b", false),
            ("x, 10.0.0.0/8", "http://10.2.3.4", true),
            ("10.0.0.0/8", "http://11.2.3.4", false),
            ("0.0.0.0/0", "http://11.2.3.4", true),
            ("fd00::/8", "http://[fd01::1]:5", true),
            ("10.1.1.1", "http://10.1.1.1:99", true),
            ("fd01::1", "http://[fd01::1]", true),
            (",", "http://a.b", false),
            ("10.0.0.0/x", "http://10.0.0.0", false),
        ] {
            let environment = [("HTTP_PROXY", "p"), ("NO_PROXY", rules)];
            assert_eq!(proxy(&environment, url).is_none(), straight, "{rules} {url}");
        }
    }
}
