//! The flags of TLS.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::server::ListenAddress;
use crate::tls::Certificate;

#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsArguments {
    /// Certificate chain (PEM), for wss:// and https://
    ///
    /// Certificate chain in PEM, the server's own first: TCP addresses then speak wss:// and https://
    /// (TLS 1.2 and 1.3). SIGHUP reads it again and drops no connection
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Speak TLS with a certificate that is made at start. Its fingerprint is printed; clients must
    /// be told to trust it
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_self_signed: bool,
}

impl TlsArguments {
    /// The certificate for a server at these addresses, if one is configured.
    pub(super) fn certificate(
        &self,
        addresses: &[ListenAddress],
    ) -> io::Result<Option<Certificate>> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Certificate::read(certificate, key).map(Some),
            _ if self.tls_self_signed => {
                let mut names = vec![String::from("localhost")];
                names.extend(addresses.iter().filter_map(|address| match address {
                    ListenAddress::Tcp(address) => Some(address.ip().to_string()),
                    ListenAddress::Unix(_) => None,
                }));
                names.extend(["127.0.0.1", "::1"].map(String::from));
                names.dedup();
                Certificate::self_signed(names).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The fingerprint of a self-signed certificate, which users must tell their clients to trust.
    /// `None` for other certificates.
    pub(super) fn fingerprint(&self, certificate: Option<&Certificate>) -> Option<String> {
        let certificate = certificate.filter(|_| self.tls_self_signed)?;
        Some(certificate.fingerprint())
    }
}
