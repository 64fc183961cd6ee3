//! Certificates, with rustls.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

pub(crate) use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::lock;

/// A server's certificate and private key. [`Certificate::reload`] replaces them while the server
/// runs. Clones share the current certificate and key.
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
    /// Self-signed by this program.
    Memory,
}

/// The certificate and the key for new handshakes.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&lock::read(&self.0))
    }
}

impl Certificate {
    /// Reads a certificate chain, with the server's own certificate first, and its private key from
    /// PEM files.
    ///
    /// # Errors
    /// If a file cannot be read or does not contain a certificate or a supported key, or the key
    /// does not match the certificate.
    pub fn read(certificate: &Path, key: &Path) -> io::Result<Certificate> {
        let source = Source::Files {
            certificate: certificate.into(),
            key: key.into(),
        };
        Ok(Certificate::new(read(certificate, key)?, source))
    }

    /// Makes a self-signed certificate for these host names and addresses.
    ///
    /// # Errors
    /// If a name is not a valid host name or address.
    pub fn self_signed(names: Vec<String>) -> io::Result<Certificate> {
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.map_err(io::Error::other)?;
        let certified = certify(vec![made.cert.der().clone()], key)?;
        Ok(Certificate::new(certified, Source::Memory))
    }

    fn new(certified: CertifiedKey, source: Source) -> Certificate {
        Certificate {
            current: Arc::new(Current(RwLock::new(Arc::new(certified)))),
            source,
        }
    }

    /// Reads the files again, for new handshakes. Existing connections continue.
    ///
    /// # Errors
    /// The errors of [`Certificate::read`], or `Unsupported` if the certificate is self-signed by
    /// this program. After an error, the old certificate stays in use.
    pub fn reload(&self) -> io::Result<()> {
        let Source::Files { certificate, key } = &self.source else {
            let what = "it was generated at start, not read from a file";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        };
        let certified = Arc::new(read(certificate, key)?);
        *lock::write(&self.current.0) = certified;
        Ok(())
    }

    /// The SHA-256 of the server's own certificate, as pairs of hexadecimal digits with colons
    /// between them.
    pub fn fingerprint(&self) -> String {
        let certified = self.current.get();
        let own = certified.cert.first().map_or(&[][..], |own| own.as_ref());
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, own);
        let pairs: Vec<_> = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        pairs.join(":")
    }

    /// Returns the rustls configuration, with TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// If the crypto provider does not support these versions.
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
    let chain_pem = pem(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| about(certificate, &error))?;
    if chain.is_empty() {
        return Err(about(certificate, &"no certificate in it, in PEM"));
    }
    let key_pem = pem(key)?;
    if is_encrypted(&key_pem) {
        let what = "the key has a passphrase, and the server cannot ask for it; write the key \
                    without one: openssl pkey -in FILE -out FILE";
        return Err(about(key, &what));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| about(key, &error))?;
    let loaded = provider()
        .key_provider
        .load_private_key(key_der.clone_key());
    if let (Err(_), Some(what)) = (loaded, unsupported(&key_der)) {
        return Err(about(key, &what));
    }
    certify(chain, key_der).map_err(|error| about(key, &error))
}

fn about(path: &Path, error: &dyn Display) -> io::Error {
    let what = format!("{}: {error}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Returns the bytes of a PEM file.
///
/// # Errors
/// If the file cannot be read, or is UTF-16, DER, or UTF-8 with a byte order mark.
fn pem(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let what = match bytes.as_slice() {
        // With a BOM, a PEM parser would ignore the first block without an error.
        [0xEF, 0xBB, 0xBF, ..] => {
            "the file begins with a byte order mark (BOM); save it as UTF-8 without BOM"
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
            "the file is UTF-16, by its byte order mark (BOM); save it as UTF-8 without BOM"
        }
        // The DER header of a sequence of more than 255 bytes.
        [0x30, 0x82, ..] => {
            "the file is DER; write it as PEM: openssl x509 -inform der, or openssl pkey -inform der"
        }
        _ => return Ok(bytes),
    };
    Err(about(path, &what))
}

/// Whether a key is encrypted, in PKCS #8 or in the older format of OpenSSL.
fn is_encrypted(pem: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    marks.iter().any(|mark| contains(pem, mark))
}

/// Returns why a key cannot be loaded, if the kind of the key is the reason.
fn unsupported(key: &PrivateKeyDer<'_>) -> Option<String> {
    /// Object identifiers in DER, and the names of their curves.
    const CURVES: [(&[u8], &str); 5] = [
        (b"\x06\x05\x2B\x81\x04\x00\x23", "P-521"),
        (b"\x06\x05\x2B\x81\x04\x00\x21", "P-224"),
        (b"\x06\x05\x2B\x81\x04\x00\x0A", "secp256k1"),
        (b"\x06\x09\x2B\x24\x03\x03\x02\x08\x01\x01", "Brainpool"),
        (b"\x06\x03\x2B\x65\x71", "Ed448"),
    ];
    const RSA: &[u8] = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01";
    let der = key.secret_der();
    if let Some((_, curve)) = CURVES.iter().find(|(id, _)| contains(der, id)) {
        return Some(format!(
            "the key is on the curve {curve}, which is not supported; use P-256, P-384, Ed25519 or RSA"
        ));
    }
    let is_rsa = matches!(key, PrivateKeyDer::Pkcs1(_)) || contains(der, RSA);
    is_rsa.then(|| String::from("an RSA key must have 2048 to 4096 bits"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Combines a chain and its key.
///
/// # Errors
/// If the key does not match the certificate, or is not supported.
fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> io::Result<CertifiedKey> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(io::Error::other)
}
