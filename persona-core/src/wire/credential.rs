//! What somebody is handed so that they may come to the manager: join tokens of nodes and edges, access tokens of people
//! and programs. One line of text: `ID.SECRET.PIN@URL,URL`.
//!
//! The pin is the SHA-256 of the root certificate under which the manager's own must verify, so that whoever holds the
//! line can tell the manager from an impostor at first contact. A manager without TLS has no pin. Only `ID.SECRET` is sent.

use std::fmt;
use std::str::FromStr;

use crate::hex;

/// The name that every manager's certificate has, whatever its addresses are. Clients of the fleet's own CA check this
/// one: that CA gives certificates for servers to managers only.
pub const MANAGER_NAME: &str = "manager.persona.internal";

/// SHA-256 of a root certificate in DER; written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin(pub [u8; 32]);

/// A join token or an access token with the way to the manager. `Debug` leaves the secret out.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id, for listing and revoking.
    pub id: String,
    /// 256 random bits in hex.
    pub secret: String,
    /// The root that the manager's certificate must verify under; absent for a manager without TLS.
    pub pin: Option<Pin>,
    /// URLs of the managers, at least one.
    pub managers: Vec<String>,
}

/// A text that is no credential. It never repeats the text, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// Nothing follows the secret.
    #[error("the token does not say where the manager is: use the whole line ID.SECRET.PIN@URL that was printed")]
    NoManager,
    /// The part before the managers.
    #[error("the token's first part is not ID.SECRET or ID.SECRET.PIN: use the whole line that was printed")]
    Parts,
    /// The pin.
    #[error("the token's pin is not 64 hex digits")]
    Pin,
    /// A URL.
    #[error("the token's manager {0:?} is not valid: a token with a pin has https URLs, one without has http URLs")]
    Manager(String),
}

impl Credential {
    /// What is sent to the manager: `ID.SECRET`.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(formatter, &self.0)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Pin {
    type Err = InvalidCredential;
    fn from_str(text: &str) -> Result<Self, InvalidCredential> {
        hex::decode_32(text).map(Self).ok_or(InvalidCredential::Pin)
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.id, self.secret)?;
        if let Some(pin) = &self.pin {
            write!(formatter, ".{pin}")?;
        }
        write!(formatter, "@{}", self.managers.join(","))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credential({} @{})", self.id, self.managers.join(","))
    }
}

impl FromStr for Credential {
    type Err = InvalidCredential;
    fn from_str(text: &str) -> Result<Self, InvalidCredential> {
        let (parts, managers) = text.trim().split_once('@').ok_or(InvalidCredential::NoManager)?;
        let parts: Vec<&str> = parts.split('.').collect();
        let (id, secret, pin) = match parts.as_slice() {
            [id, secret] => (id, secret, None),
            [id, secret, pin] => (id, secret, Some(pin.parse()?)),
            _ => return Err(InvalidCredential::Parts),
        };
        if id.is_empty() || secret.is_empty() {
            return Err(InvalidCredential::Parts);
        }
        let scheme = if pin.is_some() { "https://" } else { "http://" };
        let managers = managers.split(',').map(|url| match url.strip_prefix(scheme) {
            Some(host) if !host.is_empty() => Ok(url.to_owned()),
            _ => Err(InvalidCredential::Manager(url.to_owned())),
        });
        Ok(Self { id: (*id).into(), secret: (*secret).into(), pin, managers: managers.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_as_it_was_written() {
        let pin = "0a".repeat(32);
        for text in [
            format!("1f2e.aabb.{pin}@https://10.0.0.1:7600"),
            format!("1f2e.aabb.{pin}@https://10.0.0.1:7600,https://[fd77::1]:7600"),
            "1f2e.aabb@http://127.0.0.1:1".to_owned(),
        ] {
            let credential: Credential = format!("{text}\n").parse().unwrap();
            assert_eq!(credential.to_string(), text);
            assert_eq!(credential.bearer(), "1f2e.aabb");
            assert!(!format!("{credential:?}").contains("aabb"), "no secret in what is logged");
        }
    }

    #[test]
    fn what_is_no_credential_is_refused_without_repeating_the_secret() {
        let pin = "0a".repeat(32);
        for (text, expected) in [
            ("1f2e.aabb".to_owned(), InvalidCredential::NoManager),
            ("aabb@https://m".to_owned(), InvalidCredential::Parts),
            (format!("1.aabb.{pin}.x@https://m"), InvalidCredential::Parts),
            ("1.@http://m".to_owned(), InvalidCredential::Parts),
            ("1.aabb.00@https://m".to_owned(), InvalidCredential::Pin),
            (format!("1.aabb.{}@https://m", "é".repeat(32)), InvalidCredential::Pin),
            (format!("1.aabb.{pin}@http://m"), InvalidCredential::Manager("http://m".into())),
            ("1.aabb@https://m".to_owned(), InvalidCredential::Manager("https://m".into())),
            (format!("1.aabb.{pin}@https://m,"), InvalidCredential::Manager(String::new())),
        ] {
            let error = text.parse::<Credential>().unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("aabb"));
        }
    }
}
