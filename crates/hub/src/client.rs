//! HTTP: sends requests, follows redirects, and decides which failures are worth another attempt.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, BodyReader};

use super::address::{Endpoint, is_loopback};
use super::error::{HubError, HubErrorKind, without_users};
use super::hash::Hash;
use super::names::is_commit;

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 10;

/// The longest wait that a server may ask for by `Retry-After`; if it asks for more, the request is given up.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Longest wait between attempts where the server asks for none.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The largest JSON answer that is read.
const MAX_JSON_BYTES: u64 = 32 << 20;

/// How long to wait and how often to try again.
#[derive(Debug, Clone)]
pub struct Patience {
    /// A server that sends nothing for this long has hung.
    pub stall: Duration,
    /// Further attempts after the first failure. In a download, an attempt that transferred something starts the count again.
    pub retries: u32,
    /// Wait before the second attempt; doubled for each further one, up to a minute.
    pub delay: Duration,
}

impl Default for Patience {
    /// 30 seconds without a byte, five further attempts, the first after a second.
    fn default() -> Self {
        Patience { stall: Duration::from_secs(30), retries: 5, delay: Duration::from_secs(1) }
    }
}

impl Patience {
    /// The wait after attempt `attempt`, counted from 0. If the server `asked` for a wait, that one, but not less than `delay`.
    pub(super) fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let own = self.delay.saturating_mul(1 << attempt.min(16)).min(MAX_DELAY);
        asked.map_or(own, |asked| asked.max(own.min(self.delay)))
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another attempt may succeed. The server asked to wait for `after`.
    Transient {
        what: String,
        after: Option<Duration>,
        /// The host's name or network is not known. Mostly this machine has no network then, and waiting helps only a download that has begun.
        no_network: bool,
    },
    Fatal(HubError),
}

/// Further attempts where there is no network, before anything was fetched.
const RETRIES_WITHOUT_NETWORK: u32 = 1;

impl Fault {
    pub(super) fn transient(what: impl Into<String>) -> Fault {
        Fault::Transient { what: what.into(), after: None, no_network: false }
    }
}

/// An HTTP answer: status, headers, and the body, which is still to be read.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: BodyReader<'static>,
}

impl Answer {
    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Headers by which Hugging Face describes a file before it redirects to the content.
const LINKED_SIZE: &str = "x-linked-size";
const LINKED_ETAG: &str = "x-linked-etag";
const REPO_COMMIT: &str = "x-repo-commit";

/// What the headers of a hub's answer say of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub commit: Option<String>,
    pub bytes: Option<u64>,
    pub hash: Hash,
}

impl Head {
    /// Reads the headers of an answer. The length of a redirect is not that of the file, so it does not count.
    fn of(answer: &Answer) -> Head {
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let commit = text(REPO_COMMIT).filter(|commit| is_commit(commit)).map(str::to_owned);
        // Hugging Face's ETags are hashes; another server's ETags may be anything.
        let tag = text(LINKED_ETAG).or_else(|| text(header::ETAG.as_str()).filter(|_| commit.is_some()));
        let tag = tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        let length = if answer.status.is_redirection() { None } else { text(header::CONTENT_LENGTH.as_str()) };
        Head {
            commit,
            bytes: text(LINKED_SIZE).or(length).and_then(|bytes| bytes.parse().ok()),
            hash: tag.and_then(Hash::parse).unwrap_or(Hash::Unknown),
        }
    }
}

/// Sends requests. Threads share one client.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    has_roots: bool,
    pub patience: Patience,
}

/// A TLS configuration that trusts the system's certificates, so that a company's own authority and `SSL_CERT_FILE` count; and whether the
/// system has any certificates.
pub fn system_tls() -> (TlsConfig, bool) {
    let roots = rustls_native_certs::load_native_certs().certs;
    let has_roots = !roots.is_empty();
    let roots: Vec<Certificate<'static>> =
        roots.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    (tls, has_roots)
}

impl Client {
    pub(super) fn new(patience: Patience) -> Client {
        let (tls, has_roots) = system_tls();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("trivec/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            // This client follows redirects itself, because the token must not go to other hosts.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(patience.stall.min(Duration::from_secs(20))))
            .timeout_recv_response(Some(patience.stall))
            .timeout_per_read(Some(patience.stall))
            .timeout_per_write(Some(patience.stall))
            .build()
            .new_agent();
        Client { agent, has_roots, patience }
    }

    /// Sends a GET and follows its redirects. A status other than 2xx and 416 is a fault.
    pub(super) fn get(
        &self,
        endpoint: &Endpoint,
        url: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Answer, Fault> {
        let (uri, answer) = self.follow(Method::GET, endpoint, url, headers, &|_| false)?;
        check_status(endpoint, &uri, answer)
    }

    /// Sends a HEAD, follows its redirects, and returns what the first answer that describes the file, else the last one, says of it. A
    /// status other than 2xx and 416, and an HTML page, are faults.
    pub(super) fn head(&self, endpoint: &Endpoint, url: &str) -> Result<Head, Fault> {
        // The hub's own answer, a redirect, describes the file; the storage that it redirects to may say less.
        let tells = |answer: &Answer| answer.headers.contains_key(LINKED_SIZE);
        let (mut uri, mut answer) = self.follow(Method::HEAD, endpoint, url, &[], &tells)?;
        if matches!(answer.status.as_u16(), 405 | 501) {
            // Simple servers know GET alone. The body is not read.
            (uri, answer) = self.follow(Method::GET, endpoint, url, &[], &tells)?;
        }
        if !answer.status.is_redirection() {
            answer = check_status(endpoint, &uri, answer)?;
            refuse_html(&answer, url)?;
        }
        Ok(Head::of(&answer))
    }

    /// Sends a request and follows redirects up to the first answer that is no redirect, or for which `enough` is true. Returns the answer
    /// with its address.
    fn follow(
        &self,
        method: Method,
        endpoint: &Endpoint,
        url: &str,
        headers: &[(header::HeaderName, String)],
        enough: &dyn Fn(&Answer) -> bool,
    ) -> Result<(Uri, Answer), Fault> {
        let home = parse(&endpoint.base)?;
        let mut uri = parse(url)?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&method, endpoint, &home, &uri, headers)?;
            if !answer.status.is_redirection() || enough(&answer) {
                return Ok((uri, answer));
            }
            let next = answer.header(header::LOCATION).and_then(|location| resolve(&uri, location));
            let Some(next) = next else {
                return Err(refuse(format!("{}: a redirect ({}) to nowhere", shown(&uri), answer.status)));
            };
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(refuse(format!("{}: a redirect from https to {}", shown(&uri), shown(&next))));
            }
            uri = next;
        }
        Err(refuse(format!("{url}: more than {MAX_REDIRECTS} redirects")))
    }

    /// Sends one request, without following a redirect. The token goes along only where [`may_have_token`] allows it.
    fn send(
        &self,
        method: &Method,
        endpoint: &Endpoint,
        home: &Uri,
        uri: &Uri,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Answer, Fault> {
        if uri.scheme_str() == Some("https") && !self.has_roots {
            let what = "this system has no certificates of authorities, so no https server can be trusted: install its \
                        `ca-certificates`, or set SSL_CERT_FILE";
            return Err(Fault::Fatal(HubError::new(HubErrorKind::Io, what)));
        }
        let mut request = if *method == Method::HEAD { self.agent.head(uri) } else { self.agent.get(uri) };
        if uri.authority().is_some_and(|authority| is_loopback(authority.as_str())) {
            // A loopback address means this machine, so it must not go through a proxy.
            request = request.config().proxy(None).build();
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = endpoint.token.as_ref().filter(|_| may_have_token(home, uri)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response: Response<Body> = request.call().map_err(|e| transport(uri, &e))?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.into_reader() })
    }

    /// Calls `attempt` until it succeeds, fails permanently, has failed once more than [`Patience::retries`] or than
    /// [`RETRIES_WITHOUT_NETWORK`], or the server asks for a wait longer than [`MAX_RETRY_AFTER`]. Before every wait, `note` gets a sentence that says what failed and how long the wait is.
    pub(super) fn retry<T>(
        &self,
        note: &dyn Fn(&str),
        mut attempt: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            let (what, after) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Transient { what, no_network: true, .. }) if failures >= RETRIES_WITHOUT_NETWORK => {
                    return Err(HubError::new(HubErrorKind::Network, what));
                }
                Err(Fault::Transient { what, after, .. }) => (what, after),
            };
            failures += 1;
            self.pause(&what, failures, after, note)?;
        }
    }

    /// Waits after failure number `failures`, counted from 1. Returns an error, which says `what` failed, if that is more than
    /// [`Patience::retries`] or if the server asks for too long a wait (`after`).
    pub(super) fn pause(
        &self,
        what: &str,
        failures: u32,
        after: Option<Duration>,
        note: &dyn Fn(&str),
    ) -> Result<(), HubError> {
        if failures > self.patience.retries {
            return Err(HubError::new(HubErrorKind::Network, what));
        }
        if let Some(asked) = after.filter(|asked| *asked > MAX_RETRY_AFTER) {
            let what = format!("{what}; the server asks to come again in {} s: try later", asked.as_secs());
            return Err(HubError::new(HubErrorKind::Network, what));
        }
        let wait = self.patience.wait(failures - 1, after);
        note(&without_users(format!("{what}; trying again in {:.1} s", wait.as_secs_f64())));
        std::thread::sleep(wait);
        Ok(())
    }

    /// Gets and parses a JSON answer, trying again as [`Client::retry`] does; returns it with its headers.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        url: &str,
        note: &dyn Fn(&str),
    ) -> Result<(T, HeaderMap), HubError> {
        self.retry(note, || {
            let mut answer = self.get(endpoint, url, &[(header::ACCEPT, "application/json".to_owned())])?;
            refuse_html(&answer, url)?;
            let mut text = Vec::new();
            let read = (&mut answer.body).take(MAX_JSON_BYTES + 1).read_to_end(&mut text);
            read.map_err(|e| Fault::transient(format!("{url}: {e}")))?;
            if text.len() as u64 > MAX_JSON_BYTES {
                return Err(refuse(format!("{url}: the answer is larger than {} MB", MAX_JSON_BYTES >> 20)));
            }
            let value = serde_json::from_slice(&text).map_err(|e| refuse(format!("{url}: not a hub's answer: {e}")))?;
            Ok((value, answer.headers))
        })
    }
}

/// Refuses an HTML page that came instead of a file or JSON: it comes from a captive portal, a proxy or a wrong address.
pub(super) fn refuse_html(answer: &Answer, url: &str) -> Result<(), Fault> {
    let kind = answer.header(header::CONTENT_TYPE).unwrap_or_default();
    if kind.to_ascii_lowercase().starts_with("text/html") {
        return Err(refuse(format!(
            "{url}: an HTML page came instead of what was asked for: is this address a hub, and does a proxy or a log-in page \
             stand before it?"
        )));
    }
    Ok(())
}

/// The fault of a server that does not behave as a hub: another attempt would not help, but another hub may.
pub(super) fn refuse(what: String) -> Fault {
    Fault::Fatal(HubError::new(HubErrorKind::Network, what))
}

/// Returns an answer with the status 2xx, or 416 (the file is shorter than the range that was asked for). Any other status is a fault.
fn check_status(endpoint: &Endpoint, uri: &Uri, answer: Answer) -> Result<Answer, Fault> {
    let url = shown(uri);
    let fatal = |kind, what: String| Err(Fault::Fatal(HubError::new(kind, what)));
    match answer.status.as_u16() {
        200..=299 | 416 => Ok(answer),
        code @ (401 | 403) => {
            let hint = match endpoint.token {
                Some(_) => {
                    "the token (HF_TOKEN) is not allowed to read it, or the model's page asks to accept its terms first"
                }
                None => {
                    "the model is private, gated or does not exist; with a token in HF_TOKEN, whose owner has accepted the \
                     terms on the model's page, it can be fetched"
                }
            };
            fatal(HubErrorKind::Io, format!("{url}: the hub refuses ({code}): {hint}"))
        }
        404 => fatal(
            HubErrorKind::NotFound,
            format!("{url}: not found (404): is the name ORG/REPO, with its revision, spelt right?"),
        ),
        code @ (408 | 425 | 429 | 500..=599) => {
            let after = answer.header(header::RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
            let what =
                if code == 429 { "too many requests (429)".to_owned() } else { format!("the server fails ({code})") };
            let after = after.map(Duration::from_secs);
            Err(Fault::Transient { what: format!("{url}: {what}"), after, no_network: false })
        }
        code => fatal(HubErrorKind::Network, format!("{url}: an answer that was not expected ({code})")),
    }
}

/// The fault for a request that failed without an HTTP answer.
fn transport(uri: &Uri, error: &ureq::Error) -> Fault {
    // The host, without the user and the password that may stand before it.
    let host = uri.authority().map_or("", |authority| authority.as_str()).rsplit('@').next().unwrap_or_default();
    let what = match error {
        ureq::Error::HostNotFound => format!("{host} is not known: is there a network?"),
        ureq::Error::ConnectionFailed => format!("{host} cannot be connected to"),
        ureq::Error::Timeout(_) => format!("{host} sends nothing"),
        ureq::Error::Io(e) => format!("{host} cannot be reached: {e}"),
        error => format!("{host}: {error}"),
    };
    match error {
        // Errors that another attempt will not change.
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            refuse(what)
        }
        ureq::Error::HostNotFound => Fault::Transient { what, after: None, no_network: true },
        ureq::Error::Io(e) => Fault::Transient { what, after: None, no_network: is_no_network(e) },
        _ => Fault::transient(what),
    }
}

/// Whether a name could not be looked up, which the standard library says in words alone, or no route leads to the host.
fn is_no_network(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), HostUnreachable | NetworkDown | NetworkUnreachable)
        || error.to_string().starts_with("failed to lookup address information")
}

/// Parses an address with http or https and a host.
fn parse(url: &str) -> Result<Uri, Fault> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    match uri {
        Some(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(uri),
        _ => Err(Fault::Fatal(HubError::usage(format!("`{url}` is no address of a hub: expected https://HOST")))),
    }
}

/// Resolves the header `Location` of an answer from `from` (RFC 3986, 5.2); `None` if it leads nowhere or away from http and https.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let here = || Some(format!("{}://{}", from.scheme_str()?, from.authority()?));
    let has_scheme = location.split(['/', '?', '#']).next().is_some_and(|start| start.contains(':'));
    let text = if location.starts_with("//") {
        format!("{}:{location}", from.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{}{location}", here()?)
    } else if has_scheme {
        location.to_owned()
    } else if location.is_empty() || location.starts_with('#') {
        return None;
    } else if location.starts_with('?') {
        format!("{}{}{location}", here()?, from.path())
    } else {
        let (path, query) = location.split_at(location.find(['?', '#']).unwrap_or(location.len()));
        let mut parts: Vec<&str> = from.path().split('/').collect();
        parts.pop();
        for part in path.split('/') {
            match part {
                "." => {}
                // `..` at the root stays at the root.
                ".." if parts.len() > 1 => drop(parts.pop()),
                ".." => {}
                part => parts.push(part),
            }
        }
        format!("{}{}{query}", here()?, parts.join("/"))
    };
    text.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// An address without its query, which may hold a signature.
fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    format!("{scheme}://{}{}", uri.authority().map_or("", |authority| authority.as_str()), uri.path())
}

/// Whether a token for `home` may be sent to `uri`: only to the same scheme, host and port, and without TLS only to this machine.
fn may_have_token(home: &Uri, uri: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) });
    let same = home.scheme_str() == uri.scheme_str() && home.host() == uri.host() && port(home) == port(uri);
    let local = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    same && (uri.scheme_str() == Some("https") || local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn the_token_stays_at_home() {
        let home = uri("https://hub.example");
        assert!(may_have_token(&home, &uri("https://hub.example:443/x")));
        for other in
            ["http://hub.example/x", "https://hub.example:444/x", "https://cdn.hub.example/x", "https://other/x"]
        {
            assert!(!may_have_token(&home, &uri(other)), "{other}");
        }
        assert!(!may_have_token(&uri("http://hub.example"), &uri("http://hub.example")));
        assert!(may_have_token(&uri("http://127.0.0.1:1"), &uri("http://127.0.0.1:1/x")));
        assert!(!may_have_token(&uri("http://127.0.0.1:1"), &uri("http://127.0.0.1:2/x")));
    }

    #[test]
    fn redirects_resolve() {
        let from = uri("https://a:8/b/c?d");
        let to = |location: &str| resolve(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("/x?y").as_deref(), Some("https://a:8/x?y"));
        assert_eq!(to("//h/x").as_deref(), Some("https://h/x"));
        assert_eq!(to("http://h/x").as_deref(), Some("http://h/x"));
        assert_eq!((to("file:///etc/passwd"), to("mailto:a"), to("")), (None, None, None));
        assert_eq!(to("x?y").as_deref(), Some("https://a:8/b/x?y"));
        assert_eq!(to("?y:z").as_deref(), Some("https://a:8/b/c?y:z"));
        assert_eq!(to("./../../../x/./y").as_deref(), Some("https://a:8/x/y"));
    }

    #[test]
    fn without_a_network_it_gives_up_soon() {
        let io = |kind: std::io::ErrorKind, text: &str| ureq::Error::Io(std::io::Error::new(kind, text.to_owned()));
        use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, NetworkUnreachable, Other};
        let patience = Patience { stall: Duration::from_secs(1), retries: 4, delay: Duration::ZERO };
        let client = Client::new(patience);
        for (error, attempts) in [
            (ureq::Error::HostNotFound, 2),
            (io(Other, "failed to lookup address information: Temporary failure in name resolution"), 2),
            (io(NetworkUnreachable, "unreachable"), 2),
            (io(ConnectionRefused, "refused"), 5),
            (io(ConnectionReset, "reset"), 5),
            (ureq::Error::ConnectionFailed, 5),
            (ureq::Error::InvalidProxyUrl, 1),
        ] {
            let (made, noted) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
            let failed = client.retry::<()>(&|_| noted.set(noted.get() + 1), || {
                made.set(made.get() + 1);
                Err(transport(&uri("https://hub.example/x"), &error))
            });
            let failed = failed.unwrap_err();
            assert!(failed.kind == HubErrorKind::Network && failed.message.contains("hub.example"), "{failed:?}");
            assert_eq!((made.get(), noted.get()), (attempts, attempts - 1), "{error:?}");
        }
        // What was once there may come back.
        let made = std::cell::Cell::new(0);
        let found = client.retry(&|_| {}, || {
            made.set(made.get() + 1);
            match made.get() {
                1 => Err(Fault::Transient { what: "gone".to_owned(), after: None, no_network: true }),
                2 => Ok(7),
                _ => unreachable!("it has succeeded"),
            }
        });
        assert_eq!(found.unwrap(), 7);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_follow_the_server() {
        let patience = Patience { stall: Duration::from_secs(1), retries: 9, delay: Duration::from_secs(1) };
        assert_eq!(patience.wait(0, None).as_secs(), 1);
        assert_eq!(patience.wait(3, None).as_secs(), 8);
        assert_eq!(patience.wait(40, None), MAX_DELAY);
        assert_eq!(patience.wait(5, Some(Duration::from_secs(7))).as_secs(), 7);
    }
}
