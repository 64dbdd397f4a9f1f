//! The components: every key of the Collector's core set, built yet or not, and the keys of our own.

use otlp_core::Signal;

use super::checks;
use super::schema::{Block, Component, Default, Field, Kind, Presence, Role, Unknown, block, field, idle, zero};
use super::shared::{
    GRPC_CLIENT, GRPC_SERVER, HTTP_CLIENT, HTTP_SERVER, HTTP_SERVER_IDLE, OURS_OF_EXPORTERS, QUEUE, RATE_LIMIT,
    RETRY_LAX, RETRY_STRICT,
};

const fn all(level: &'static str) -> [(Signal, &'static str); 3] {
    [(Signal::Traces, level), (Signal::Metrics, level), (Signal::Logs, level)]
}

/// Every component type a configuration may name.
pub static COMPONENTS: &[Component] = &[
    Component {
        role: Role::Receiver,
        name: "otlp",
        aliases: &[],
        block: &OTLP_RECEIVER,
        signals: &all("beta"),
        check_used: None,
    },
    Component {
        role: Role::Receiver,
        name: "otlp_json_file",
        aliases: &["otlpjsonfile"],
        block: &OTLP_JSON_FILE,
        signals: &all("alpha"),
        check_used: None,
    },
    Component {
        role: Role::Processor,
        name: "memory_limiter",
        aliases: &[],
        block: &MEMORY_LIMITER,
        signals: &all("beta"),
        check_used: None,
    },
    Component {
        role: Role::Processor,
        name: "batch",
        aliases: &[],
        block: &BATCH,
        signals: &all("beta"),
        check_used: None,
    },
    Component {
        role: Role::Processor,
        name: "attributes",
        aliases: &[],
        block: &ATTRIBUTES,
        signals: &all("beta"),
        check_used: Some(checks::attributes_used),
    },
    Component {
        role: Role::Processor,
        name: "resource",
        aliases: &[],
        block: &RESOURCE,
        signals: &all("beta"),
        check_used: Some(checks::resource_used),
    },
    Component {
        role: Role::Exporter,
        name: "otlp_grpc",
        aliases: &["otlp"],
        block: &OTLP_GRPC,
        signals: &all("beta"),
        check_used: None,
    },
    Component {
        role: Role::Exporter,
        name: "otlp_http",
        aliases: &["otlphttp"],
        block: &OTLP_HTTP,
        signals: &all("beta"),
        check_used: Some(checks::otlp_http_used),
    },
    Component {
        role: Role::Exporter,
        name: "debug",
        aliases: &[],
        block: &DEBUG,
        signals: &all("beta"),
        check_used: None,
    },
    Component {
        role: Role::Exporter,
        name: "file",
        aliases: &[],
        block: &FILE,
        signals: &all("alpha"),
        check_used: None,
    },
    Component {
        role: Role::Connector,
        name: "forward",
        aliases: &[],
        block: &FORWARD,
        signals: &all("beta"),
        check_used: None,
    },
    Component {
        role: Role::Extension,
        name: "health_check",
        aliases: &[],
        block: &HEALTH_CHECK,
        signals: &[],
        check_used: None,
    },
    Component {
        role: Role::Extension,
        name: "basicauth",
        aliases: &[],
        block: &BASICAUTH,
        signals: &[],
        check_used: None,
    },
    Component {
        role: Role::Extension,
        name: "bearertokenauth",
        aliases: &[],
        block: &BEARERTOKENAUTH,
        signals: &[],
        check_used: None,
    },
];

/// The component of a type name or an alias of it.
pub fn component(role: Role, kind: &str) -> Option<&'static Component> {
    COMPONENTS.iter().find(|c| c.role == role && (c.name == kind || c.aliases.contains(&kind)))
}

static OTLP_RECEIVER: Block = Block {
    check: Some(checks::otlp_receiver),
    ..block(&[&[
        zero("protocols", Kind::Block(&PROTOCOLS)),
        // Ours. Empty: what the pipelines' exporters promise (exported, stored or queued).
        zero("acknowledge", Kind::Choice(&["queued", "stored", "exported"])),
        field("acknowledge_timeout", Kind::Duration, Default::Text("8s")),
        zero("rate_limit", Kind::Optional(&RATE_LIMIT, Presence::ByKey)),
    ]])
};

static PROTOCOLS: Block = Block {
    removed: &[("thrift", "otlpd speaks OTLP: grpc and http")],
    ..block(&[&[
        zero("grpc", Kind::Optional(&OTLP_RECEIVER_GRPC, Presence::ByKey)),
        zero("http", Kind::Optional(&OTLP_RECEIVER_HTTP, Presence::ByKey)),
    ]])
};

static OTLP_RECEIVER_GRPC: Block = Block {
    check: Some(checks::grpc_server),
    ..block(&[&[field("endpoint", Kind::Str, Default::Text("localhost:4317"))], GRPC_SERVER])
};

static OTLP_RECEIVER_HTTP: Block = Block {
    unknown: Unknown::Warn,
    check: Some(checks::http_server),
    ..block(&[
        &[
            field("endpoint", Kind::Str, Default::Text("localhost:4318")),
            field("traces_url_path", Kind::Str, Default::Text("/v1/traces")),
            field("metrics_url_path", Kind::Str, Default::Text("/v1/metrics")),
            field("logs_url_path", Kind::Str, Default::Text("/v1/logs")),
        ],
        HTTP_SERVER,
    ])
};

static OTLP_JSON_FILE: Block = block(&[&[
    zero("include", Kind::Strings),
    zero("exclude", Kind::Strings),
    field("start_at", Kind::Choice(&["beginning", "end"]), Default::Text("end")),
    field("poll_interval", Kind::Duration, Default::Text("200ms")),
    zero("replay_file", Kind::Bool),
    // In bytes. The Collector's default is 1 MiB, beyond which it cuts a line into pieces that nobody can read.
    field("max_log_size", Kind::Uint, Default::Int(64 << 20)),
    field("max_concurrent_files", Kind::Uint32, Default::Int(512)),
    zero("storage", Kind::Id),
    zero("delete_after_read", Kind::Bool),
]]);

static MEMORY_LIMITER: Block = Block {
    removed: &[("ballast_size_mib", "remove it: there is no ballast")],
    check: Some(checks::memory_limiter),
    ..block(&[&[
        zero("check_interval", Kind::Duration),
        zero("limit_mib", Kind::Uint32),
        zero("spike_limit_mib", Kind::Uint32),
        zero("limit_percentage", Kind::Uint32),
        zero("spike_limit_percentage", Kind::Uint32),
        idle("min_gc_interval_when_soft_limited", Kind::Duration, Default::Text("10s")),
        idle("min_gc_interval_when_hard_limited", Kind::Duration, Default::Zero),
        idle("max_gc_interval_when_soft_limited", Kind::Duration, Default::Text("30s")),
        idle("max_gc_interval_when_hard_limited", Kind::Duration, Default::Text("30s")),
    ]])
};

static BATCH: Block = Block {
    check: Some(checks::batch),
    ..block(&[&[
        field("timeout", Kind::Duration, Default::Text("200ms")),
        field("send_batch_size", Kind::Uint32, Default::Int(8192)),
        zero("send_batch_max_size", Kind::Uint32),
        zero("metadata_keys", Kind::Strings),
        field("metadata_cardinality_limit", Kind::Uint32, Default::Int(1000)),
    ]])
};

static ATTRIBUTES: Block = Block {
    check: Some(|section, checker| checks::actions_given(section, "actions", checker)),
    ..block(&[&[
        zero("actions", Kind::Blocks(&ACTION)),
        zero("include", Kind::Optional(&MATCH, Presence::ByContent)),
        zero("exclude", Kind::Optional(&MATCH, Presence::ByContent)),
    ]])
};

static RESOURCE: Block = Block {
    check: Some(|section, checker| checks::actions_given(section, "attributes", checker)),
    removed: &[("actions", "the list's key in this processor is attributes")],
    ..block(&[&[zero("attributes", Kind::Blocks(&ACTION))]])
};

static ACTION: Block = block(&[&[
    zero("key", Kind::Str),
    zero("value", Kind::Any),
    zero("pattern", Kind::Str),
    zero("from_attribute", Kind::Str),
    zero("from_context", Kind::Str),
    zero("default_value", Kind::Any),
    zero("converted_type", Kind::Str),
    zero("action", Kind::Str),
]]);

static MATCH: Block = block(&[&[
    zero("match_type", Kind::Str),
    idle("regexp", Kind::Optional(&REGEXP, Presence::ByContent), Default::Zero),
    zero("services", Kind::Strings),
    zero("span_names", Kind::Strings),
    zero("span_kinds", Kind::Strings),
    zero("log_bodies", Kind::Strings),
    zero("log_severity_texts", Kind::Strings),
    zero("log_severity_number", Kind::Optional(&SEVERITY, Presence::ByContent)),
    zero("metric_names", Kind::Strings),
    zero("attributes", Kind::Blocks(&KEY_VALUE)),
    zero("resources", Kind::Blocks(&KEY_VALUE)),
    zero("libraries", Kind::Blocks(&LIBRARY)),
]]);
static REGEXP: Block = block(&[&[zero("cacheenabled", Kind::Bool), zero("cachemaxnumentries", Kind::Int)]]);
static SEVERITY: Block = block(&[&[zero("min", Kind::Int), zero("match_undefined", Kind::Bool)]]);
static KEY_VALUE: Block = block(&[&[zero("key", Kind::Str), zero("value", Kind::Any)]]);
static LIBRARY: Block = block(&[&[zero("name", Kind::Str), zero("version", Kind::Str)]]);

static OTLP_GRPC: Block = Block {
    removed: &[
        ("insecure", "write it under tls"),
        ("ca_file", "write it under tls"),
        ("cert_file", "write it under tls"),
        ("key_file", "write it under tls"),
        ("batcher", "batching is now sending_queue::batch"),
        ("retry_queue", "the queue is now sending_queue"),
        ("per_rpc_auth", "write auth with an authenticator"),
        ("traces_endpoint", "that is a key of otlp_http; gRPC has one endpoint for all signals"),
    ],
    check: Some(checks::otlp_grpc),
    ..block(&[
        &[field("write_buffer_size", Kind::Int, Default::Int(524_288))],
        GRPC_CLIENT,
        &[
            field("timeout", Kind::Duration, Default::Text("5s")),
            zero("sending_queue", Kind::Optional(&QUEUE, Presence::On)),
            zero("retry_on_failure", Kind::Block(&RETRY_STRICT)),
        ],
        OURS_OF_EXPORTERS,
    ])
};

static OTLP_HTTP: Block = Block {
    unknown: Unknown::Warn,
    check: Some(checks::otlp_http),
    ..block(&[
        &[
            zero("endpoint", Kind::Str),
            zero("traces_endpoint", Kind::Str),
            zero("metrics_endpoint", Kind::Str),
            zero("logs_endpoint", Kind::Str),
            idle("profiles_endpoint", Kind::Str, Default::Zero),
            field("encoding", Kind::Choice(&["proto", "json"]), Default::Text("proto")),
            field("timeout", Kind::Duration, Default::Text("30s")),
            idle("write_buffer_size", Kind::Int, Default::Int(524_288)),
        ],
        HTTP_CLIENT,
        &[
            zero("sending_queue", Kind::Optional(&QUEUE, Presence::On)),
            zero("retry_on_failure", Kind::Block(&RETRY_LAX)),
        ],
        OURS_OF_EXPORTERS,
    ])
};

static DEBUG: Block = Block {
    removed: &[("loglevel", "write verbosity: basic, normal or detailed")],
    check: Some(checks::debug),
    ..block(&[
        &[
            field("verbosity", Kind::Level(&[("basic", 0), ("normal", 1), ("detailed", 2)]), Default::Text("basic")),
            field("sampling_initial", Kind::Int, Default::Int(2)),
            field("sampling_thereafter", Kind::Int, Default::Int(1)),
            field("use_internal_logger", Kind::Bool, Default::Bool(true)),
            zero("output_paths", Kind::Strings),
            zero("sending_queue", Kind::Optional(&QUEUE, Presence::ByKey)),
        ],
        OURS_OF_EXPORTERS,
    ])
};

static FILE: Block = Block {
    check: Some(checks::file),
    ..block(&[
        &[
            zero("path", Kind::Str),
            zero("rotation", Kind::Optional(&ROTATION, Presence::ByContent)),
            field("format", Kind::Str, Default::Text("json")),
            zero("encoding", Kind::Id),
            zero("append", Kind::Bool),
            zero("compression", Kind::Str),
            zero("compression_params", Kind::Block(&LEVEL)),
            field("flush_interval", Kind::Duration, Default::Text("1s")),
            zero("group_by", Kind::Optional(&GROUP_BY, Presence::ByContent)),
            zero("create_directory", Kind::Bool),
            field("directory_permissions", Kind::Str, Default::Text("0755")),
        ],
        OURS_OF_EXPORTERS,
    ])
};
static LEVEL: Block = block(&[&[zero("level", Kind::Int)]]);
static ROTATION: Block = block(&[&[
    field("max_megabytes", Kind::Int, Default::Int(100)),
    zero("max_days", Kind::Int),
    field("max_backups", Kind::Int, Default::Int(100)),
    zero("localtime", Kind::Bool),
]]);
static GROUP_BY: Block = block(&[&[
    zero("enabled", Kind::Bool),
    field("resource_attribute", Kind::Str, Default::Text("fileexporter.path_segment")),
    field("max_open_files", Kind::Int, Default::Int(100)),
]]);

static FORWARD: Block = block(&[]);

static HEALTH_CHECK: Block = Block {
    removed: &[
        ("http", "that is the form of healthcheckv2; endpoint and path stand beside it here"),
        ("grpc", "that is the form of healthcheckv2; only HTTP is served"),
    ],
    check: Some(checks::health_check),
    ..block(&[
        &[
            field("endpoint", Kind::Str, Default::Text("localhost:13133")),
            field("path", Kind::Str, Default::Text("/")),
            zero("response_body", Kind::Optional(&RESPONSE_BODY, Presence::ByContent)),
            idle("check_collector_pipeline", Kind::Block(&CHECK_PIPELINE), Default::Zero),
            idle("use_v2", Kind::Bool, Default::Zero),
            idle("component_health", Kind::Optional(&COMPONENT_HEALTH, Presence::ByKey), Default::Zero),
        ],
        HTTP_SERVER_IDLE,
        HTTP_SERVER,
    ])
};
static RESPONSE_BODY: Block = block(&[&[zero("healthy", Kind::Str), zero("unhealthy", Kind::Str)]]);
static CHECK_PIPELINE: Block = block(&[&[
    zero("enabled", Kind::Bool),
    field("interval", Kind::Str, Default::Text("5m")),
    field("exporter_failure_threshold", Kind::Int, Default::Int(5)),
]]);
static COMPONENT_HEALTH: Block = block(&[&[
    zero("include_permanent_errors", Kind::Bool),
    zero("include_recoverable_errors", Kind::Bool),
    field("recovery_duration", Kind::Duration, Default::Text("5m")),
]]);

static BASICAUTH: Block = Block {
    check: Some(checks::basicauth),
    ..block(&[&[
        zero("htpasswd", Kind::Optional(&HTPASSWD, Presence::ByContent)),
        zero("client_auth", Kind::Optional(&CLIENT_AUTH, Presence::ByContent)),
    ]])
};
static HTPASSWD: Block = block(&[&[zero("file", Kind::Str), zero("inline", Kind::Secret)]]);
static CLIENT_AUTH: Block = block(&[&[
    zero("username", Kind::Str),
    zero("username_file", Kind::Str),
    zero("password", Kind::Secret),
    zero("password_file", Kind::Str),
]]);

static BEARERTOKENAUTH: Block = Block {
    check: Some(checks::bearertokenauth),
    ..block(&[&[
        field("scheme", Kind::Str, Default::Text("Bearer")),
        field("header", Kind::Str, Default::Text("Authorization")),
        zero("token", Kind::Secret),
        zero("tokens", Kind::HiddenStrings),
        zero("filename", Kind::Str),
        zero("wait_for_token_file", Kind::Bool),
        zero("retry_on_failure", Kind::Block(&TOKEN_RETRY)),
    ]])
};
static TOKEN_RETRY: Block =
    block(&[&[zero("enabled", Kind::Bool), zero("max_retries", Kind::Int), zero("interval", Kind::Duration)]]);

/// The `service` section but for its pipelines.
pub(super) static SERVICE: Block = Block {
    check: Some(checks::service),
    ..block(&[&[
        zero("extensions", Kind::Ids),
        zero("pipelines", Kind::Any),
        zero("telemetry", Kind::Block(&TELEMETRY)),
        // Ours. 0: what the memory_limiter leaves, else a quarter of the memory.
        zero("memory_budget_mib", Kind::Uint),
        zero("memory_host_limit_percentage", Kind::Uint32),
        zero("threads", Kind::Block(&THREADS)),
    ]])
};

static THREADS: Block = Block {
    check: Some(checks::threads),
    ..block(&[&[
        zero("preset", Kind::Choice(&["production", "high_performance", "low_latency", "development"])),
        // 0: what the preset says, else 1.
        zero("receive", Kind::Uint32),
        // 0: one a core.
        zero("process", Kind::Uint32),
        field("stack_kib", Kind::Uint32, Default::Int(2048)),
        field("idle", Kind::Duration, Default::Text("10s")),
    ]])
};

const TELEMETRY_FIELDS: &[Field] = &[
    zero("logs", Kind::Block(&TELEMETRY_LOGS)),
    zero("metrics", Kind::Block(&TELEMETRY_METRICS)),
    idle("traces", Kind::Hidden, Default::Zero),
    idle("resource", Kind::AnyMap, Default::Zero),
];
static TELEMETRY: Block = block(&[TELEMETRY_FIELDS]);

static TELEMETRY_LOGS: Block = block(&[&[
    field(
        "level",
        Kind::ChoiceAnyCase(&["debug", "info", "warn", "warning", "error", "dpanic", "panic", "fatal"]),
        Default::Text("info"),
    ),
    field("encoding", Kind::Choice(&["console", "json"]), Default::Text("console")),
    field("output_paths", Kind::Strings, Default::Texts(&["stderr"])),
    idle("development", Kind::Bool, Default::Zero),
    idle("disable_caller", Kind::Bool, Default::Zero),
    idle("disable_stacktrace", Kind::Bool, Default::Zero),
    idle("disable_zap_resource", Kind::Bool, Default::Zero),
    idle("sampling", Kind::Optional(&SAMPLING, Presence::ByKey), Default::Zero),
    idle("error_output_paths", Kind::Strings, Default::Zero),
    idle("initial_fields", Kind::Any, Default::Zero),
    idle("processors", Kind::Hidden, Default::Zero),
]]);

static SAMPLING: Block = block(&[&[
    field("enabled", Kind::Bool, Default::Bool(true)),
    field("tick", Kind::Duration, Default::Text("10s")),
    field("initial", Kind::Int, Default::Int(10)),
    field("thereafter", Kind::Int, Default::Int(100)),
]]);

static TELEMETRY_METRICS: Block = Block {
    removed: &[("address", "write readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]")],
    ..block(&[&[
        field(
            "level",
            Kind::Level(&[("none", -1), ("basic", 0), ("normal", 1), ("detailed", 2)]),
            Default::Text("normal"),
        ),
        zero("readers", Kind::Blocks(&READER)),
        idle("views", Kind::Any, Default::Zero),
    ]])
};

static READER: Block =
    block(&[&[zero("pull", Kind::Optional(&PULL, Presence::ByKey)), idle("periodic", Kind::Hidden, Default::Zero)]]);
static PULL: Block = block(&[&[
    zero("exporter", Kind::Block(&PULL_EXPORTER)),
    idle("cardinality_limits", Kind::Any, Default::Zero),
    idle("producers", Kind::Any, Default::Zero),
]]);
static PULL_EXPORTER: Block = block(&[&[
    zero("prometheus", Kind::Optional(&PROMETHEUS, Presence::ByKey)),
    zero("prometheus/development", Kind::Optional(&PROMETHEUS, Presence::ByKey)),
]]);
static PROMETHEUS: Block = block(&[&[
    field("host", Kind::Str, Default::Text("localhost")),
    field("port", Kind::Int, Default::Int(8888)),
    field("without_scope_info", Kind::Bool, Default::Bool(true)),
    field("without_units", Kind::Bool, Default::Bool(true)),
    field("without_type_suffix", Kind::Bool, Default::Bool(true)),
    idle("with_resource_constant_labels", Kind::Any, Default::Zero),
    idle("translation_strategy", Kind::Any, Default::Zero),
    idle("without_target_info", Kind::Any, Default::Zero),
]]);

/// One entry of `service::pipelines`.
pub(super) static PIPELINE: Block = block(&[&[
    zero("receivers", Kind::Ids),
    zero("processors", Kind::Ids),
    zero("exporters", Kind::Ids),
    // Ours.
    zero("inlet", Kind::Block(&INLET)),
    // 0: as many as rayon has threads.
    zero("max_concurrent", Kind::Uint32),
]]);
static INLET: Block = Block {
    check: Some(checks::inlet),
    ..block(&[&[
        field("capacity", Kind::Uint32, Default::Int(1000)),
        field("when_full", Kind::Choice(&["refuse", "drop_newest", "drop_oldest", "block"]), Default::Text("refuse")),
        zero("rate_limit", Kind::Optional(&RATE_LIMIT, Presence::ByKey)),
    ]])
};
