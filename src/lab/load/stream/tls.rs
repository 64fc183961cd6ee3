//! TLS over a non-blocking socket.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use super::LoadSocket;
use crate::lab::load::plan::Trust;
use crate::lab::load::target::Target;

/// The TLS configuration that all connections of a thread share.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

#[derive(Debug)]
pub(crate) struct Secured {
    socket: LoadSocket,
    session: ClientConnection,
}

/// Paths of the system's trusted certificates.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Connector {
    /// Sessions are not resumed, so every handshake is a full handshake.
    ///
    /// # Errors
    /// The certificates cannot be read, or the host name is not valid in a certificate.
    pub(crate) fn new(target: &Target, trust: &Trust) -> io::Result<Connector> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = match trust {
            Trust::Anything => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
                .with_no_client_auth(),
            Trust::System => {
                let there = SYSTEM.iter().find(|path| fs::exists(path).unwrap_or(false));
                let path = there.ok_or_else(|| {
                    io::Error::other(
                        "this system's certificates are not found: give --cacert or --insecure",
                    )
                })?;
                builder
                    .with_root_certificates(roots(path.as_ref())?)
                    .with_no_client_auth()
            }
            Trust::File(path) => builder
                .with_root_certificates(roots(path)?)
                .with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(target.host().to_owned()).map_err(io::Error::other)?;
        Ok(Connector {
            config: Arc::new(config),
            name,
        })
    }

    pub(crate) fn secure(&self, socket: LoadSocket) -> io::Result<Secured> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(Secured {
            socket,
            session: session.map_err(io::Error::other)?,
        })
    }
}

fn roots(path: &std::path::Path) -> io::Result<RootCertStore> {
    let named =
        |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| named(&error))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let (added, _) = roots.add_parsable_certificates(certificates.map_err(|error| named(&error))?);
    match added {
        0 => Err(named(&"no certificate in it, in PEM")),
        _ => Ok(roots),
    }
}

/// Says what to do about a certificate that is not trusted.
fn advice(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return error.to_string();
    };
    match why {
        CertificateError::UnknownIssuer => {
            String::from("unknown issuer: use --cacert FILE or --insecure")
        }
        // The type is of a crate below rustls.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            String::from(
                "the certificate is a CA certificate: make it with -addext basicConstraints=critical,CA:FALSE, or use --insecure",
            )
        }
        _ => error.to_string(),
    }
}

impl Secured {
    /// Advances the TLS handshake. Returns whether it is complete.
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        while self.session.is_handshaking() {
            let wrote = self.flush_tls()?;
            match self.session.is_handshaking() && !self.read_tls()? {
                true if !wrote || !self.session.wants_write() => return Ok(false),
                _ => {}
            }
        }
        self.flush_tls()?;
        Ok(true)
    }

    /// Whether the session has bytes to write.
    pub(crate) fn is_blocked(&self) -> bool {
        self.session.wants_write()
    }

    /// Writes the session's bytes to the socket. Returns whether all were written.
    fn flush_tls(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads from the socket into the session. Returns whether bytes were available.
    fn read_tls(&mut self) -> io::Result<bool> {
        match self.session.read_tls(&mut self.socket) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                let processed = self.session.process_new_packets();
                processed
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, advice(&error)))?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn socket(&self) -> &LoadSocket {
        &self.socket
    }
}

impl Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if !self.read_tls()? {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
    }
}

impl Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush_tls()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = self.session.writer().write(bytes)?;
        self.flush_tls()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_tls().map(drop)
    }
}

/// Accepts any certificate, but checks the signatures of the handshake.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
