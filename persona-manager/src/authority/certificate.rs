//! What a client certificate says, once TLS has verified it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persona_core::hex;
use persona_core::wire::agent::Role;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::store::AgentId;

/// The beginning of the URI that names a node or an edge: `persona:node/n1`.
const URI_SCHEME: &str = "persona:";

/// The URI of the client certificates that managers make for themselves.
pub(super) const MANAGER_URI: &str = "persona:manager";

/// A client certificate of a node or an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AgentCertificate {
    /// Whose it is.
    pub id: AgentId,
    /// The public key's bytes in standard Base64.
    pub public_key: String,
    /// When it ends: a connection may live longer.
    pub expires_ms: u64,
    /// The key identifier of the root that signed it, in hex.
    #[serde(default)]
    pub issuer: Option<String>,
}

impl AgentCertificate {
    /// Reads a certificate in DER. None: it names no node and no edge.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let id = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => id_of(uri),
            _ => None,
        })?;
        let public_key = STANDARD.encode(&certificate.public_key().subject_public_key.data);
        let expires_ms = u64::try_from(certificate.validity().not_after.timestamp()).ok()? * 1_000;
        Some(Self { id, public_key, expires_ms, issuer: issuer_of(der) })
    }
}

/// The identifier of the key that signed a certificate, in hex (RFC 5280 §4.2.1.1).
pub(crate) fn issuer_of(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(issuer) => Some(hex::encode(issuer.key_identifier.as_ref()?.0)),
        _ => None,
    })
}

/// The identifier of a certificate's own key, in hex, by which certificates under it name it (RFC 5280 §4.2.1.2).
pub(super) fn subject_key_id(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(hex::encode(id.0)),
        _ => None,
    })
}

/// When a certificate in PEM ends, milliseconds since 1970; 0 for what is no certificate.
pub(crate) fn ends_ms(pem: &str) -> u64 {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap_or_else(|_| Vec::new().into());
    let read = x509_parser::parse_x509_certificate(&der);
    let ends = read.map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp());
    u64::try_from(ends).unwrap_or(0) * 1_000
}

/// Whether a certificate in DER is a manager's own, for requests to other managers.
pub(crate) fn is_manager(der: &[u8]) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    matches!(names.value.general_names.as_slice(), [GeneralName::URI(uri)] if *uri == MANAGER_URI)
}

/// The URI that names a node or an edge.
pub(super) fn uri_of(id: &AgentId) -> String {
    format!("{URI_SCHEME}{id}")
}

fn id_of(uri: &str) -> Option<AgentId> {
    match uri.strip_prefix(URI_SCHEME)?.split_once('/')? {
        ("node", name) => Some(AgentId { role: Role::Node, name: name.to_owned() }),
        ("edge", name) => Some(AgentId { role: Role::Edge, name: name.to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_its_agent() {
        let id = AgentId::edge("fra.1");
        assert_eq!(id_of(&uri_of(&id)), Some(id));
        for bad in [MANAGER_URI, "persona:manager/", "persona:person/x", "persona:node", "spiffe://x/node/n1", ""] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(AgentCertificate::read(b"\x30\x03\x02\x01\x01"), None);
        assert!(!is_manager(b"\x30\x03\x02\x01\x01"));
    }

    #[test]
    fn only_the_one_that_a_manager_makes_for_itself_is_a_managers() {
        let made = |uri: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
        };
        let (manager, node) = (made(MANAGER_URI), made(&uri_of(&AgentId::edge("manager"))));
        assert!(is_manager(&manager) && AgentCertificate::read(&manager).is_none());
        assert!(!is_manager(&node) && AgentCertificate::read(&node).is_some());
    }
}
