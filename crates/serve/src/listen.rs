//! Listens on TCP, TLS or a Unix socket, with timeouts and a limit of connections; at the end it waits for running requests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::app::App;
use super::options::Timeouts;

/// The largest head of a request, in bytes. hyper itself allows 100 headers, and answers 431 to more.
const HEAD_BYTES: usize = 64 << 10;

/// The shortest time between two log lines about connections that cannot be accepted.
const WARN_EVERY: Duration = Duration::from_secs(5);

/// A bound socket: TCP, with TLS if there is an acceptor, or a Unix socket and its path.
pub(super) enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Listener::Unix(_, path) = self {
            // The socket's file would outlive the listener, and nobody could bind the path again.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connection that was accepted, before TLS.
enum Accepted {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // Answers are written in whole chunks, so Nagle's algorithm would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream))
            }
            #[cfg(unix)]
            Listener::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// What all connections share.
struct Connections {
    app: Arc<App>,
    service: TowerToHyperService<Router>,
    timeouts: Timeouts,
    graceful: GracefulShutdown,
}

/// Accepts connections until `ending` is true; then waits for running requests, at most `timeouts.drain`. Returns whether all were finished.
pub(super) async fn serve(
    listener: Listener,
    app: Arc<App>,
    router: Router,
    timeouts: Timeouts,
    connections: usize,
    mut ending: watch::Receiver<bool>,
) -> bool {
    let places = Arc::new(Semaphore::new(connections));
    let all = Connections {
        app: Arc::clone(&app),
        service: TowerToHyperService::new(router),
        timeouts,
        graceful: GracefulShutdown::new(),
    };
    let mut warned = None;
    loop {
        // A permit is taken first, so that connections beyond the limit wait in the system's queue.
        let accepted = tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok(stream)) => all.spawn(stream, &listener, place),
            (_, Err(e)) => {
                // The process has no descriptors left, or the connection was gone at once: a little later the next may succeed. Without
                // descriptors there would be fifty warnings a second, so they are logged only now and then.
                if warned.is_none_or(|last: Instant| last.elapsed() > WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(error = %e, "accept");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    app.ending.store(true, Ordering::Relaxed);
    let finished = tokio::time::timeout(timeouts.drain, all.graceful.shutdown()).await.is_ok();
    app.scheduler.end();
    finished
}

impl Connections {
    /// Serves a connection in a task of its own, after the TLS handshake if there is one.
    fn spawn(&self, accepted: Accepted, listener: &Listener, place: OwnedSemaphorePermit) {
        match (accepted, listener) {
            (Accepted::Tcp(stream), Listener::Tcp(_, Some(tls))) => {
                let (tls, head) = (tls.clone(), self.timeouts.head);
                let handshake = async move { tokio::time::timeout(head, tls.accept(stream)).await.ok()?.ok() };
                self.run(handshake, place);
            }
            (Accepted::Tcp(stream), _) => self.run(async { Some(stream) }, place),
            #[cfg(unix)]
            (Accepted::Unix(stream), _) => self.run(async { Some(stream) }, place),
        }
    }

    /// Serves the connection that `stream` gives, if it gives one, in a task of its own; `place` is its place among the allowed connections.
    fn run<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: impl Future<Output = Option<S>> + Send + 'static,
        place: OwnedSemaphorePermit,
    ) {
        let (service, timeouts, app) = (self.service.clone(), self.timeouts, Arc::clone(&self.app));
        let watcher = self.graceful.watcher();
        tokio::spawn(async move {
            let Some(stream) = stream.await else { return };
            app.metrics.connections.inc();
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(timeouts.idle));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(timeouts.head)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(Box::pin(stream)), service);
            // A client that disconnects is not worth a log line.
            if let Err(e) = watcher.watch(connection).await {
                tracing::debug!(error = %e, "connection");
            }
            app.metrics.connections.dec();
            drop(place);
        });
    }
}

/// An acceptor of TLS connections with the certificate and the key of these PEM files.
pub(super) fn tls(cert: &std::path::Path, key: &std::path::Path) -> Result<TlsAcceptor, String> {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let failed = |path: &std::path::Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let certs = CertificateDer::pem_file_iter(cert)
        .and_then(|certs| certs.collect::<Result<Vec<_>, _>>())
        .map_err(|e| failed(cert, &e))?;
    if certs.is_empty() {
        return Err(failed(cert, &"no certificate in it"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| failed(key, &e))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key_der);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(|e| failed(key, &e))?)))
}
