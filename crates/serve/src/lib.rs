//! The HTTP service: trivec's own routes, OpenAI's and text-embeddings-inference's, and the page.
//!
//! ```text
//! listen.rs ─▶ routes/ ─▶ app.rs ─▶ scheduler.rs ─▶ one engine thread (with the model's own team)
//!  sockets      JSON       tokens    queue, batches
//!                 ╰─▶ guard.rs: whose requests are answered; header_fields.rs
//!                            ╰─▶ kept.rs: the cache of embeddings, asked first
//! ```

mod answer;
mod app;
mod assets;
mod body;
mod error;
mod fields;
mod guard;
mod header_fields;
mod inputs;
mod kept;
mod listen;
pub mod memory;
mod metrics;
mod names;
mod options;
mod routes;
mod scheduler;
#[cfg(feature = "search")]
mod search;
mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::app::Reload;
pub use self::guard::{AllowedHosts, AllowedOrigins};
pub use self::options::{Limits, Timeouts};
#[cfg(feature = "search")]
pub use self::search::{IndexPlace, Indexes};
pub use self::work::{Answered, Observer, Work};

use self::app::App;
use self::guard::Guard;
use self::kept::Kept;
use self::listen::Listener;
use self::names::Names;
use trivec::Model;

/// Where and how to serve.
pub struct Options {
    /// Address to listen on; ignored if there is a Unix socket.
    pub address: SocketAddr,
    /// Path of a Unix socket to listen on instead.
    pub unix_socket: Option<PathBuf>,
    /// Certificate and key (PEM): then the service speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// API keys, one of which every request must have; if there are none, requests need no key.
    pub api_keys: Vec<String>,
    /// Host names that requests may use, besides those of the loopback.
    pub allowed_hosts: AllowedHosts,
    /// Origins of other sites whose pages may use the service and read its answers.
    pub cors_origins: AllowedOrigins,
    /// Names of the model; answers have the first. If there are none, the service derives a name from the model's path.
    pub model_names: Vec<String>,
    /// Whether a request that names another model is refused.
    pub strict_model: bool,
    /// How large requests may be.
    pub limits: Limits,
    /// Timeouts of connections.
    pub timeouts: Timeouts,
    /// The most connections at a time; further ones wait.
    pub connections: usize,
    /// File of the cache of embeddings, and the most bytes it may have.
    pub cache: Option<(PathBuf, u64)>,
    /// The indexes that are searched, opened with the model that is served.
    #[cfg(feature = "search")]
    pub search: Indexes,
    /// Loads the model again, for [`Signal::Reload`] and `POST /admin/reload`.
    pub reload: Option<Reload>,
    /// Whether the log holds the texts of requests.
    pub log_texts: bool,
    /// The service calls it once for every request: see [`Observer`].
    pub observer: Option<Arc<dyn Observer>>,
}

/// Signals that the service obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Finish running requests and end.
    End,
    /// Load the model again.
    Reload,
}

/// A service whose address is bound; it answers once [`Server::run`] is called.
pub struct Server {
    app: Arc<App>,
    listener: Listener,
    router: axum::Router,
    timeouts: Timeouts,
    connections: usize,
    address: String,
}

/// The runtime of a service. It has two threads, because all longer work runs on the engine's threads or on blocking threads.
///
/// # Errors
/// What the operating system says.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(8).enable_all().build()
}

impl Server {
    /// Binds the address or the socket, and begins to open the cache.
    ///
    /// # Errors
    /// A sentence that names the address, the socket or the file.
    pub async fn bind(model: Model, options: Options) -> Result<Server, String> {
        let ip = options.unix_socket.is_none().then(|| options.address.ip());
        let guard = Guard::new(ip, !options.api_keys.is_empty(), options.allowed_hosts, options.cors_origins);
        let tls = options.tls.as_ref().map(|(cert, key)| listen::tls(cert, key)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (listener, address) = match options.unix_socket {
            #[cfg(unix)]
            Some(path) => {
                let listener = bind_unix(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                let address = format!("unix:{}", path.display());
                (Listener::Unix(listener, path), address)
            }
            #[cfg(not(unix))]
            Some(path) => return Err(format!("{}: this system has no Unix sockets", path.display())),
            None => {
                let failed = |e: std::io::Error| format!("{}: {e}", options.address);
                let listener = TcpListener::bind(options.address).await.map_err(failed)?;
                let address = format!("{scheme}://{}", listener.local_addr().map_err(failed)?);
                (Listener::Tcp(listener, tls), address)
            }
        };
        let kept = options.cache.map(|(path, size)| Kept::new(path, size));
        let names = Names::new(options.model_names, options.strict_model, &model);
        let mut app = App::new(model, names, options.reload, options.limits, options.api_keys, kept)
            .map_err(|e| e.to_string())?;
        app.log_texts = options.log_texts;
        #[cfg(feature = "search")]
        {
            app.search = options.search;
        }
        app.observer = options.observer;
        app.body_idle = options.timeouts.idle;
        let app = Arc::new(app);
        app.open_cache().map_err(|e| e.to_string())?;
        let router = routes::router(Arc::clone(&app), Arc::new(guard));
        let Options { timeouts, connections, .. } = options;
        Ok(Server { app, listener, router, timeouts, connections, address })
    }

    /// The address, such as `http://127.0.0.1:8737`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Answers requests until `signals` says [`Signal::End`] or is closed. Returns whether all running requests were finished in time.
    pub async fn run(self, mut signals: tokio::sync::mpsc::Receiver<Signal>) -> bool {
        let (end, ending) = watch::channel(false);
        let app = Arc::clone(&self.app);
        let budget = Arc::clone(&app.budget);
        let giving_back = tokio::spawn(async move { budget.give_back_after_peaks().await });
        let listening =
            listen::serve(self.listener, Arc::clone(&app), self.router, self.timeouts, self.connections, ending);
        let told = async move {
            while let Some(Signal::Reload) = signals.recv().await {
                let own = Arc::clone(&app);
                match tokio::task::spawn_blocking(move || own.reload()).await {
                    Ok(Ok(())) => tracing::info!("model loaded again"),
                    Ok(Err(error)) => tracing::error!(error, "the model could not be loaded again; the old one stays"),
                    Err(_) => tracing::error!("loading the model again failed"),
                }
            }
            // This fails only if the service does not listen any more.
            let _ = end.send(true);
            // The sender lives on, because dropping it would look like a closed channel to the receiver.
            std::future::pending::<()>().await;
            drop(end);
        };
        let finished = tokio::select! {
            finished = listening => finished,
            () = told => false,
        };
        giving_back.abort();
        let app = self.app;
        let end = move || {
            if finished {
                app.scheduler.join();
            }
            if let Some(kept) = &app.kept {
                kept.close();
            }
        };
        let _ = tokio::task::spawn_blocking(end).await;
        finished
    }
}

/// Binds a Unix socket. A socket file at `path` that nobody listens on is replaced.
#[cfg(unix)]
fn bind_unix(path: &std::path::Path) -> std::io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    tokio::net::UnixListener::bind(path)
}

/// The settings of `trivec serve` without options: `127.0.0.1:8737`, plain HTTP, no keys, no cache, no index.
impl Default for Options {
    fn default() -> Self {
        Options {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8737)),
            unix_socket: None,
            tls: None,
            api_keys: Vec::new(),
            allowed_hosts: AllowedHosts::default(),
            cors_origins: AllowedOrigins::default(),
            model_names: Vec::new(),
            strict_model: false,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            connections: 1024,
            cache: None,
            #[cfg(feature = "search")]
            search: Indexes::default(),
            reload: None,
            log_texts: false,
            observer: None,
        }
    }
}
