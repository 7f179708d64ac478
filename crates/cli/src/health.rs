//! `trivec serve --healthcheck`: asks a running service whether it is ready, so that an image without a shell can check itself.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::exit::{Failure, Result};
use trivec_serve::Options;

/// How long connecting, writing and each read may take; a slower service counts as not ready. Over a Unix socket, only reads have this limit.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Fails unless the service that runs with these options says that it is ready.
pub(super) fn check(options: &Options) -> Result<()> {
    let (name, answer) = match &options.unix_socket {
        #[cfg(unix)]
        Some(path) => (path.display().to_string(), ask_unix(path)),
        #[cfg(not(unix))]
        Some(path) => (path.display().to_string(), Err(std::io::ErrorKind::Unsupported.into())),
        None => {
            let address = reachable(options.address);
            (address.to_string(), ask_tcp(address, options.tls.as_ref().map(|(certificate, _)| certificate.as_path())))
        }
    };
    let answer = answer.map_err(|e| Failure::io(&name, &e))?;
    let head = answer.lines().next().unwrap_or_default();
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(Failure::io_text(&format!("{name}: not ready: {head}"))),
    }
}

/// The address at which a service that listens on `address` can be reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Sends `GET /ready` and returns the first bytes of the answer.
fn ask(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    // Only the status line is needed, whose code is within the first 64 bytes.
    let mut answer = [0; 64];
    let mut have = 0;
    while have < answer.len() {
        match stream.read(&mut answer[have..])? {
            0 => break,
            more => have += more,
        }
    }
    Ok(String::from_utf8_lossy(&answer[..have]).into_owned())
}

#[cfg(unix)]
fn ask_unix(path: &Path) -> std::io::Result<String> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    ask(stream)
}

/// Asks over TCP, with TLS if the service has a certificate.
fn ask_tcp(address: SocketAddr, certificate: Option<&Path>) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Some(certificate) = certificate else { return ask(stream) };
    let own = CertificateDer::from_pem_file(certificate).map_err(std::io::Error::other)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Own { certificate: own, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(std::io::Error::other)?;
    let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    ask(StreamOwned::new(connection, stream))
}

/// Accepts the certificate of `--tls-cert`, which the service shows, and no other. Its names are not compared, because they need not include
/// the loopback address that is asked.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.certificate.as_ref() {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("the service shows another certificate than --tls-cert has".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
