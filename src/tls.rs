//! TLS toward the broker: whom to trust, and who we are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// Files and names; what they hold is read by [`TlsSettings::load`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates that are trusted, PEM; without it those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Protocols that are offered, best first; brokers behind port 443 need one.
    pub alpn: Vec<String>,
}

/// Ready for any number of connections.
#[derive(Clone)]
pub struct Tls(pub Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[tls]")
    }
}

/// Which file is of no use, and why.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {why}")]
    File { path: PathBuf, why: String },
    #[error("{0}")]
    Setup(String),
}

impl TlsSettings {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or certificate and key do not belong together.
    pub fn load(&self) -> Result<Tls, TlsError> {
        let setup = |e: rustls::Error| TlsError::Setup(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(setup)?;
        let builder = match &self.ca_file {
            None => builder.with_platform_verifier().map_err(setup)?,
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| file(path, e.to_string()))?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e.to_string()))?;
                let chain_der = certificates(chain)?;
                builder.with_client_auth_cert(chain_der, private).map_err(|e| file(chain, e.to_string()))?
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Tls(Arc::new(config)))
    }
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| file(path, e.to_string()))?;
    let all: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| file(path, e.to_string()))?;
    if all.is_empty() { Err(file(path, "holds no certificate".to_owned())) } else { Ok(all) }
}

fn file(path: &Path, why: String) -> TlsError {
    TlsError::File { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_of_no_use_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let ca = TlsSettings { ca_file: Some(path.clone()), ..TlsSettings::default() };
        assert!(ca.load().unwrap_err().to_string().contains("ca.pem"));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(ca.load().unwrap_err().to_string().contains("holds no certificate"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(ca.load().unwrap_err().to_string().contains("ca.pem"));
    }

    #[test]
    fn without_files_the_system_is_trusted() {
        let settings = TlsSettings { alpn: vec!["mqtt".to_owned()], ..TlsSettings::default() };
        // A machine without any certificate says so at the start, not at the first connection.
        if let Ok(Tls(config)) = settings.load() {
            assert_eq!(config.alpn_protocols, [b"mqtt".to_vec()]);
        }
    }
}
