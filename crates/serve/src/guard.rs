//! Checks who may send requests: the host names that the service answers to, and the sites whose pages may use it.
//!
//! A service on a loopback address without API keys trusts everyone who can reach its port, and every page in a browser on the same machine
//! can. Two checks keep other sites' pages out. With DNS rebinding, a site points its own name at this machine, so that its script has the
//! service's origin; its requests still carry that name in `Host`, so the service answers only to names of this machine. Without rebinding, a
//! page can make the browser send a request whose answer the page cannot read; the browser names the page's site in it, and the service refuses it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderValue, Method, Request, StatusCode, Version, header};

use super::error::{ApiError, Result};

/// A host from `Host`, an origin or a URL, in lower case and without the root's trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Whether the name can only mean this machine.
    fn is_loopback(&self) -> bool {
        match self {
            Host::Name(name) => {
                name == "localhost" || name.strip_suffix(".localhost").is_some_and(|sub| !sub.is_empty())
            }
            Host::Address(address) => is_loopback(*address),
        }
    }
}

/// Whether an address is a loopback address, including an IPv4 one mapped into IPv6.
fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

/// Splits `host[:port]` of RFC 3986 without user information. IPv4 addresses are four decimal numbers. The other forms that
/// `inet_aton` accepts (`127.1`, `0x7f000001`) count as names, so they do not count as addresses of the loopback.
fn authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (Host::Address(address.into()), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
            if !name.bytes().all(is_valid) {
                return None;
            }
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let host = name.parse::<Ipv4Addr>().map(|address| Host::Address(address.into()));
            (host.unwrap_or(Host::Name(name)), port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some("") => Some((host, None)),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(port.parse().ok()?))),
        _ => None,
    }
}

/// Host names that a service answers to, besides those of the loopback.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts {
    any: bool,
    hosts: Vec<Host>,
}

impl AllowedHosts {
    /// Reads names or addresses without a port; `*` allows all.
    ///
    /// # Errors
    /// A sentence that says which name is invalid, and why.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> std::result::Result<AllowedHosts, String> {
        let mut allowed = AllowedHosts::default();
        for name in names.iter().map(AsRef::as_ref) {
            let refused = || {
                format!("found `{}`, expected a host name or an IP address without a port, or *", name.escape_debug())
            };
            if name == "*" {
                allowed.any = true;
                continue;
            }
            let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
            let host = match address.parse::<IpAddr>() {
                Ok(address) => Host::Address(address),
                Err(_) => match authority(name) {
                    Some((host @ Host::Name(_), None)) if !name.contains(':') => host,
                    _ => return Err(refused()),
                },
            };
            if let Host::Name(name) = &host
                && (name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
            {
                return Err(refused());
            }
            allowed.hosts.push(host);
        }
        Ok(allowed)
    }

    fn is_empty(&self) -> bool {
        !self.any && self.hosts.is_empty()
    }
}

/// Origins of other sites whose pages may use the service and read its answers.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins {
    any: bool,
    origins: Vec<HeaderValue>,
}

impl AllowedOrigins {
    /// Reads origins such as `https://example.org`, in the form that browsers send them; `*` alone allows all.
    ///
    /// # Errors
    /// A sentence that says which origin can never match, and why.
    pub fn parse<S: AsRef<str>>(origins: &[S]) -> std::result::Result<AllowedOrigins, String> {
        let any = origins.iter().any(|origin| origin.as_ref() == "*");
        if any && origins.len() > 1 {
            return Err("found `*` beside others, expected it alone: it allows every origin".to_owned());
        }
        let origins = if any { &[] } else { origins };
        let origins =
            origins.iter().map(|origin| self::origin(origin.as_ref())).collect::<std::result::Result<_, _>>()?;
        Ok(AllowedOrigins { any, origins })
    }

    /// Whether every origin is allowed.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// The allowed origins, as browsers write them in `Origin`.
    pub(super) fn list(&self) -> &[HeaderValue] {
        &self.origins
    }

    fn has(&self, origin: &HeaderValue) -> bool {
        self.any || self.origins.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }
}

/// The default port of a URL scheme.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// An origin as browsers write it: in lower case, without the scheme's default port.
fn origin(text: &str) -> std::result::Result<HeaderValue, String> {
    let refused =
        |why: &str| Err(format!("found `{}`, expected an origin as https://example.org{why}", text.escape_debug()));
    if text == "null" {
        return refused(": `null` stands for sandboxed pages and files of whoever wrote them");
    }
    let Some((scheme, rest)) = text.split_once("://") else { return refused(", or *") };
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return refused("");
    }
    if rest.contains(',') || rest.contains(char::is_whitespace) {
        return refused(": give several by repeating the option");
    }
    if rest.contains(['/', '?', '#']) {
        return refused(", without a path and without a / at its end");
    }
    if rest.contains('@') {
        return refused(", without a user");
    }
    if !rest.is_ascii() {
        return refused(", its name as browsers send it (xn--…)");
    }
    let written = |(host, port): (Host, Option<u16>)| {
        let host = match host {
            Host::Name(name) if name.is_empty() || name.contains(['*', '%']) => return None,
            Host::Name(name) => name,
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        let port = port.filter(|port| default_port(&scheme) != Some(*port));
        Some(format!("{scheme}://{host}{}", port.map_or_else(String::new, |port| format!(":{port}"))))
    };
    match authority(rest).and_then(written).and_then(|origin| HeaderValue::from_str(&origin).ok()) {
        Some(origin) => Ok(origin),
        None => refused(""),
    }
}

/// The checks that every request passes before it reaches its route.
#[derive(Debug)]
pub(super) struct Guard {
    /// Whether nothing is checked: so on a Unix socket, which a browser cannot reach.
    is_open: bool,
    /// The names that the service answers to, besides those of the loopback; all if `None`.
    hosts: Option<AllowedHosts>,
    /// Whether any IP address is accepted as `Host`: DNS rebinding needs a name.
    addresses: bool,
    /// Whether requests that another site's page has sent are refused.
    same_site: bool,
    pub origins: AllowedOrigins,
}

impl Guard {
    /// The checks of a service that listens on `address`, or on a Unix socket if that is `None`.
    ///
    /// Names are checked if the address is a loopback address and there are no keys, and whenever `hosts` has names. Cross-site requests are
    /// refused if there are no keys: a page of another site does not know a key.
    pub(super) fn new(address: Option<IpAddr>, has_keys: bool, hosts: AllowedHosts, origins: AllowedOrigins) -> Guard {
        let local = address.is_some_and(is_loopback);
        let checked = !hosts.any && (local && !has_keys || !hosts.is_empty());
        Guard {
            is_open: address.is_none(),
            hosts: checked.then_some(hosts),
            addresses: !local,
            same_site: !has_keys,
            origins,
        }
    }

    /// Refuses a request whose `Host` is malformed or not allowed, and one that another site's page has sent and that does more than read.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<()> {
        if self.is_open {
            return Ok(());
        }
        let host = named_host(request)?;
        if let (Some(hosts), Some((host, _))) = (&self.hosts, &host) {
            self.check_host(hosts, host)?;
        }
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if self.same_site && !is_safe {
            self.check_site(request, host.as_ref())?;
        }
        Ok(())
    }

    /// Refuses a host that is neither of the loopback nor allowed.
    fn check_host(&self, allowed: &AllowedHosts, host: &Host) -> Result<()> {
        let is_address = matches!(host, Host::Address(_));
        if host.is_loopback() || (self.addresses && is_address) || allowed.hosts.contains(host) {
            return Ok(());
        }
        let name = match host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        let what = format!(
            "`{name}` is not a name of this service, expected localhost or a loopback address (to guard against DNS rebinding); \
             --allowed-host allows a name"
        );
        Err(ApiError::new(StatusCode::FORBIDDEN, "host_not_allowed", what))
    }

    /// Refuses a request of another site's page, by `Sec-Fetch-Site`, or without this header by comparing `Origin` with the host.
    fn check_site<B>(&self, request: &Request<B>, host: Option<&(Host, Option<u16>)>) -> Result<()> {
        let headers = request.headers();
        let refused = |what: String| {
            let what = format!("{what}: a request of another site's page; --cors-origin allows an origin");
            Err(ApiError::new(StatusCode::FORBIDDEN, "cross_site_request", what))
        };
        let mut strangers =
            headers.get_all(header::ORIGIN).iter().filter(|origin| !self.origins.has(origin)).peekable();
        let is_listed = headers.contains_key(header::ORIGIN) && strangers.peek().is_none();
        if is_listed || self.origins.any() {
            return Ok(());
        }
        // The browser itself has compared the origins, and a page cannot change this header. It is also right behind a proxy that changes `Host`.
        let mut sites = headers.get_all("sec-fetch-site").iter().peekable();
        if sites.peek().is_some() {
            let foreign = sites.find(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
            return foreign.map_or(Ok(()), |site| refused(format!("`Sec-Fetch-Site` is {}", shown(site))));
        }
        match strangers.find(|origin| !host.is_some_and(|host| is_same(origin, host))) {
            Some(origin) => refused(format!("`Origin` is {}", shown(origin))),
            None => Ok(()),
        }
    }
}

/// A header's value for a message, quoted and escaped.
fn shown(value: &HeaderValue) -> String {
    format!("`{}`", String::from_utf8_lossy(value.as_bytes()).escape_debug())
}

/// Whether an origin has the same host and port as `host`. The scheme is not compared, because a proxy may speak TLS for this service.
fn is_same(origin: &HeaderValue, (host, port): &(Host, Option<u16>)) -> bool {
    let Some((scheme, rest)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let default = default_port(&scheme.to_ascii_lowercase());
    authority(rest).is_some_and(|(of, its_port)| of == *host && its_port.or(default) == port.or(default))
}

/// The host that a request is for: that of its target if it is a whole URL (RFC 9112, 3.2.2), else that of its only `Host` field. HTTP/1.0 may
/// omit `Host`, but no browser speaks HTTP/1.0.
fn named_host<B>(request: &Request<B>) -> Result<Option<(Host, Option<u16>)>> {
    let bad = |what: String| Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_host", what));
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return bad("`Host` is there more than once, expected once".to_owned()),
        (None, _) if request.version() >= Version::HTTP_11 => {
            return bad("`Host` is missing, expected it once".to_owned());
        }
        (line, _) => line,
    };
    let written = match (request.uri().authority(), line) {
        (Some(target), _) => target.as_str(),
        (None, None) => return Ok(None),
        (None, Some(line)) => match line.to_str() {
            Ok(line) => line,
            Err(_) => return bad(format!("`Host` is {}, expected a host and a port", shown(line))),
        },
    };
    match authority(written) {
        Some(host) => Ok(Some(host)),
        None => bad(format!("the host `{}` is malformed, expected a host and a port", written.escape_debug())),
    }
}
