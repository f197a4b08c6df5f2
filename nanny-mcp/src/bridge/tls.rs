//! TLS for `https://` addresses. Certificates are judged by what the system trusts.

use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::crypto::ring;
use rustls::{ClientConfig, Error, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Sets a client up for it. Where it is not `needed`, a machine without certificates must do.
pub(super) fn set_up(client: ClientBuilder, needed: bool) -> Result<ClientBuilder, Error> {
    // A provider of its own: left to itself, reqwest takes the process's, and panics without one.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let config = if needed {
        config.with_platform_verifier()?
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    Ok(client.tls_backend_preconfigured(config.with_no_client_auth()))
}
