//! Processors by name.

use std::collections::BTreeMap;

use otlp_core::component::Processor;
use otlp_core::wire::edit::Value;
use otlp_core::{ByteSize, Signal};
use otlp_process::attributes::{self, Action, Attribute, Attributes, Library, Match, MatchType, SeverityNumberMatch};
use otlp_process::batch::{self, BatchProcessor};
use otlp_process::chain::Stateless;
use otlp_process::memory_limiter::{self, MemoryLimiter};
use otlp_process::resource::{self, Resource};

use super::{Environment, Made, not_built};
use crate::config::{ConfiguredComponent, Node, Section, Value as Yaml};

/// The memory limiters that were made: one for each id, shared by all pipelines that list it.
pub(super) type Limiters = BTreeMap<String, MemoryLimiter>;

/// Makes a processor for a pipeline of `signal`.
pub(super) fn processor(
    component: &ConfiguredComponent,
    signal: Signal,
    environment: &Environment,
    limiters: &mut Limiters,
) -> Made<Box<dyn Processor>> {
    let section = &component.section;
    let id = component.id.to_string();
    match component.component.name {
        "memory_limiter" => {
            if let Some(limiter) = limiters.get(&id) {
                return Ok(Box::new(limiter.clone()));
            }
            let config = memory_limiter_config(section);
            let total = memory_limiter::total().unwrap_or(ByteSize::mib(512));
            let limiter = MemoryLimiter::new(
                &id,
                &config,
                total,
                memory_limiter::resident(),
                environment.clock.clone(),
                &environment.registry,
            )
            .map_err(|error| section.error_at(&error.key, error.message))?;
            limiters.insert(id, limiter.clone());
            Ok(Box::new(limiter))
        }
        "batch" => {
            let config = batch::Config {
                send_batch_size: small(section, "send_batch_size"),
                timeout: section.duration("timeout"),
                send_batch_max_size: small(section, "send_batch_max_size"),
                metadata_keys: section.list_str("metadata_keys").to_vec(),
                metadata_cardinality_limit: small(section, "metadata_cardinality_limit"),
            };
            BatchProcessor::new(&id, config, &environment.registry)
                .map(|processor| Box::new(processor) as Box<dyn Processor>)
                .map_err(|error| section.error_at(&error.key, error.message))
        }
        "attributes" => {
            let config = attributes::Config {
                actions: actions(section, "actions")?,
                include: section.sub("include").map(|of| matching(&of)).transpose()?,
                exclude: section.sub("exclude").map(|of| matching(&of)).transpose()?,
            };
            Attributes::new(config, signal)
                .map(|attributes| Box::new(Stateless::new(attributes)) as Box<dyn Processor>)
                .map_err(|error| section.error_at(&error.key, error.message))
        }
        "resource" => {
            let config = resource::Config { attributes: actions(section, "attributes")? };
            Resource::new(config)
                .map(|resource| Box::new(Stateless::new(resource)) as Box<dyn Processor>)
                .map_err(|error| section.error_at(&error.key, error.message))
        }
        other => Err(not_built(section, "", &format!("the processor {other}"))),
    }
}

/// The settings of a memory_limiter.
pub(super) fn memory_limiter_config(section: &Section) -> memory_limiter::Config {
    memory_limiter::Config {
        check_interval: section.duration("check_interval"),
        limit_mib: small(section, "limit_mib"),
        spike_limit_mib: small(section, "spike_limit_mib"),
        limit_percentage: small(section, "limit_percentage"),
        spike_limit_percentage: small(section, "spike_limit_percentage"),
        min_gc_interval_when_soft_limited: section.duration("min_gc_interval_when_soft_limited"),
        min_gc_interval_when_hard_limited: section.duration("min_gc_interval_when_hard_limited"),
        max_gc_interval_when_soft_limited: section.duration("max_gc_interval_when_soft_limited"),
        max_gc_interval_when_hard_limited: section.duration("max_gc_interval_when_hard_limited"),
    }
}

/// The table keeps these keys within 32 bits.
fn small(section: &Section, key: &str) -> u32 {
    u32::try_from(section.u64(key)).unwrap_or(u32::MAX)
}

fn actions(section: &Section, key: &str) -> Made<Vec<Action>> {
    let action = |action: &Section| {
        Ok(Action {
            key: action.str("key").to_owned(),
            action: action.str("action").to_owned(),
            value: optional_value(action, "value")?,
            from_attribute: action.str("from_attribute").to_owned(),
            from_context: action.str("from_context").to_owned(),
            default_value: optional_value(action, "default_value")?,
            pattern: action.str("pattern").to_owned(),
            converted_type: action.str("converted_type").to_owned(),
        })
    };
    section.list(key).iter().map(action).collect()
}

fn matching(section: &Section) -> Made<Match> {
    let texts = |key: &str| section.list_str(key).to_vec();
    let pairs = |key: &str| -> Made<Vec<Attribute>> {
        let pair =
            |pair: &Section| Ok(Attribute { key: pair.str("key").to_owned(), value: optional_value(pair, "value")? });
        section.list(key).iter().map(pair).collect()
    };
    let library = |library: &Section| Library {
        name: library.str("name").to_owned(),
        version: library.given("version").then(|| library.str("version").to_owned()),
    };
    Ok(Match {
        match_type: MatchType::from_name(section.str("match_type")),
        regexp: None,
        services: texts("services"),
        span_names: texts("span_names"),
        span_kinds: texts("span_kinds"),
        log_bodies: texts("log_bodies"),
        log_severity_texts: texts("log_severity_texts"),
        log_severity_number: section.sub("log_severity_number").map(|severity| SeverityNumberMatch {
            min: i32::try_from(severity.i64("min")).unwrap_or(i32::MAX),
            match_undefined: severity.bool("match_undefined"),
        }),
        metric_names: texts("metric_names"),
        attributes: pairs("attributes")?,
        resources: pairs("resources")?,
        libraries: section.list("libraries").iter().map(library).collect(),
    })
}

/// An attribute's value as the file has it; none where the key is not there.
fn optional_value(section: &Section, key: &str) -> Made<Option<Value>> {
    if !section.given(key) || matches!(section.value(key).value, Yaml::Null) {
        return Ok(None);
    }
    value(section.value(key)).map(Some).map_err(|message| section.error_at(key, message))
}

fn value(node: &Node) -> Result<Value, String> {
    Ok(match &node.value {
        Yaml::Bool(value) => Value::bool(*value),
        Yaml::Int(value) => Value::int(i64::try_from(*value).map_err(|_| format!("{value} does not fit in 64 bits"))?),
        Yaml::Float(value) => Value::double(*value),
        Yaml::Str(text) | Yaml::Time(text) => Value::string(text),
        Yaml::List(items) => Value::array(items.iter().map(value).collect::<Result<Vec<_>, _>>()?),
        Yaml::Map(map) => {
            let pairs: Result<Vec<_>, String> =
                map.iter().map(|entry| Ok((entry.key.as_str(), value(&entry.value)?))).collect();
            Value::kvlist(pairs?)
        }
        Yaml::Null => return Err("a value inside must not be null".to_owned()),
    })
}
