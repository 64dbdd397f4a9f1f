//! Tables that several components share: TLS, HTTP and gRPC on both sides, queue, retry, rate limits.

use super::checks;
use super::schema::{Block, Default, Field, Kind, Presence, Unknown, Unlimited, block, field, idle, limit, zero};

const TRANSPORTS: &[&str] =
    &["tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "ip", "ip4", "ip6", "unix", "unixgram", "unixpacket", "npipe", ""];
const COMPRESSIONS: &[&str] = &["gzip", "zstd", "snappy", "x-snappy-framed", "zlib", "deflate", "lz4", "none", ""];

const TLS: &[Field] = &[
    zero("ca_file", Kind::Str),
    zero("ca_pem", Kind::Secret),
    zero("include_system_ca_certs_pool", Kind::Bool),
    zero("cert_file", Kind::Str),
    zero("cert_pem", Kind::Secret),
    zero("key_file", Kind::Str),
    zero("key_pem", Kind::Secret),
    field("min_version", Kind::Str, Default::Text("1.2")),
    zero("max_version", Kind::Str),
    zero("cipher_suites", Kind::Strings),
    // rustls has none.
    idle("include_insecure_cipher_suites", Kind::Bool, Default::Zero),
    zero("curve_preferences", Kind::Strings),
    zero("reload_interval", Kind::Duration),
    zero("tpm", Kind::Block(&TPM)),
];

static TPM: Block = block(&[&[
    zero("enabled", Kind::Bool),
    zero("path", Kind::Str),
    zero("owner_auth", Kind::Secret),
    zero("auth", Kind::Secret),
]]);

const TLS_CLIENT_ONLY: &[Field] =
    &[zero("insecure", Kind::Bool), zero("insecure_skip_verify", Kind::Bool), zero("server_name_override", Kind::Str)];

pub(super) static TLS_CLIENT: Block = Block { check: Some(checks::tls_client), ..block(&[TLS_CLIENT_ONLY, TLS]) };
pub(super) static TLS_CLIENT_LAX: Block =
    Block { unknown: Unknown::Warn, check: Some(checks::tls_client), ..block(&[TLS_CLIENT_ONLY, TLS]) };
pub(super) static TLS_SERVER: Block = Block {
    check: Some(checks::tls_server),
    ..block(&[TLS, &[zero("client_ca_file", Kind::Str), zero("client_ca_file_reload", Kind::Bool)]])
};

static DIALER: Block = block(&[&[zero("timeout", Kind::Duration)]]);
static AUTH: Block = block(&[&[zero("authenticator", Kind::Id)]]);
static AUTH_SERVER: Block = block(&[&[zero("authenticator", Kind::Id), zero("request_params", Kind::Strings)]]);
static MIDDLEWARE: Block = block(&[&[zero("id", Kind::Id)]]);

const LISTEN: &[Field] = &[
    field("transport", Kind::Choice(TRANSPORTS), Default::Text("tcp")),
    idle("dialer", Kind::Block(&DIALER), Default::Zero),
];

/// Everything of a gRPC server but its endpoint.
pub(super) const GRPC_SERVER: &[Field] = &[
    zero("tls", Kind::Optional(&TLS_SERVER, Presence::ByContent)),
    limit("max_recv_msg_size_mib", Kind::Int, Default::Int(64), Unlimited::Zero),
    field("max_concurrent_streams", Kind::Uint32, Default::Int(100)),
    field("read_buffer_size", Kind::Int, Default::Int(524_288)),
    zero("write_buffer_size", Kind::Int),
    zero("keepalive", Kind::Optional(&KEEPALIVE_SERVER, Presence::ByKey)),
    zero("auth", Kind::Optional(&AUTH, Presence::ByContent)),
    zero("include_metadata", Kind::Bool),
    zero("middlewares", Kind::Blocks(&MIDDLEWARE)),
    LISTEN[0],
    LISTEN[1],
];

static KEEPALIVE_SERVER: Block = block(&[&[
    zero("server_parameters", Kind::Optional(&SERVER_PARAMETERS, Presence::ByKey)),
    zero("enforcement_policy", Kind::Optional(&ENFORCEMENT_POLICY, Presence::ByKey)),
]]);
static SERVER_PARAMETERS: Block = block(&[&[
    zero("max_connection_idle", Kind::Duration),
    zero("max_connection_age", Kind::Duration),
    zero("max_connection_age_grace", Kind::Duration),
    zero("time", Kind::Duration),
    zero("timeout", Kind::Duration),
]]);
static ENFORCEMENT_POLICY: Block =
    block(&[&[zero("min_time", Kind::Duration), zero("permit_without_stream", Kind::Bool)]]);

/// Everything of an HTTP server but its endpoint.
pub(super) const HTTP_SERVER: &[Field] = &[
    zero("tls", Kind::Optional(&TLS_SERVER, Presence::ByContent)),
    zero("cors", Kind::Optional(&CORS, Presence::ByContent)),
    zero("auth", Kind::Optional(&AUTH_SERVER, Presence::ByContent)),
    limit("max_request_body_size", Kind::Int, Default::Int(64 << 20), Unlimited::ZeroAndLess),
    zero("include_metadata", Kind::Bool),
    zero("response_headers", Kind::Secrets),
    field(
        "compression_algorithms",
        Kind::Strings,
        Default::Texts(&["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4"]),
    ),
    limit("read_timeout", Kind::Duration, Default::Text("30s"), Unlimited::ZeroAndLess),
    limit("read_header_timeout", Kind::Duration, Default::Text("60s"), Unlimited::ZeroAndLess),
    zero("write_timeout", Kind::Duration),
    limit("idle_timeout", Kind::Duration, Default::Text("60s"), Unlimited::ZeroAndLess),
    field("keep_alives_enabled", Kind::Bool, Default::Bool(true)),
    idle("keepalive", Kind::Optional(&KEEPALIVE_HTTP_SERVER, Presence::ByKey), Default::Zero),
    zero("middlewares", Kind::Blocks(&MIDDLEWARE)),
    LISTEN[0],
    LISTEN[1],
];

/// What a server that only answers a few words has no use for; put before [`HTTP_SERVER`], whose fields these are.
pub(super) const HTTP_SERVER_IDLE: &[Field] = &[
    idle("cors", Kind::Optional(&CORS, Presence::ByContent), Default::Zero),
    idle("max_request_body_size", Kind::Int, Default::Int(64 << 20)),
    idle("include_metadata", Kind::Bool, Default::Zero),
    idle("response_headers", Kind::Secrets, Default::Zero),
    idle(
        "compression_algorithms",
        Kind::Strings,
        Default::Texts(&["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4"]),
    ),
    idle("read_timeout", Kind::Duration, Default::Text("30s")),
    idle("read_header_timeout", Kind::Duration, Default::Text("60s")),
    idle("write_timeout", Kind::Duration, Default::Zero),
    idle("idle_timeout", Kind::Duration, Default::Text("60s")),
    idle("keep_alives_enabled", Kind::Bool, Default::Bool(true)),
    idle("middlewares", Kind::Blocks(&MIDDLEWARE), Default::Zero),
];

static CORS: Block = block(&[&[
    zero("allowed_origins", Kind::Strings),
    zero("allowed_headers", Kind::Strings),
    zero("exposed_headers", Kind::Strings),
    zero("max_age", Kind::Int),
]]);
static KEEPALIVE_HTTP_SERVER: Block = block(&[&[zero("idle_timeout", Kind::Duration)]]);

/// Everything of an HTTP client; a component that has its own default puts its field before.
pub(super) const HTTP_CLIENT: &[Field] = &[
    zero("endpoint", Kind::Str),
    zero("proxy_url", Kind::Str),
    zero("tls", Kind::Block(&TLS_CLIENT_LAX)),
    idle("read_buffer_size", Kind::Int, Default::Zero),
    idle("write_buffer_size", Kind::Int, Default::Zero),
    zero("timeout", Kind::Duration),
    zero("headers", Kind::Secrets),
    zero("auth", Kind::Optional(&AUTH, Presence::ByContent)),
    field("compression", Kind::Choice(COMPRESSIONS), Default::Text("gzip")),
    zero("compression_params", Kind::Block(&COMPRESSION_PARAMS)),
    idle("max_idle_conns", Kind::Int, Default::Int(100)),
    zero("max_idle_conns_per_host", Kind::Int),
    idle("max_conns_per_host", Kind::Int, Default::Zero),
    field("idle_conn_timeout", Kind::Duration, Default::Text("90s")),
    zero("disable_keep_alives", Kind::Bool),
    idle("force_attempt_http2", Kind::Bool, Default::Bool(true)),
    idle("http2_read_idle_timeout", Kind::Duration, Default::Zero),
    idle("http2_ping_timeout", Kind::Duration, Default::Zero),
    zero("cookies", Kind::Optional(&COOKIES, Presence::ByKey)),
    idle("keepalive", Kind::Optional(&KEEPALIVE_HTTP_CLIENT, Presence::ByKey), Default::Zero),
    zero("middlewares", Kind::Blocks(&MIDDLEWARE)),
];

static COMPRESSION_PARAMS: Block = block(&[&[zero("level", Kind::Int)]]);
static COOKIES: Block = block(&[]);
static KEEPALIVE_HTTP_CLIENT: Block = block(&[&[
    zero("max_idle_conns", Kind::Int),
    zero("max_idle_conns_per_host", Kind::Int),
    zero("idle_conn_timeout", Kind::Duration),
]]);

/// Everything of a gRPC client.
pub(super) const GRPC_CLIENT: &[Field] = &[
    zero("endpoint", Kind::Str),
    field("compression", Kind::Choice(COMPRESSIONS), Default::Text("gzip")),
    zero("tls", Kind::Block(&TLS_CLIENT)),
    zero("keepalive", Kind::Optional(&KEEPALIVE_CLIENT, Presence::ByKey)),
    zero("read_buffer_size", Kind::Int),
    zero("write_buffer_size", Kind::Int),
    zero("wait_for_ready", Kind::Bool),
    zero("headers", Kind::Secrets),
    zero("user_agent", Kind::Str),
    field("balancer_name", Kind::Str, Default::Text("round_robin")),
    zero("authority", Kind::Str),
    zero("auth", Kind::Optional(&AUTH, Presence::ByContent)),
    zero("middlewares", Kind::Blocks(&MIDDLEWARE)),
];

static KEEPALIVE_CLIENT: Block = block(&[&[
    field("time", Kind::Duration, Default::Text("10s")),
    field("timeout", Kind::Duration, Default::Text("10s")),
    zero("permit_without_stream", Kind::Bool),
]]);

const RETRY: &[Field] = &[
    field("enabled", Kind::Bool, Default::Bool(true)),
    field("initial_interval", Kind::Duration, Default::Text("5s")),
    field("randomization_factor", Kind::Float, Default::Float(0.5)),
    field("multiplier", Kind::Float, Default::Float(1.5)),
    field("max_interval", Kind::Duration, Default::Text("30s")),
    field("max_elapsed_time", Kind::Duration, Default::Text("5m")),
    // Ours: 0 is no limit.
    zero("max_attempts", Kind::Uint),
];

pub(super) static RETRY_STRICT: Block = Block { check: Some(checks::retry), ..block(&[RETRY]) };
pub(super) static RETRY_LAX: Block = Block { unknown: Unknown::Warn, check: Some(checks::retry), ..block(&[RETRY]) };

pub(super) static QUEUE: Block = Block {
    removed: &[("blocking", "write block_on_overflow")],
    check: Some(checks::queue),
    ..block(&[&[
        field("num_consumers", Kind::Int, Default::Int(10)),
        field("queue_size", Kind::Int, Default::Int(1000)),
        field("sizer", Kind::Choice(&["requests", "items", "bytes"]), Default::Text("requests")),
        zero("block_on_overflow", Kind::Bool),
        zero("wait_for_result", Kind::Bool),
        // Ours: 0 is no limit. Where it is not given: 32, but no limit where queue_size is.
        zero("memory_mib", Kind::Uint),
        zero("storage", Kind::Id),
        zero("batch", Kind::Optional(&QUEUE_BATCH, Presence::ByKey)),
    ]])
};

static QUEUE_BATCH: Block = Block {
    removed: &[
        ("min_size_items", "write min_size, and sizer: items"),
        ("max_size_items", "write max_size, and sizer: items"),
    ],
    check: Some(checks::queue_batch),
    ..block(&[&[
        field("flush_timeout", Kind::Duration, Default::Text("200ms")),
        field("min_size", Kind::Int, Default::Int(8192)),
        zero("max_size", Kind::Int),
        field("sizer", Kind::Choice(&["requests", "items", "bytes"]), Default::Text("items")),
        zero("partition", Kind::Block(&PARTITION)),
    ]])
};

static PARTITION: Block =
    Block { check: Some(checks::metadata_keys), ..block(&[&[zero("metadata_keys", Kind::Strings)]]) };

/// Keys of ours under every exporter that has a queue.
pub(super) const OURS_OF_EXPORTERS: &[Field] = &[
    // Empty: refuse with one destination, drop_newest with several.
    zero("when_full", Kind::Choice(&["refuse", "drop_newest", "drop_oldest", "block"])),
    zero("rate_limit", Kind::Optional(&RATE_LIMIT, Presence::ByKey)),
];

/// Ours, at a receiver, a pipeline's inlet and an exporter.
pub(super) static RATE_LIMIT: Block = Block {
    check: Some(checks::rate_limit),
    ..block(&[&[
        field("unit", Kind::Choice(&["items", "bytes", "requests"]), Default::Text("items")),
        field("algorithm", Kind::Choice(&["token_bucket", "sliding_window"]), Default::Text("token_bucket")),
        // A second, or a window of `sliding_window`.
        zero("rate", Kind::Uint),
        // What a token bucket holds; 0: one second's worth.
        zero("capacity", Kind::Uint),
        field("window", Kind::Duration, Default::Text("1s")),
    ]])
};
