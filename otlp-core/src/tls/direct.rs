//! Certificates that are trusted themselves.
//!
//! Who makes a certificate for one server signs it by itself, and the tools that do so make it one of an authority
//! (`openssl req -x509`). It is both what the server shows and what its clients are given as an authority; others take it,
//! and webpki does not: an authority's certificate is nobody's own (CaUsedAsEndEntity). Here it is taken where it is,
//! byte for byte, among the authorities that were configured. Nobody gains by that: who has its key could have signed any
//! certificate. Its time is looked at before that error, its name is looked at here, and the handshake proves the key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Takes a server by its authority, or by its own certificate.
#[derive(Debug)]
pub struct DirectServer {
    /// By its authority.
    pub inner: Arc<WebPkiServerVerifier>,
    /// The authorities that were configured.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Takes a client by its authority, or by its own certificate.
#[derive(Debug)]
pub struct DirectClient {
    /// By its authority.
    pub inner: Arc<dyn ClientCertVerifier>,
    /// The authorities that were configured.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Whether a certificate that was refused for that is one of `authorities`.
fn is_direct(error: &Error, shown: &CertificateDer<'_>, authorities: &[CertificateDer<'static>]) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(cause)) = error else { return false };
    cause.0.to_string() == "CaUsedAsEndEntity" && authorities.iter().any(|authority| authority == shown)
}

impl ServerCertVerifier for DirectServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_direct(&error, end_entity, &self.authorities) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for DirectClient {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if is_direct(&error, end_entity, &self.authorities) => Ok(ClientCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
