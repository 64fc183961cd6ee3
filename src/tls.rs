//! Certificates for `wss://` and `https://`, by rustls.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto::CryptoProvider};

/// A server's certificate and private key, which can be renewed while it serves. Clones are the
/// same.
#[derive(Clone, Debug)]
pub struct Certificate {
    current: Arc<Current>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// Made by ourselves.
    Memory,
}

/// What the next handshake is answered with.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Certificate {
    /// Reads a certificate chain, the server's own first, and its private key from PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, holds nothing of its kind, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> io::Result<Certificate> {
        let certified = read(certificate, key)?;
        Ok(Certificate {
            current: Arc::new(Current(RwLock::new(Arc::new(certified)))),
            source: Source::Files {
                certificate: certificate.into(),
                key: key.into(),
            },
        })
    }

    /// Makes a certificate that nobody vouches for, for these host names and addresses.
    ///
    /// # Errors
    /// When a name is none.
    pub fn self_signed(names: Vec<String>) -> io::Result<Certificate> {
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.map_err(io::Error::other)?;
        let certified = certify(vec![made.cert.der().clone()], key)?;
        Ok(Certificate {
            current: Arc::new(Current(RwLock::new(Arc::new(certified)))),
            source: Source::Memory,
        })
    }

    /// Reads the files again. New handshakes get what they hold now; connections stay.
    ///
    /// # Errors
    /// As of [`Certificate::read`], or that there are no files; what was there before stays in use.
    pub fn reload(&self) -> io::Result<()> {
        let Source::Files { certificate, key } = &self.source else {
            let what = "it was made at start, and there is no file to read";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        };
        let certified = Arc::new(read(certificate, key)?);
        let current = &self.current.0;
        *current.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }

    /// The SHA-256 of the server's own certificate, in pairs of hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let certified = self.current.get();
        let own = certified.cert.first().map_or(&[][..], |own| own.as_ref());
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, own);
        let mut text = String::new();
        for (index, octet) in digest.as_ref().iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            // Writing to a String does not fail.
            let _ = write!(text, "{colon}{octet:02X}");
        }
        text
    }

    /// What rustls answers handshakes by: TLS 1.2 and 1.3.
    pub(crate) fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let resolver = Arc::clone(&self.current);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(certificate: &Path, key: &Path) -> io::Result<CertifiedKey> {
    let about = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| about(certificate, &error))?;
    if chain.is_empty() {
        return Err(about(certificate, &"no certificate in it, in PEM"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| about(key, &error))?;
    certify(chain, key_der).map_err(|error| about(key, &error))
}

/// A chain and its key, which belong together.
fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> io::Result<CertifiedKey> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(io::Error::other)
}
