//! What the values of a block must fulfil together. Each check is named in its table and is called when everything
//! in the component decoded; those that end in `_used` when a pipeline names the component.

use otlp_core::Signal;

use super::decode::Checker;
use super::endpoint;
use super::node::Value;
use super::section::{CURVES, Section, supported_curves};

pub(super) fn tls_client(section: &Section, checker: &mut Checker<'_>) {
    tls(section, checker);
    // `insecure` beside a CA is TLS all the same: only the pair may be missing.
    pair(section, checker);
}

pub(super) fn tls_server(section: &Section, checker: &mut Checker<'_>) {
    tls(section, checker);
    if !has(section, "cert") && !has(section, "key") {
        checker.error(section, "", "a server needs a certificate and a key: cert_file and key_file");
    }
    if has(section, "ca") && section.str("client_ca_file").is_empty() {
        let key = if section.given("ca_file") { "ca_file" } else { "ca_pem" };
        checker.warn(section, key, "has no effect on a server: client_ca_file is what asks clients for a certificate");
    }
    pair(section, checker);
}

/// What a section that is there without a word in it does not do.
fn server(section: &Section, checker: &mut Checker<'_>) {
    for (key, what) in [("tls", "nothing is encrypted"), ("auth", "everybody may send")] {
        if section.given(key) && section.sub(key).is_none() {
            checker.warn(section, key, format!("is empty: {what}"));
        }
    }
    let endpoint = section.str("endpoint");
    let port = endpoint.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if section.str("transport") == "unix" && port {
        checker.warn(section, "endpoint", format!("{endpoint:?} is taken for the path of a Unix socket"));
    }
}

/// Whether `{what}_file` or `{what}_pem` is given.
fn has(section: &Section, what: &str) -> bool {
    !section.str(&format!("{what}_file")).is_empty() || !section.secret(&format!("{what}_pem")).reveal().is_empty()
}

fn pair(section: &Section, checker: &mut Checker<'_>) {
    if has(section, "cert") != has(section, "key") {
        checker.error(section, "", "a certificate needs its key and a key its certificate: cert_file and key_file");
    }
}

fn tls(section: &Section, checker: &mut Checker<'_>) {
    for what in ["ca", "cert", "key"] {
        let (file, pem) = (format!("{what}_file"), format!("{what}_pem"));
        let both = !section.str(&file).is_empty() && !section.secret(&pem).reveal().is_empty();
        checker.require(!both, section, &pem, format!("give {file} or {pem}, not both"));
    }
    let versions = ["1.0", "1.1", "1.2", "1.3"];
    for key in ["min_version", "max_version"] {
        let version = section.str(key);
        let fits = version.is_empty() || versions.contains(&version);
        checker.require(fits, section, key, format!("expected 1.0, 1.1, 1.2 or 1.3, got {version:?}"));
    }
    let (min, max) = (section.str("min_version"), section.str("max_version"));
    // Texts of one length order as the numbers do.
    let ordered = max.is_empty() || min.is_empty() || min <= max;
    checker.require(ordered, section, "max_version", "is below min_version");
    let curves = ["X25519", "P256", "P384", "P521", "X25519MLKEM768"];
    let others = section.list_str("curve_preferences").iter().filter(|curve| !CURVES.contains(&curve.as_str()));
    if supported_curves(section).iter().any(|curve| CURVES.contains(&curve.as_str())) {
        for curve in others.filter(|curve| curves.contains(&curve.as_str())) {
            let message = format!("{curve} is passed over: otlpd has {}", CURVES.join(", "));
            checker.warn(section, "curve_preferences", message);
        }
    }
    for curve in section.list_str("curve_preferences") {
        let fits = curves.contains(&curve.as_str());
        checker.require(
            fits,
            section,
            "curve_preferences",
            format!("unknown curve {curve:?}; known are {}", curves.join(", ")),
        );
    }
}

pub(super) fn otlp_receiver(section: &Section, checker: &mut Checker<'_>) {
    let none = section.sub("protocols").is_none_or(|p| p.sub("grpc").is_none() && p.sub("http").is_none());
    checker.require(!none, section, "protocols", "needs grpc, http or both");
    checker.require(section.nanoseconds("acknowledge_timeout") > 0, section, "acknowledge_timeout", "must be above 0");
}

pub(super) fn grpc_server(section: &Section, checker: &mut Checker<'_>) {
    server(section, checker);
    let size = section.i64("max_recv_msg_size_mib");
    checker.require(
        (1..=8_796_093_022_207).contains(&size),
        section,
        "max_recv_msg_size_mib",
        format!("expected 1 to 8796093022207, got {size}"),
    );
    for key in ["read_buffer_size", "write_buffer_size"] {
        checker.require(section.i64(key) >= 0, section, key, "must not be negative");
    }
}

pub(super) fn http_server(section: &Section, checker: &mut Checker<'_>) {
    server(section, checker);
    for key in ["traces_url_path", "metrics_url_path", "logs_url_path"] {
        let path = section.str(key);
        // What follows is the Collector's reading of the path as a URL.
        let fits = endpoint::is_url(path);
        checker.require(fits, section, key, format!("{path:?} is no path of a URL"));
    }
}

pub(super) fn otlp_grpc(section: &Section, checker: &mut Checker<'_>) {
    let target = section.str("endpoint");
    if target.is_empty() {
        checker.error(section, "endpoint", "must be given: host:port");
    } else if let Err(message) = endpoint::grpc_target(target) {
        checker.error(section, "endpoint", message);
    }
    let insecure = section.sub("tls").is_some_and(|tls| tls.bool("insecure"));
    if target.starts_with("http://") && !insecure {
        checker.warn(section, "endpoint", "http:// does not turn TLS off here; tls::insecure: true does");
    }
    if let Some(tls) = section.sub("tls").filter(|tls| tls.bool("insecure")) {
        // What the exporter says at its start, which fails then as the Collector's does.
        let authority = ["ca_file", "ca_pem"].iter().any(|key| tls.given(key));
        let plain = !authority && !target.starts_with("https://") && !target.starts_with("unix");
        if plain && section.sub("auth").is_some() {
            let message = "with auth the credentials would go out in plain text: otlpd does not start with both";
            checker.warn(&tls, "insecure", message);
        }
    }
    checker.require(section.nanoseconds("timeout") >= 0, section, "timeout", "must not be negative");
    let balancers = ["round_robin", "pick_first"];
    let balancer = section.str("balancer_name");
    checker.require(
        balancer.is_empty() || balancers.contains(&balancer),
        section,
        "balancer_name",
        format!("expected one of {}, got {balancer:?}", balancers.join(", ")),
    );
    exporter(section, checker);
}

fn exporter(section: &Section, checker: &mut Checker<'_>) {
    let Some(queue) = section.sub("sending_queue") else { return };
    let policy = section.str("when_full");
    if queue.bool("block_on_overflow") && !matches!(policy, "" | "block") {
        checker.error(section, "when_full", format!("says {policy}, and sending_queue::block_on_overflow says block"));
    }
}

pub(super) fn otlp_http(section: &Section, checker: &mut Checker<'_>) {
    let keys = ["endpoint", "traces_endpoint", "metrics_endpoint", "logs_endpoint", "profiles_endpoint"];
    if keys.iter().all(|key| section.str(key).is_empty()) {
        checker.error(section, "endpoint", "must be given: the base URL, such as http://localhost:4318");
    }
    let endpoint = section.str("endpoint");
    for suffix in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        if endpoint.trim_end_matches('/').ends_with(suffix) {
            checker.warn(
                section,
                "endpoint",
                format!(
                    "{suffix} is appended to it again; remove it here or write {}",
                    match suffix {
                        "/v1/traces" => "traces_endpoint",
                        "/v1/metrics" => "metrics_endpoint",
                        _ => "logs_endpoint",
                    }
                ),
            );
        }
    }
    let plain = keys.iter().find(|key| section.str(key).starts_with("http://"));
    if let Some(key) = plain.filter(|_| section.sub("auth").is_some()) {
        checker.warn(section, key, "the credentials of auth go out in plain text; https:// would hide them");
    }
    if let Some(tls) = section.sub("tls") {
        let secured = keys.iter().any(|key| section.str(key).starts_with("https://"));
        if secured && tls.bool("insecure") {
            let message = "has no effect on https://; insecure_skip_verify: true takes any certificate";
            checker.warn(&tls, "insecure", message);
        }
        let key = ["ca_file", "ca_pem", "cert_file", "cert_pem"].into_iter().find(|key| tls.given(key));
        if let (Some(_), Some(key), false) = (plain, key, secured) {
            checker.warn(&tls, key, "has no effect on http://, which is not encrypted; write https://");
        }
    }
    compression_level(section, checker);
    exporter(section, checker);
}

fn compression_level(section: &Section, checker: &mut Checker<'_>) {
    let Some(params) = section.sub("compression_params") else { return };
    let level = params.i64("level");
    let compression = section.str("compression");
    let fits = match compression {
        "gzip" | "zlib" | "deflate" => (-2..=9).contains(&level),
        "zstd" => true,
        _ => level == 0,
    };
    checker.require(fits, &params, "level", format!("{level} is no level of the compression {compression:?}"));
}

/// The endpoint of a signal a pipeline hands over must be one.
pub(super) fn otlp_http_used(section: &Section, signal: Signal, checker: &mut Checker<'_>) {
    let key = match signal {
        Signal::Traces => "traces_endpoint",
        Signal::Metrics => "metrics_endpoint",
        Signal::Logs => "logs_endpoint",
        #[allow(unreachable_patterns, reason = "a signal may be added")]
        _ => return,
    };
    let own = section.str(key);
    if !own.is_empty() {
        let message = format!("{own:?} is no URL; it should be like http://localhost:4318/v1/{}", &key[..4]);
        return checker.require(endpoint::is_url(own), section, key, message);
    }
    let base = section.str("endpoint");
    if base.is_empty() {
        return checker.error(section, key, format!("must be given (or endpoint): a pipeline of {signal} uses it"));
    }
    if !endpoint::is_url(base) {
        let message = format!("{base:?} is no URL; did you mean \"http://{base}\"?");
        return checker.error(section, "endpoint", message);
    }
    // Ours, where the Collector has no way: a Unix socket.
    if !["http://", "https://", "unix:", "unix-abstract:"].iter().any(|scheme| base.starts_with(scheme)) {
        checker.warn(section, "endpoint", format!("{base:?} has neither http:// nor https://: nothing can be sent"));
    }
}

pub(super) fn retry(section: &Section, checker: &mut Checker<'_>) {
    for key in ["initial_interval", "max_interval", "max_elapsed_time"] {
        checker.require(section.nanoseconds(key) >= 0, section, key, "must not be negative");
    }
    let factor = section.f64("randomization_factor");
    checker.require((0.0..=1.0).contains(&factor), section, "randomization_factor", "must be between 0 and 1");
    checker.require(section.f64("multiplier") >= 0.0, section, "multiplier", "must not be negative");
    let elapsed = section.nanoseconds("max_elapsed_time");
    if elapsed > 0 {
        for key in ["initial_interval", "max_interval"] {
            let fits = section.nanoseconds(key) <= elapsed;
            checker.require(fits, section, key, "must not be above max_elapsed_time");
        }
    }
}

pub(super) fn queue(section: &Section, checker: &mut Checker<'_>) {
    for key in ["num_consumers", "queue_size"] {
        checker.require(section.i64(key) > 0, section, key, "must be above 0");
    }
    if section.bool("wait_for_result") && section.id("storage").is_some() {
        checker.error(section, "wait_for_result", "cannot be waited for with storage");
    }
    if let Some(batch) = section.sub("batch") {
        let own = batch.given("sizer");
        let inherited = !own && section.given("sizer");
        if inherited && section.str("sizer") == "requests" {
            checker.error(section, "sizer", "batches count items or bytes: give batch its own sizer");
        }
        let same = inherited || section.str("sizer") == batch.str("sizer");
        let (min, queue) = (batch.i64("min_size"), section.i64("queue_size"));
        if same && min > queue {
            checker.error(&batch, "min_size", format!("{min} never gather in a queue_size of {queue}"));
        }
    }
}

pub(super) fn queue_batch(section: &Section, checker: &mut Checker<'_>) {
    checker.require(section.nanoseconds("flush_timeout") > 0, section, "flush_timeout", "must be above 0");
    checker.require(section.str("sizer") != "requests", section, "sizer", "batches count items or bytes");
    let (min, max) = (section.i64("min_size"), section.i64("max_size"));
    checker.require(min >= 0, section, "min_size", "must not be negative");
    checker.require(max >= 0, section, "max_size", "must not be negative");
    if max > 0 && max < min {
        checker.error(section, "max_size", format!("{max} is below min_size, {min}"));
    }
}

pub(super) fn metadata_keys(section: &Section, checker: &mut Checker<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for key in section.list_str("metadata_keys") {
        if !seen.insert(key.to_lowercase()) {
            checker.error(section, "metadata_keys", format!("{key:?} stands in it twice (letter case does not count)"));
        }
    }
}

pub(super) fn rate_limit(section: &Section, checker: &mut Checker<'_>) {
    checker.require(section.u64("rate") > 0, section, "rate", "must be given and above 0");
    checker.require(section.nanoseconds("window") > 0, section, "window", "must be above 0");
    let (idle, algorithm) = match section.str("algorithm") {
        "sliding_window" => ("capacity", "token_bucket"),
        _ => ("window", "sliding_window"),
    };
    checker.require(!section.given(idle), section, idle, format!("has an effect only with algorithm: {algorithm}"));
}

pub(super) fn inlet(section: &Section, checker: &mut Checker<'_>) {
    checker.require(section.u64("capacity") > 0, section, "capacity", "must be above 0");
}

pub(super) fn threads(section: &Section, checker: &mut Checker<'_>) {
    checker.require(section.u64("stack_kib") >= 64, section, "stack_kib", "must be 64 at least");
}

pub(super) fn service(section: &Section, checker: &mut Checker<'_>) {
    let percentage = section.u64("memory_host_limit_percentage");
    checker.require(percentage <= 100, section, "memory_host_limit_percentage", "expected 0 (off) to 100");
    let Some(telemetry) = section.sub("telemetry") else { return };
    let resource = telemetry.value("resource");
    for entry in resource.as_map().into_iter().flat_map(super::node::Map::iter) {
        let own = matches!(entry.key.as_str(), "attributes" | "schema_url" | "detection/development");
        if !own && matches!(entry.value.value, Value::List(_) | Value::Map(_)) {
            let message = format!("expected a string for the attribute {}, got {}", entry.key, entry.value.what());
            checker.error(&telemetry, "resource", message);
        }
    }
    let Some(metrics) = telemetry.sub("metrics") else { return };
    if metrics.str("level") == "detailed" {
        checker.warn(&metrics, "level", "detailed shows what normal shows: there is nothing more to show");
    }
    if metrics.given("readers") && metrics.list("readers").is_empty() && metrics.str("level") != "none" {
        checker.error(&metrics, "readers", "must hold a reader, or level must be none");
    }
}

pub(super) fn memory_limiter(section: &Section, checker: &mut Checker<'_>) {
    checker.require(
        section.nanoseconds("check_interval") > 0,
        section,
        "check_interval",
        "must be given and above 0; 1s is a good value",
    );
    let (limit, spike) = (section.u64("limit_mib"), section.u64("spike_limit_mib"));
    let (percentage, spike_percentage) = (section.u64("limit_percentage"), section.u64("spike_limit_percentage"));
    checker.require(limit > 0 || percentage > 0, section, "", "limit_mib or limit_percentage must be given");
    for (key, value) in [("limit_percentage", percentage), ("spike_limit_percentage", spike_percentage)] {
        checker.require(value <= 100, section, key, format!("expected 1 to 100, got {value}"));
    }
    if limit > 0 && spike >= limit {
        checker.error(section, "spike_limit_mib", format!("{spike} must be below limit_mib, {limit}"));
    }
    if limit == 0 && percentage > 0 && spike_percentage >= percentage {
        let message = format!("{spike_percentage} must be below limit_percentage, {percentage}");
        checker.error(section, "spike_limit_percentage", message);
    }
    let gc = |key: &str| section.nanoseconds(key);
    if gc("min_gc_interval_when_soft_limited") < gc("min_gc_interval_when_hard_limited") {
        checker.error(
            section,
            "min_gc_interval_when_soft_limited",
            "must not be below min_gc_interval_when_hard_limited",
        );
    }
}

pub(super) fn batch(section: &Section, checker: &mut Checker<'_>) {
    checker.require(section.nanoseconds("timeout") >= 0, section, "timeout", "must not be negative");
    let (size, max) = (section.u64("send_batch_size"), section.u64("send_batch_max_size"));
    if max > 0 && max < size {
        let source = if section.given("send_batch_size") { "" } else { " (its default)" };
        checker.error(section, "send_batch_max_size", format!("{max} is below send_batch_size, {size}{source}"));
    }
    metadata_keys(section, checker);
}

pub(super) fn debug(section: &Section, checker: &mut Checker<'_>) {
    let logger = section.bool("use_internal_logger");
    let paths = section.list_str("output_paths");
    if logger && section.given("output_paths") && !paths.is_empty() {
        checker.error(section, "output_paths", "is only used with use_internal_logger: false");
    }
    if !logger && section.given("output_paths") && paths.is_empty() {
        checker.error(section, "output_paths", "must name a file, stdout or stderr");
    }
}

pub(super) fn file(section: &Section, checker: &mut Checker<'_>) {
    let path = section.str("path");
    checker.require(!path.is_empty(), section, "path", "must be given");
    let format = section.str("format");
    checker.require(
        matches!(format, "json" | "proto"),
        section,
        "format",
        format!("expected json or proto, got {format:?}"),
    );
    let compression = section.str("compression");
    checker.require(
        matches!(compression, "" | "zstd"),
        section,
        "compression",
        format!("expected zstd or nothing, got {compression:?}"),
    );
    checker.require(section.nanoseconds("flush_interval") >= 0, section, "flush_interval", "must not be negative");
    if section.bool("append") {
        checker.require(section.sub("rotation").is_none(), section, "append", "cannot be combined with rotation");
        checker.require(compression.is_empty(), section, "append", "cannot be combined with compression");
    }
    let permissions = section.str("directory_permissions");
    let octal = u32::from_str_radix(permissions, 8);
    checker.require(
        octal.is_ok(),
        section,
        "directory_permissions",
        format!("expected an octal number in quotes such as \"0755\", got {permissions:?}"),
    );
    if let Some(rotation) = section.sub("rotation") {
        for key in ["max_megabytes", "max_days", "max_backups"] {
            let value = rotation.i64(key);
            checker.require(value >= 0, &rotation, key, format!("must not be negative, got {value}"));
        }
    }
    if let Some(group) = section.sub("group_by").filter(|group| group.bool("enabled")) {
        let stars = path.matches('*').count();
        checker.require(stars == 1, section, "path", "must hold exactly one * with group_by");
        checker.require(!path.starts_with('*'), section, "path", "must not start with * with group_by");
        let attribute = group.str("resource_attribute");
        checker.require(!attribute.is_empty(), &group, "resource_attribute", "must not be empty");
    }
}

pub(super) fn health_check(section: &Section, checker: &mut Checker<'_>) {
    checker.require(!section.str("endpoint").is_empty(), section, "endpoint", "must not be empty");
    checker.require(section.str("path").starts_with('/'), section, "path", "must start with /");
}

pub(super) fn basicauth(section: &Section, checker: &mut Checker<'_>) {
    let (server, client) = (section.sub("htpasswd"), section.sub("client_auth"));
    let one = server.is_some() != client.is_some();
    checker.require(one, section, "", "needs htpasswd, for a receiver, or client_auth, for an exporter, and not both");
}

pub(super) fn bearertokenauth(section: &Section, checker: &mut Checker<'_>) {
    let (token, tokens) = (!section.secret("token").is_empty(), !section.list_str("tokens").is_empty());
    let given = token || tokens || !section.str("filename").is_empty();
    checker.require(given, section, "", "needs token, tokens or filename");
    checker.require(!(token && tokens), section, "tokens", "stands beside token: only one of them");
    let file = !section.str("filename").is_empty();
    // Which of them counts is the Collector's choice.
    if file && token {
        checker.warn(section, "token", "is not looked at: filename is given");
    }
    if file && tokens {
        checker.warn(section, "filename", "is not looked at: tokens are given");
    }
    let waits = section.bool("wait_for_token_file");
    let retry = section.sub("retry_on_failure").filter(|retry| retry.bool("enabled"));
    if let Some(retry) = &retry {
        checker.require(file, retry, "enabled", "needs a filename: it is the file that is waited for");
        checker.require(retry.i64("max_retries") >= 0, retry, "max_retries", "must not be negative");
        checker.require(retry.nanoseconds("interval") > 0, retry, "interval", "must be above 0, as in 1s");
        if retry.i64("max_retries") > 0 && !waits {
            let message = "has no effect without wait_for_token_file: the file is looked for whenever it is needed";
            checker.warn(retry, "max_retries", message);
        }
    }
    if waits {
        checker.require(file, section, "wait_for_token_file", "needs a filename");
        checker.require(retry.is_some(), section, "wait_for_token_file", "needs retry_on_failure::enabled: true");
    }
}

pub(super) fn actions_given(section: &Section, key: &str, checker: &mut Checker<'_>) {
    checker.require(!section.list(key).is_empty(), section, key, "must be given: at least one action");
}

pub(super) fn resource_used(section: &Section, _: Signal, checker: &mut Checker<'_>) {
    section.list("attributes").iter().for_each(|action| check_action(action, checker));
}

pub(super) fn attributes_used(section: &Section, signal: Signal, checker: &mut Checker<'_>) {
    section.list("actions").iter().for_each(|action| check_action(action, checker));
    for key in ["include", "exclude"] {
        if let Some(filter) = section.sub(key) {
            check_match(&filter, signal, checker);
        }
    }
}

const ACTIONS: &[&str] = &["insert", "update", "upsert", "delete", "hash", "extract", "convert"];

fn check_action(section: &Section, checker: &mut Checker<'_>) {
    let action = section.str("action").to_lowercase();
    let given = |key: &str| match key {
        "value" | "default_value" => !matches!(section.value(key).value, Value::Null),
        _ => !section.str(key).is_empty(),
    };
    if !ACTIONS.contains(&action.as_str()) {
        let hint = super::report::suggestion(&action, ACTIONS.iter().copied());
        let message = format!("expected one of {}, got {action:?}{hint}", ACTIONS.join(", "));
        return checker.error(section, "action", message);
    }
    let by_pattern = matches!(action.as_str(), "delete" | "hash");
    if by_pattern && !given("key") && !given("pattern") {
        checker.error(section, "key", format!("{action} needs key, pattern or both"));
    }
    if !by_pattern && !given("key") {
        checker.error(section, "key", format!("{action} needs it"));
    }
    let sources: Vec<&str> = ["value", "from_attribute", "from_context"].into_iter().filter(|key| given(key)).collect();
    let unused = |key: &str, checker: &mut Checker<'_>| {
        if given(key) {
            checker.error(section, key, format!("{action} does not use it"));
        }
    };
    match action.as_str() {
        "insert" | "update" | "upsert" => {
            if sources.is_empty() && !given("default_value") {
                checker.error(section, "value", format!("{action} needs value, from_attribute or from_context"));
            }
            if let [first, second, ..] = sources.as_slice() {
                checker.error(section, second, format!("stands beside {first}: only one source of the value"));
            }
            unused("pattern", checker);
            unused("converted_type", checker);
        }
        _ => {
            for key in ["value", "from_attribute", "from_context", "default_value"] {
                unused(key, checker);
            }
            if action != "convert" {
                unused("converted_type", checker);
            }
        }
    }
    match action.as_str() {
        "convert" => {
            unused("pattern", checker);
            let target = section.str("converted_type");
            checker.require(
                matches!(target, "int" | "double" | "string"),
                section,
                "converted_type",
                format!("expected int, double or string, got {target:?}"),
            );
        }
        "extract" if !given("pattern") => checker.error(section, "pattern", "extract needs it"),
        _ => {}
    }
    if given("pattern") {
        check_pattern(section, action == "extract", checker);
    }
    for key in ["value", "default_value"] {
        let value = section.value(key);
        if matches!(value.value, Value::Time(_)) {
            checker.error(section, key, "a date is no attribute value; write it in quotes");
        }
    }
}

fn check_pattern(section: &Section, extract: bool, checker: &mut Checker<'_>) {
    match regex::Regex::new(section.str("pattern")) {
        Err(error) => checker.error(section, "pattern", one_line(&error)),
        Ok(regex) if extract => {
            let unnamed = regex.capture_names().skip(1).any(|name| name.is_none());
            let groups = regex.captures_len() > 1;
            checker.require(groups, section, "pattern", "extract needs named groups: (?P<name>…)");
            checker.require(!unnamed, section, "pattern", "every group must have a name: (?P<name>…)");
        }
        Ok(_) => {}
    }
}

/// The last line of a regular expression's error is the one that says it.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
    format!("not a regular expression: {last}")
}

/// The criteria by the signals they are for.
const CRITERIA: &[(&str, &[Signal])] = &[
    ("services", &[Signal::Traces]),
    ("span_names", &[Signal::Traces]),
    ("span_kinds", &[Signal::Traces]),
    ("log_bodies", &[Signal::Logs]),
    ("log_severity_texts", &[Signal::Logs]),
    ("log_severity_number", &[Signal::Logs]),
    ("metric_names", &[Signal::Metrics]),
    ("attributes", &[Signal::Traces, Signal::Logs]),
    ("libraries", &[Signal::Traces, Signal::Logs]),
    ("resources", &[Signal::Traces, Signal::Metrics, Signal::Logs]),
];

fn check_match(section: &Section, signal: Signal, checker: &mut Checker<'_>) {
    let given = |key: &str| match key {
        "attributes" | "resources" | "libraries" => !section.list(key).is_empty(),
        "log_severity_number" => section.sub(key).is_some(),
        _ => !section.list_str(key).is_empty(),
    };
    let mut usable = Vec::new();
    let mut any = false;
    for (key, signals) in CRITERIA {
        if signals.contains(&signal) {
            usable.push(*key);
            any |= given(key);
        } else if given(key) {
            checker.error(section, key, format!("does not apply to {signal}, which this pipeline carries"));
        }
    }
    checker.require(any, section, "", format!("for {signal} it needs one of {}", usable.join(", ")));
    let match_type = section.str("match_type");
    let regexp = match_type == "regexp";
    checker.require(
        regexp || match_type == "strict",
        section,
        "match_type",
        format!("expected strict or regexp, got {match_type:?}"),
    );
    for key in ["attributes", "resources"] {
        for item in section.list(key) {
            checker.require(!item.str("key").is_empty(), item, "key", "must be given");
            let value = item.value("value");
            match &value.value {
                Value::Null => {}
                Value::Str(text) if regexp => {
                    if let Err(error) = regex::Regex::new(text) {
                        checker.error(item, "value", one_line(&error));
                    }
                }
                _ if regexp => {
                    checker.error(item, "value", format!("regexp matches strings only, got {}", value.what()));
                }
                _ => {}
            }
        }
    }
    if regexp {
        for key in ["services", "span_names", "span_kinds", "log_bodies", "log_severity_texts", "metric_names"] {
            for pattern in section.list_str(key) {
                if let Err(error) = regex::Regex::new(pattern) {
                    checker.error(section, key, one_line(&error));
                }
            }
        }
    }
}
