//! Certificates for nodes, edges and managers. Only the key of a request is taken; what the certificate says is ours.

use std::net::IpAddr;

use persona_core::wire::credential::MANAGER_NAME;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::certificate::{MANAGER_URI, uri_of};
use super::root::{BACKDATE_MS, Root};
use super::signing_request::SigningRequest;
use super::{Authority, AuthorityError};
use crate::store::{AgentId, Snapshot};

/// How long a manager's own certificate is good for: 30 days, milliseconds. It is renewed after half of it.
pub(crate) const MANAGER_LIFETIME_MS: u64 = 30 * 24 * 3_600_000;

/// A certificate that was made.
pub(crate) struct Issued {
    /// In PEM.
    pub certificate: String,
    /// When it ends.
    pub expires_ms: u64,
}

impl Authority {
    /// Makes a client certificate for a node or an edge.
    pub(crate) fn issue_agent(
        &self,
        id: &AgentId,
        request: &SigningRequest,
        now_ms: u64,
        expires_ms: u64,
    ) -> Result<Issued, AuthorityError> {
        let mut params = named(&id.to_string(), now_ms, expires_ms);
        params.subject_alt_names = vec![SanType::URI(uri_of(id).try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.key, &self.signing().issuer)?;
        Ok(Issued { certificate: certificate.pem(), expires_ms })
    }

    /// Makes a server certificate for this manager, and its key: the chain goes up to every root that is trusted, for tokens
    /// pin one of them and agents may not know them all yet.
    pub(super) fn issue_manager(
        &self,
        root: &Root,
        snapshot: &Snapshot,
        now_ms: u64,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = named("persona manager", now_ms, now_ms + MANAGER_LIFETIME_MS);
        let names = [MANAGER_NAME, "localhost"].into_iter().chain(self.names.iter().map(String::as_str));
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])];
        let addresses = loopback.into_iter().chain(self.addresses.iter().copied());
        let names = names.map(|name| match name.parse() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => name.try_into().map(SanType::DnsName),
        });
        params.subject_alt_names =
            names.chain(addresses.map(|it| Ok(SanType::IpAddress(it)))).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &root.issuer)?;
        let chain = [vec![certificate.der().clone(), root.der.clone()], crosses(snapshot, root)?].concat();
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }
}

impl Authority {
    /// Makes a client certificate for this manager, for requests to others: the certificate, and its key.
    pub(super) fn issue_between(
        &self,
        root: &Root,
        now_ms: u64,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = named("persona manager", now_ms, now_ms + MANAGER_LIFETIME_MS);
        params.subject_alt_names = vec![SanType::URI(MANAGER_URI.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &root.issuer)?;
        Ok((vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }
}

/// The way from the root that signs to the one before, while that is trusted: a certificate of the one's key by the other,
/// and the other.
fn crosses(snapshot: &Snapshot, signing: &Root) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let cross = snapshot.roots.get(&signing.id).and_then(|record| record.cross.as_ref());
    let before = cross.and_then(|cross| snapshot.roots.get(&cross.by)).filter(|before| before.is_trusted());
    let pems = cross.zip(before).map(|(cross, before)| [cross.certificate.clone(), before.certificate.clone()]);
    let read = |pem: String| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::Root);
    pems.into_iter().flatten().map(read).collect()
}

fn named(name: &str, now_ms: u64, expires_ms: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    params.not_before = date(now_ms.saturating_sub(BACKDATE_MS));
    params.not_after = date(expires_ms);
    params
}

/// A serial number of 127 random bits (RFC 5280 §4.1.2.2: positive, at most 20 bytes).
pub(super) fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

/// A moment as certificates write it, in whole seconds.
pub(super) fn date(ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).expect("certificates end within some years from now")
}
