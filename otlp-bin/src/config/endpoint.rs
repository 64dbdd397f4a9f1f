//! What the Collector takes for an endpoint at load: gRPC targets and URLs as Go reads them.

/// `host:port`, with http(s):// or dns:// before it; Unix sockets pass unread: `unix://`, and beyond what the Collector
/// takes `unix:/` and `unix-abstract:`, which gRPC has. No relative path: where a program is started is an accident.
pub(super) fn grpc_target(target: &str) -> Result<(), String> {
    if target.starts_with("unix:/") || target.starts_with("unix-abstract:") {
        return Ok(());
    }
    let address = ["http://", "https://", "dns:///", "dns://"]
        .into_iter()
        .find_map(|scheme| target.strip_prefix(scheme))
        .unwrap_or(target);
    if target.starts_with("unix:") {
        return Err(format!("expected an absolute path, unix:///path, got {target:?}"));
    }
    let port = split_port(address).ok_or_else(|| format!("expected host:port, got {target:?}"))?;
    let digits = port.strip_prefix(['+', '-']).unwrap_or(port);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("expected a number as the port, got {port:?} in {target:?}"));
    }
    Ok(())
}

/// The port of `host:port` or `[v6]:port`.
fn split_port(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.contains(['[', ']']) && !port.contains(['[', ']'])).then_some(port)
}

/// Whether Go's `url.Parse` takes it: far more than what can be sent to.
pub(super) fn is_url(text: &str) -> bool {
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    let text = text.split('#').next().unwrap_or(text);
    let Some((scheme, rest)) = scheme(text) else { return false };
    let rest = rest.split('?').next().unwrap_or(rest);
    if !rest.starts_with('/') {
        if scheme.is_some() {
            return true;
        }
        let first = rest.split('/').next().unwrap_or(rest);
        return !first.contains(':') && escapes(rest);
    }
    let Some(authority) = rest.strip_prefix("//") else { return escapes(rest) };
    let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let user_fits =
        user.is_none_or(|user| user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)));
    user_fits && host_fits(host) && escapes(path)
}

/// The scheme before the first colon; the outer `None` when it is empty.
fn scheme(text: &str) -> Option<(Option<&str>, &str)> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return None,
            ':' => return Some((Some(&text[..at]), &text[at + 1..])),
            _ => break,
        }
    }
    Some((None, text))
}

fn host_fits(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port),
            None => return false,
        },
        None => host.split_at(host.rfind(':').unwrap_or(host.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let allowed = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    let bare = host.len() == name.len() + port.len();
    port_fits && !(bare && name.contains(':')) && name.chars().all(allowed)
}

/// Every `%` is followed by two hexadecimal digits.
fn escapes(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)))
}
