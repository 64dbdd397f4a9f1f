//! `include` and `exclude`, ready to run, level by level: what the resource decides is decided once for all below it.

use otlp_core::signal::Signal;
use otlp_core::wire::edit::{AttributeList, Value};
use otlp_core::wire::view::{AnyValue, ItemView, MetricView, ScopeItemsView};
use regex::RegexSet;

use super::config::{Attribute, Library, Match, MatchType};
use crate::{ConfigError, pattern};

/// What a [`Match`] asks for, for one signal.
pub(super) struct Matcher {
    services: Option<Texts>,
    resources: Vec<AttributeMatcher>,
    libraries: Vec<(Texts, Option<Texts>)>,
    metric_names: Option<Texts>,
    span_names: Option<Texts>,
    span_kinds: Option<Texts>,
    log_bodies: Option<Texts>,
    log_severity_texts: Option<Texts>,
    log_severity_number: Option<super::SeverityNumberMatch>,
    attributes: Vec<AttributeMatcher>,
}

enum Texts {
    Strict(Vec<String>),
    Regexp(RegexSet),
}

struct AttributeMatcher {
    key: String,
    value: Option<ValueMatcher>,
}

enum ValueMatcher {
    Equal(Value),
    Text(Texts),
}

/// The kinds that a strict list may name.
const SPAN_KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

impl Matcher {
    /// Compiles what stands under `section`. `None` where it asks for nothing that metrics have: the Collector takes such a
    /// section and it matters to the other signals only.
    pub(super) fn new(section: &str, of: &Match, signal: Signal) -> Result<Option<Matcher>, ConfigError> {
        let match_type = of.match_type.unwrap_or(MatchType::Strict);
        check_signal(section, of, match_type, signal)?;
        if signal == Signal::Metrics && of.metric_names.is_empty() && of.resources.is_empty() {
            log::warn!("{section}: nothing in it applies to metrics, so it is ignored for them");
            return Ok(None);
        }
        let texts = |key: &str, list: &[String]| match list.is_empty() {
            true => Ok(None),
            false => Texts::new(match_type, list).map(Some).map_err(|error| at(section, key, &error)),
        };
        let attributes = |key: &str, list: &[Attribute]| {
            let compile =
                |attribute| AttributeMatcher::new(match_type, attribute).map_err(|error| at(section, key, &error));
            list.iter().map(compile).collect::<Result<Vec<_>, _>>()
        };
        let library = |library: &Library| {
            let one = |text: &str| Texts::new(match_type, &[text.to_owned()]);
            Ok((one(&library.name)?, library.version.as_deref().map(one).transpose()?))
        };
        let libraries: Result<Vec<_>, regex::Error> = of.libraries.iter().map(library).collect();
        let mut matcher = Matcher {
            services: texts("services", &of.services)?,
            resources: attributes("resources", &of.resources)?,
            libraries: libraries.map_err(|error| at(section, "libraries", &error))?,
            metric_names: texts("metric_names", &of.metric_names)?,
            span_names: texts("span_names", &of.span_names)?,
            span_kinds: texts("span_kinds", &of.span_kinds)?,
            log_bodies: texts("log_bodies", &of.log_bodies)?,
            log_severity_texts: texts("log_severity_texts", &of.log_severity_texts)?,
            log_severity_number: of.log_severity_number,
            attributes: attributes("attributes", &of.attributes)?,
        };
        if signal == Signal::Metrics {
            (matcher.services, matcher.libraries, matcher.attributes) = (None, Vec::new(), Vec::new());
        }
        Ok(Some(matcher))
    }

    /// Whether the resource leaves it open. For scopes and items below it only.
    pub(super) fn resource(&self, attributes: &mut AttributeList<'_>) -> bool {
        if let Some(services) = &self.services {
            let service = attributes.get("service.name");
            // The Collector's own word for a resource without a name, which patterns may rely on.
            let name = service.map_or("<nil-service-name>".into(), |service| service.to_text());
            if !services.matches(&name) {
                return false;
            }
        }
        all_match(&self.resources, attributes)
    }

    /// Whether the scope leaves it open.
    pub(super) fn scope(&self, envelope: ScopeItemsView<'_>) -> bool {
        if self.libraries.is_empty() {
            return true;
        }
        let scope = envelope.scope();
        let (name, version) = scope.map_or(("", ""), |scope| (scope.name(), scope.version()));
        self.libraries.iter().any(|(names, versions)| {
            names.matches(name) && versions.as_ref().is_none_or(|versions| versions.matches(version))
        })
    }

    /// Whether nothing but resource and scope matters, so that what both leave open matches.
    pub(super) fn is_decided_by_scope(&self) -> bool {
        self.metric_names.is_none()
            && self.span_names.is_none()
            && self.span_kinds.is_none()
            && self.log_bodies.is_none()
            && self.log_severity_texts.is_none()
            && self.log_severity_number.is_none()
            && self.attributes.is_empty()
    }

    /// Whether the metric matches.
    pub(super) fn metric(&self, metric: MetricView<'_>) -> bool {
        self.metric_names.as_ref().is_none_or(|names| names.matches(metric.name()))
    }

    /// Whether the item matches, where resource and scope left it open.
    pub(super) fn item(&self, item: ItemView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        let is = |texts: &Option<Texts>, text: &str| texts.as_ref().is_none_or(|texts| texts.matches(text));
        let fields = match item {
            ItemView::Span(span) => {
                (self.span_names.is_none() || is(&self.span_names, span.name()))
                    && (self.span_kinds.is_none() || is(&self.span_kinds, span_kind(span.kind())))
            }
            ItemView::LogRecord(record) => {
                let body = || record.body().unwrap_or(AnyValue::Empty).to_text();
                (self.log_bodies.is_none() || is(&self.log_bodies, &body()))
                    && (self.log_severity_texts.is_none() || is(&self.log_severity_texts, record.severity_text()))
                    && self.log_severity_number.is_none_or(|severity| match record.severity_number() {
                        0 => severity.match_undefined,
                        number => number >= severity.min,
                    })
            }
            ItemView::Point(_) => true,
        };
        fields && all_match(&self.attributes, attributes)
    }
}

/// What the Collector says of criteria that a signal does not have, and of a section without any that it has.
fn check_signal(section: &str, of: &Match, match_type: MatchType, signal: Signal) -> Result<(), ConfigError> {
    let given = [
        ("services", !of.services.is_empty()),
        ("span_names", !of.span_names.is_empty()),
        ("span_kinds", !of.span_kinds.is_empty()),
        ("log_bodies", !of.log_bodies.is_empty()),
        ("log_severity_texts", !of.log_severity_texts.is_empty()),
        ("log_severity_number", of.log_severity_number.is_some()),
        ("attributes", !of.attributes.is_empty()),
        ("resources", !of.resources.is_empty()),
        ("libraries", !of.libraries.is_empty()),
    ];
    let foreign = match signal {
        Signal::Traces => &given[3..6],
        Signal::Logs => &given[..3],
        Signal::Metrics => return Ok(()),
    };
    if let Some((key, _)) = foreign.iter().find(|(_, given)| *given) {
        return Err(ConfigError::new(format!("{section}.{key}"), format!("does not apply to {}", signal.items_name())));
    }
    if !given.iter().any(|(_, given)| *given) {
        let message = format!("nothing to match {} by; set attributes, resources or libraries", signal.items_name());
        return Err(ConfigError::new(section, message));
    }
    let strict = match_type == MatchType::Strict;
    if let Some(kind) = of.span_kinds.iter().find(|kind| strict && !SPAN_KINDS[1..].contains(&kind.as_str())) {
        let message = format!("{kind:?} is none of {}", SPAN_KINDS[1..].join(", "));
        return Err(ConfigError::new(format!("{section}.span_kinds"), message));
    }
    Ok(())
}

fn at(section: &str, key: &str, error: &regex::Error) -> ConfigError {
    ConfigError::new(format!("{section}.{key}"), format!("no regular expression: {error}"))
}

fn span_kind(kind: i32) -> &'static str {
    usize::try_from(kind).ok().and_then(|kind| SPAN_KINDS.get(kind)).copied().unwrap_or("")
}

fn all_match(matchers: &[AttributeMatcher], attributes: &mut AttributeList<'_>) -> bool {
    matchers.iter().all(|matcher| match (attributes.get(&matcher.key), &matcher.value) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(found), Some(ValueMatcher::Equal(value))) => found == value.view(),
        (Some(found), Some(ValueMatcher::Text(texts))) => match found {
            AnyValue::String(text) => texts.matches(text),
            AnyValue::Bool(_) | AnyValue::Int(_) => texts.matches(&found.to_text()),
            // Never with an exponent, unlike as text elsewhere.
            AnyValue::Double(value) => texts.matches(&value.to_string()),
            _ => false,
        },
    })
}

impl Texts {
    fn new(match_type: MatchType, list: &[String]) -> Result<Texts, regex::Error> {
        match match_type {
            MatchType::Strict => Ok(Texts::Strict(list.to_vec())),
            MatchType::Regexp => pattern::compile_set(list).map(Texts::Regexp),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Texts::Strict(list) => list.iter().any(|entry| entry == text),
            Texts::Regexp(set) => set.is_match(text),
        }
    }
}

impl AttributeMatcher {
    fn new(match_type: MatchType, attribute: &Attribute) -> Result<AttributeMatcher, regex::Error> {
        let value = match (&attribute.value, match_type) {
            (None, _) => None,
            (Some(value), MatchType::Strict) => Some(ValueMatcher::Equal(value.clone())),
            (Some(value), MatchType::Regexp) => {
                let text = value.view().as_str().unwrap_or_default().to_owned();
                Some(ValueMatcher::Text(Texts::new(match_type, &[text])?))
            }
        };
        Ok(AttributeMatcher { key: attribute.key.clone(), value })
    }
}
