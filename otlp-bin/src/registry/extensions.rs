//! The authenticators among the extensions, made for whoever names them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use otlp_core::Clock;
use otlp_core::auth::Secret;
use otlp_receive::auth::{basic, bearer};

use super::{Made, not_built};
use crate::config::{ConfiguredComponent, Diagnostic, Id, Resolved, Role, Section, suggestion};

/// The names of the types that authenticate.
const AUTHENTICATORS: [&str; 2] = ["basicauth", "bearertokenauth"];

/// Makes each authenticator once for each side that it is named on.
pub(super) struct Extensions<'a> {
    tree: &'a Resolved,
    clock: &'a Clock,
    servers: RefCell<HashMap<Id, otlp_receive::Authenticator>>,
    clients: RefCell<HashMap<Id, otlp_export::auth::Authenticator>>,
}

impl<'a> Extensions<'a> {
    pub(super) fn new(tree: &'a Resolved, clock: &'a Clock) -> Extensions<'a> {
        Extensions { tree, clock, servers: RefCell::default(), clients: RefCell::default() }
    }

    /// What the `auth` section of a receiver's protocol names.
    pub(super) fn server(&self, protocol: &Section) -> Made<Option<otlp_receive::Authenticator>> {
        let Some((auth, extension)) = self.named(protocol)? else { return Ok(None) };
        // Of HTTP alone.
        if protocol.path().ends_with("http") && !auth.list_str("request_params").is_empty() {
            return Err(not_built(&auth, "request_params", "request_params"));
        }
        if let Some(made) = self.servers.borrow().get(&extension.id) {
            return Ok(Some(made.clone()));
        }
        let (id, section, clock) = (extension.id.to_string(), &extension.section, self.clock.clone());
        let made = match extension.component.name {
            "basicauth" => {
                let Some(htpasswd) = section.sub("htpasswd") else {
                    return Err(section.error_at("htpasswd", format!("must be given: {} uses it", auth.path())));
                };
                let config = basic::Config { inline: secret(&htpasswd, "inline"), file: path(&htpasswd, "file") };
                otlp_receive::Authenticator::basic(&id, &config, clock)
            }
            _ => {
                let mut tokens: Vec<Secret> = section.list_str("tokens").iter().map(Secret::new).collect();
                tokens.extend(Some(secret(section, "token")).filter(|token| !token.is_empty()));
                let config = bearer::Config {
                    scheme: section.str("scheme").to_owned(),
                    header: section.str("header").to_owned(),
                    tokens,
                    filename: token_file(section),
                    file_may_come_later: may_come_later(section),
                };
                otlp_receive::Authenticator::bearer(&id, &config, clock)
            }
        };
        let made = made.map_err(|error| section.error_at(&error.key.replace('.', "::"), error.message))?;
        self.servers.borrow_mut().insert(extension.id.clone(), made.clone());
        Ok(Some(made))
    }

    /// What the `auth` section of an exporter names.
    pub(super) fn client(&self, exporter: &Section) -> Made<Option<otlp_export::auth::Authenticator>> {
        use otlp_export::auth::{Authenticator, Basic, Bearer};
        let Some((auth, extension)) = self.named(exporter)? else { return Ok(None) };
        if let Some(made) = self.clients.borrow().get(&extension.id) {
            return Ok(Some(made.clone()));
        }
        let (id, section, clock) = (extension.id.to_string(), &extension.section, self.clock.clone());
        let made = match extension.component.name {
            "basicauth" => {
                let Some(client) = section.sub("client_auth") else {
                    return Err(section.error_at("client_auth", format!("must be given: {} uses it", auth.path())));
                };
                let config = Basic {
                    username: client.str("username").to_owned(),
                    password: secret(&client, "password"),
                    username_file: path(&client, "username_file"),
                    password_file: path(&client, "password_file"),
                };
                Authenticator::basic(&id, &config, clock)
            }
            _ => {
                // The first of several, as in the Collector.
                let first = section.list_str("tokens").first().map(Secret::new);
                let config = Bearer {
                    scheme: section.str("scheme").to_owned(),
                    header: section.str("header").to_owned(),
                    token: first.unwrap_or_else(|| secret(section, "token")),
                    filename: token_file(section),
                    file_may_come_later: may_come_later(section),
                };
                Authenticator::bearer(&id, &config, clock)
            }
        };
        let made = made.map_err(|error| section.error_at(&error.key, error.message))?;
        self.clients.borrow_mut().insert(extension.id.clone(), made.clone());
        Ok(Some(made))
    }

    /// The `auth` section and the extension that it names, which the service has to start.
    fn named(&self, component: &Section) -> Made<Option<(Section, &'a ConfiguredComponent)>> {
        let Some(auth) = component.sub("auth") else { return Ok(None) };
        let started = || self.tree.service.ids("extensions").iter().map(|(id, _)| id);
        let authenticators = || {
            let ids = started().filter(|id| AUTHENTICATORS.contains(&id.kind.as_str()));
            ids.map(ToString::to_string).collect::<Vec<_>>()
        };
        let wrong = |name: &str, message: String| {
            let there = authenticators();
            let hint = match (suggestion(name, there.iter().map(String::as_str)), there.as_slice()) {
                (hint, _) if !hint.is_empty() => hint,
                (_, []) => format!("; authenticators are {}", AUTHENTICATORS.join(" and ")),
                (_, there) => format!("; there is {}", there.join(", ")),
            };
            Err(auth.error_at("authenticator", message + &hint))
        };
        let Some(id) = auth.id("authenticator") else {
            return wrong("", "must name an extension that authenticates".into());
        };
        let name = id.to_string();
        let Some(extension) = self.tree.component(Role::Extension, id) else {
            return wrong(&name, format!("there is no extension {name}"));
        };
        if !AUTHENTICATORS.contains(&extension.component.name) {
            return wrong(&name, format!("the extension {name} does not authenticate"));
        }
        if !started().any(|started| started == id) {
            return Err(auth.error_at(
                "authenticator",
                format!("{name} is not among service::extensions; write it there: the service starts no other"),
            ));
        }
        Ok(Some((auth, extension)))
    }
}

/// Waits for the files of tokens that `wait_for_token_file` names. `pause` waits for so long, and says whether to go on.
/// Whether to go on from here.
///
/// # Errors
///
/// Names the file that did not come in time.
pub fn await_token_files(tree: &Resolved, mut pause: impl FnMut(Duration) -> bool) -> Result<bool, Diagnostic> {
    for (id, _) in tree.service.ids("extensions") {
        let extension = tree.component(Role::Extension, id);
        let Some(section) =
            extension.filter(|found| found.component.name == "bearertokenauth").map(|found| &found.section)
        else {
            continue;
        };
        let (Some(file), true) = (token_file(section), section.bool("wait_for_token_file")) else { continue };
        let Some(retry) = section.sub("retry_on_failure") else { continue };
        let (retries_max, mut retries) = (retry.u64("max_retries"), 0);
        while let Err(error) = std::fs::metadata(&file) {
            if retries_max > 0 && retries == retries_max {
                let message = format!("{}: {error}; looked {} times", file.display(), retries + 1);
                return Err(section.error_at("filename", message));
            }
            if retries == 0 {
                log::warn!("{}::filename: waiting for {}", section.path(), file.display());
            }
            retries += 1;
            if !pause(retry.duration("interval")) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The file with the tokens, where they are not written in the configuration as a list.
fn token_file(bearer: &Section) -> Option<PathBuf> {
    path(bearer, "filename").filter(|_| bearer.list_str("tokens").is_empty())
}

/// Without `wait_for_token_file`: that file is there by then.
fn may_come_later(bearer: &Section) -> bool {
    bearer.sub("retry_on_failure").is_some_and(|retry| retry.bool("enabled")) && !bearer.bool("wait_for_token_file")
}

fn path(section: &Section, key: &str) -> Option<PathBuf> {
    Some(section.str(key)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn secret(section: &Section, key: &str) -> Secret {
    Secret::new(section.secret(key).reveal())
}
