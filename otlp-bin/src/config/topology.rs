//! Components and pipelines: what the sections name, and whether the references between them hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use otlp_core::Signal;

use super::decode::{self, Checker};
use super::id::Id;
use super::node::{Entry, Map, Node, Place, Value};
use super::report::{Diagnostic, suggestion};
use super::schema::{Component, Role};
use super::section::{Section, Typed};
use super::tables::{self, COMPONENTS};

/// A whole configuration, decoded: every list is in the order of the file.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The `receivers`.
    pub receivers: Vec<ConfiguredComponent>,
    /// The `processors`.
    pub processors: Vec<ConfiguredComponent>,
    /// The `exporters`.
    pub exporters: Vec<ConfiguredComponent>,
    /// The `connectors`.
    pub connectors: Vec<ConfiguredComponent>,
    /// The `extensions`.
    pub extensions: Vec<ConfiguredComponent>,
    /// The pipelines of `service`.
    pub pipelines: Vec<Pipeline>,
    /// `service` without its pipelines: `extensions`, `telemetry`, `threads`, `memory_budget_mib`, …
    pub service: Section,
}

/// One configured component, used or not.
#[derive(Clone, Debug)]
pub struct ConfiguredComponent {
    /// Its id as written (an alias stays; metrics carry it).
    pub id: Id,
    /// Its entry in the list of components; `component.name` is the type's canonical name.
    pub component: &'static Component,
    /// Its keys.
    pub section: Section,
}

/// One entry of `service::pipelines`.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `traces` or `traces/name`.
    pub id: Id,
    /// What it carries.
    pub signal: Signal,
    /// Receivers and connectors, each once.
    pub receivers: Vec<Id>,
    /// Processors in order.
    pub processors: Vec<Id>,
    /// Exporters and connectors, each once.
    pub exporters: Vec<Id>,
    /// All its keys, with `inlet` and `max_concurrent`; `section.ids("receivers")` has the places.
    pub section: Section,
}

impl Resolved {
    /// The components of a role.
    pub fn components(&self, role: Role) -> &[ConfiguredComponent] {
        match role {
            Role::Receiver => &self.receivers,
            Role::Processor => &self.processors,
            Role::Exporter => &self.exporters,
            Role::Connector => &self.connectors,
            Role::Extension => &self.extensions,
        }
    }

    /// The component of an id.
    pub fn component(&self, role: Role, id: &Id) -> Option<&ConfiguredComponent> {
        self.components(role).iter().find(|component| component.id == *id)
    }
}

/// Decodes the top level, with everything found in `diagnostics`.
pub(super) fn resolve(map: &Map, whole: &Place, diagnostics: &mut Vec<Diagnostic>) -> Resolved {
    let mut keys: Vec<&str> = Role::ALL.iter().map(|role| role.section()).collect();
    keys.push("service");
    for entry in map.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
        let hint = suggestion(&entry.key, keys.iter().copied());
        let dotted = entry.key.split_once('.').is_some_and(|(first, _)| keys.contains(&first));
        let hint = match hint.is_empty() {
            true if dotted => format!("; keys are joined by \"::\": {}", entry.key.replace('.', "::")),
            true => format!("; expected one of {}", keys.join(", ")),
            false => hint,
        };
        diagnostics.push(Diagnostic::error(&entry.place, entry.key.clone(), format!("unknown key{hint}")));
    }
    if map.is_empty() {
        diagnostics.push(Diagnostic::error(whole, "", "the configuration is empty"));
    }
    let mut names = Names::default();
    let mut components = Role::ALL.map(|role| section(map, role, &mut names, diagnostics));
    if !map.is_empty() {
        for role in [Role::Receiver, Role::Exporter] {
            let none = components[role as usize].is_empty() && !names.broken(role);
            if none && (role == Role::Receiver || names.all(Role::Connector).is_empty()) {
                let place = map.entry(role.section()).map_or(whole, |entry| &entry.place);
                let message = format!("no {} is configured", role.name());
                diagnostics.push(Diagnostic::error(place, role.section(), message));
            }
        }
    }
    ambiguous(&components, diagnostics);
    let nothing = Node::new(Value::Null, whole.clone());
    let node = map.get("service").unwrap_or(&nothing);
    let service = decode::decode(node, &tables::SERVICE, "service", diagnostics);
    references(service.ids("extensions"), &[Role::Extension], &names, "service::extensions", diagnostics);
    let mut pipelines = Vec::new();
    if !map.is_empty() {
        pipelines = self::pipelines(&service, &names, diagnostics);
    }
    // Checks of use say something only about references that hold.
    used(&pipelines, &components, diagnostics);
    files(&pipelines, &components[Role::Exporter as usize], diagnostics);
    connectors(&pipelines, &components[Role::Connector as usize], diagnostics);
    extensions_needed(&components, &service, diagnostics);
    let mut take = |role: Role| std::mem::take(&mut components[role as usize]);
    Resolved {
        receivers: take(Role::Receiver),
        processors: take(Role::Processor),
        exporters: take(Role::Exporter),
        connectors: take(Role::Connector),
        extensions: take(Role::Extension),
        pipelines,
        service,
    }
}

/// Every id a section names, also those that could not be decoded: a reference to one of these is not a mistake of
/// the reference.
#[derive(Default)]
struct Names {
    ids: BTreeMap<Role, BTreeSet<Id>>,
    broken: BTreeSet<Role>,
}

impl Names {
    fn all(&self, role: Role) -> Vec<&Id> {
        self.ids.get(&role).into_iter().flatten().collect()
    }

    fn has(&self, role: Role, id: &Id) -> bool {
        self.ids.get(&role).is_some_and(|ids| ids.contains(id))
    }

    fn broken(&self, role: Role) -> bool {
        self.broken.contains(&role)
    }
}

fn section(map: &Map, role: Role, names: &mut Names, diagnostics: &mut Vec<Diagnostic>) -> Vec<ConfiguredComponent> {
    let mut components = Vec::new();
    let entries = match map.get(role.section()) {
        None | Some(Node { value: Value::Null, .. }) => return components,
        Some(Node { value: Value::Map(entries), .. }) => entries,
        Some(node) => {
            let message = format!("expected a map of ids, got {}", node.what());
            diagnostics.push(Diagnostic::error(&node.place, role.section(), message));
            names.broken.insert(role);
            return components;
        }
    };
    for entry in entries.iter() {
        let path = super::joined(role.section(), &entry.key);
        let mut error = |message: String| diagnostics.push(Diagnostic::error(&entry.place, path.clone(), message));
        let id = match Id::parse(&entry.key) {
            Ok(id) => id,
            Err(message) => {
                names.broken.insert(role);
                error(message);
                continue;
            }
        };
        if !names.ids.entry(role).or_default().insert(id.clone()) {
            error(format!("the id {id} is given twice (spaces do not count)"));
            continue;
        }
        let Some(component) = tables::component(role, &id.kind) else {
            error(unknown_type(role, &id));
            continue;
        };
        if component.name != id.kind {
            let message = format!("the type {} is now called {}", id.kind, component.name);
            diagnostics.push(Diagnostic::warning(&entry.place, path.clone(), message));
        }
        let node = with_place(entry);
        let section =
            decode::decode(&node, component.block, &super::joined(role.section(), &id.to_string()), diagnostics);
        components.push(ConfiguredComponent { id, component, section });
    }
    components
}

/// A component without anything under it is found at its key.
fn with_place(entry: &Entry) -> Node {
    let mut node = entry.value.clone();
    if node.place.via.is_none() {
        node.place = entry.place.clone();
    }
    node
}

fn unknown_type(role: Role, id: &Id) -> String {
    if role == Role::Exporter && id.kind == "logging" {
        return "the logging exporter is gone; use the debug exporter".to_owned();
    }
    let known: Vec<&str> = COMPONENTS
        .iter()
        .filter(|component| component.role == role)
        .flat_map(|component| std::iter::once(component.name).chain(component.aliases.iter().copied()))
        .collect();
    let elsewhere = COMPONENTS.iter().find(|c| c.role != role && (c.name == id.kind || c.aliases.contains(&&*id.kind)));
    let hint = match elsewhere {
        Some(component) if super::report::nearest(&id.kind, known.iter().copied()).is_none() => {
            format!("; there is a {} of that name", component.role.name())
        }
        _ => suggestion(&id.kind, known.iter().copied()),
    };
    format!("unknown type {:?} of a {}; known are {}{hint}", id.kind, role.name(), known.join(", "))
}

fn ambiguous(components: &[Vec<ConfiguredComponent>; 5], diagnostics: &mut Vec<Diagnostic>) {
    for connector in &components[Role::Connector as usize] {
        for role in [Role::Receiver, Role::Exporter] {
            if components[role as usize].iter().any(|component| component.id == connector.id) {
                let message = format!("the id {} also names a {}; change one of them", connector.id, role.name());
                diagnostics.push(connector.section.error_at("", message));
            }
        }
    }
}

fn references(ids: &[(Id, Place)], roles: &[Role], names: &Names, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    for (id, place) in ids {
        if roles.iter().any(|role| names.has(*role, id)) {
            continue;
        }
        let known: Vec<String> =
            roles.iter().flat_map(|role| names.all(*role)).map(std::string::ToString::to_string).collect();
        let text = id.to_string();
        let role = roles[0];
        let same_type = known.iter().find(|known| {
            let kind = |text: &str| {
                let kind = text.split('/').next().unwrap_or_default().to_owned();
                tables::component(role, &kind).map(|component| component.name)
            };
            kind(known).is_some() && kind(known) == kind(&text)
        });
        let hint = match (suggestion(&text, known.iter().map(String::as_str)), same_type) {
            (hint, _) if !hint.is_empty() => hint,
            (_, Some(other)) => format!("; did you mean {other:?}?"),
            _ if known.is_empty() => format!("; no {} is", role.name()),
            _ => format!("; {} {}", known.join(", "), if known.len() == 1 { "is" } else { "are" }),
        };
        let message = format!("the {} {id} is not configured{hint}", role.name());
        diagnostics.push(Diagnostic::error(place, path, message));
    }
}

fn pipelines(service: &Section, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Vec<Pipeline> {
    let node = service.value("pipelines");
    let entries = match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        Value::Map(_) | Value::Null => {
            diagnostics.push(service.error_at("pipelines", "at least one pipeline must be given"));
            return Vec::new();
        }
        _ => {
            let message = format!("expected a map of pipelines, got {}", node.what());
            diagnostics.push(service.error_at("pipelines", message));
            return Vec::new();
        }
    };
    let mut pipelines: Vec<Pipeline> = Vec::new();
    for entry in entries.iter() {
        let path = super::joined("service::pipelines", &entry.key);
        let (id, signal) = match pipeline_id(&entry.key) {
            Ok(found) => found,
            Err(message) => {
                diagnostics.push(Diagnostic::error(&entry.place, path, message));
                continue;
            }
        };
        if pipelines.iter().any(|pipeline| pipeline.id == id) {
            let message = format!("the pipeline {id} is given twice (spaces do not count)");
            diagnostics.push(Diagnostic::error(&entry.place, path, message));
            continue;
        }
        let before = diagnostics.len();
        let section = decode::decode(&with_place(entry), &tables::PIPELINE, &path, diagnostics);
        let decoded = diagnostics.len() == before;
        for (key, roles) in [
            ("receivers", &[Role::Receiver, Role::Connector][..]),
            ("processors", &[Role::Processor]),
            ("exporters", &[Role::Exporter, Role::Connector]),
        ] {
            let ids = section.ids(key);
            if ids.is_empty() && key != "processors" && decoded {
                let message = format!("must name at least one {}", roles[0].name());
                diagnostics.push(section.error_at(key, message));
            }
            references(ids, roles, names, &super::joined(&path, key), diagnostics);
        }
        let processors = section.ids("processors");
        for (at, (id, place)) in processors.iter().enumerate() {
            if processors[..at].iter().any(|(other, _)| other == id) {
                let message = format!("the processor {id} stands in it twice");
                diagnostics.push(Diagnostic::error(place, super::joined(&path, "processors"), message));
            }
        }
        let mut once = |key: &str| {
            let mut ids: Vec<Id> = Vec::new();
            for (id, place) in section.ids(key) {
                if !ids.contains(id) {
                    ids.push(id.clone());
                } else if key != "processors" {
                    let message = format!("{id} stands in it twice and counts once");
                    diagnostics.push(Diagnostic::warning(place, super::joined(&path, key), message));
                }
            }
            ids
        };
        let (receivers, processors, exporters) = (once("receivers"), once("processors"), once("exporters"));
        pipelines.push(Pipeline { id, signal, receivers, processors, exporters, section });
    }
    pipelines
}

fn pipeline_id(text: &str) -> Result<(Id, Signal), String> {
    let id = Id::parse(text)?;
    let signals = ["traces", "metrics", "logs"];
    let signal = match id.kind.as_str() {
        "traces" => Signal::Traces,
        "metrics" => Signal::Metrics,
        "logs" => Signal::Logs,
        "profiles" => return Err("pipelines of profiles are not built; traces, metrics and logs are".to_owned()),
        other => {
            let hint = suggestion(other, signals);
            return Err(format!("{other:?} is no signal; expected traces, metrics or logs, with /name after it{hint}"));
        }
    };
    Ok((id, signal))
}

/// Authenticators, storages and middlewares are extensions the service must start. The Collector finds one missing
/// when it starts; here it is a warning, since a component that no pipeline uses does no harm.
fn extensions_needed(components: &[Vec<ConfiguredComponent>; 5], service: &Section, diagnostics: &mut Vec<Diagnostic>) {
    fn visit(section: &Section, started: &[(Id, Place)], diagnostics: &mut Vec<Diagnostic>) {
        for slot in section.slots() {
            match &slot.value {
                Typed::Id(Some(id)) if !started.iter().any(|(other, _)| other == id) => {
                    let names: Vec<String> = started.iter().map(|(other, _)| other.to_string()).collect();
                    let hint = suggestion(&id.to_string(), names.iter().map(String::as_str));
                    let message = format!("{id} is not among service::extensions; a start with it fails{hint}");
                    diagnostics.push(section.warning_at(slot.name, message));
                }
                Typed::Block(Some(inner)) => visit(inner, started, diagnostics),
                Typed::Blocks(items) => items.iter().for_each(|item| visit(item, started, diagnostics)),
                _ => {}
            }
        }
    }
    for component in components.iter().flatten() {
        visit(&component.section, service.ids("extensions"), diagnostics);
    }
}

/// Runs the checks of components that pipelines use, once for each signal.
fn used(pipelines: &[Pipeline], components: &[Vec<ConfiguredComponent>; 5], diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    let mut checker = Checker::new(diagnostics);
    for pipeline in pipelines {
        for (role, ids) in [
            (Role::Receiver, &pipeline.receivers),
            (Role::Processor, &pipeline.processors),
            (Role::Exporter, &pipeline.exporters),
        ] {
            for id in ids {
                let Some(found) = components[role as usize].iter().find(|component| component.id == *id) else {
                    continue;
                };
                if let Some(check) = found.component.check_used
                    && seen.insert((role, id.clone(), pipeline.signal.to_string()))
                {
                    check(&found.section, pipeline.signal, &mut checker);
                }
            }
        }
    }
}

/// Two `file` exporters that write to the same file overwrite each other, as in the Collector.
fn files(pipelines: &[Pipeline], exporters: &[ConfiguredComponent], diagnostics: &mut Vec<Diagnostic>) {
    let mut by_path: BTreeMap<PathBuf, &Id> = BTreeMap::new();
    let used = |id| pipelines.iter().any(|pipeline| pipeline.exporters.contains(id));
    for exporter in exporters.iter().filter(|exporter| exporter.component.name == "file" && used(&exporter.id)) {
        let path = exporter.section.str("path");
        // Many may write to a device. `.` says nothing wherever it stands.
        let whole: PathBuf =
            Path::new(path).components().filter(|part| *part != std::path::Component::CurDir).collect();
        if path.is_empty() || whole.starts_with("/dev") {
            continue;
        }
        if let Some(first) = by_path.get(&whole) {
            let message = format!(
                "exporters::{first}::path is the same file, {path}: they overwrite each other; name one exporter in all \
                 pipelines or give another path"
            );
            diagnostics.push(exporter.section.warning_at("path", message));
        } else {
            by_path.insert(whole, &exporter.id);
        }
    }
}

/// A connector takes from pipelines and gives to pipelines of the same signal, and never to itself.
fn connectors(pipelines: &[Pipeline], connectors: &[ConfiguredComponent], diagnostics: &mut Vec<Diagnostic>) {
    // From pipeline to pipeline, by index.
    let mut edges: Vec<Vec<usize>> = vec![Vec::new(); pipelines.len()];
    for connector in connectors {
        let into: Vec<usize> =
            (0..pipelines.len()).filter(|&at| pipelines[at].exporters.contains(&connector.id)).collect();
        let out: Vec<usize> =
            (0..pipelines.len()).filter(|&at| pipelines[at].receivers.contains(&connector.id)).collect();
        for (side, used, key) in [(&into, &out, "exporter"), (&out, &into, "receiver")] {
            for &at in side {
                let signal = pipelines[at].signal;
                if !used.iter().any(|&other| pipelines[other].signal == signal) {
                    let opposite = if key == "exporter" { "receiver" } else { "exporter" };
                    let message = format!(
                        "the connector {} is an {key} of {}, and no pipeline of {signal} has it as {opposite}",
                        connector.id, pipelines[at].id
                    );
                    let message = message.replace("an receiver", "a receiver");
                    diagnostics.push(pipelines[at].section.error_at(&format!("{key}s"), message));
                }
            }
        }
        for &from in &into {
            edges[from].extend(out.iter().filter(|&&to| pipelines[to].signal == pipelines[from].signal));
        }
    }
    // Whatever remains after taking away pipelines without a successor, again and again, is on a cycle or leads to one.
    let mut alive: BTreeSet<usize> = (0..pipelines.len()).collect();
    loop {
        let ends: Vec<usize> =
            alive.iter().copied().filter(|&at| !edges[at].iter().any(|to| alive.contains(to))).collect();
        if ends.is_empty() {
            break;
        }
        ends.iter().for_each(|at| {
            alive.remove(at);
        });
    }
    if let Some(&first) = alive.iter().next() {
        let mut names: Vec<String> = alive.iter().map(|&at| pipelines[at].id.to_string()).collect();
        names.dedup();
        let message = format!("connectors lead the data round in a circle: {}", names.join(", "));
        diagnostics.push(pipelines[first].section.error_at("exporters", message));
    }
}
