//! Where a store is: a SQLite file, or a PostgreSQL database. Passwords are never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database: its URL.
    Postgres(String),
}

impl FromStr for StoreLocation {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        Ok(if is_url { Self::Postgres(text.to_owned()) } else { Self::File(text.into()) })
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Postgres(url) => formatter.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.to_string())
    }
}

/// `postgres://user:password@host/db?password=…` without its secrets.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let rest = match rest.rsplit_once('@') {
        Some((user, place)) => format!("{}@{place}", user.split(':').next().unwrap_or_default()),
        None => rest.to_owned(),
    };
    let is_shown = |pair: &&str| !pair.starts_with("password=");
    let query: Vec<&str> = query.into_iter().flat_map(|query| query.split('&')).filter(is_shown).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("{scheme}://{rest}{query}")
}

/// The `store` key: a path or URL, or a table with more about a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where it is.
    pub location: StoreLocation,
    /// PostgreSQL: changes are acknowledged only once a synchronous standby has them too.
    pub require_sync: bool,
}

impl From<StoreLocation> for StoreConfig {
    fn from(location: StoreLocation) -> Self {
        Self { location, require_sync: false }
    }
}

impl From<PathBuf> for StoreConfig {
    fn from(path: PathBuf) -> Self {
        StoreLocation::File(path).into()
    }
}

/// The key written as a table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    url: String,
    #[serde(default)]
    require_sync: bool,
}

impl Serialize for StoreConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.require_sync {
            false => serializer.collect_str(&self.location),
            true => Keys { url: self.location.to_string(), require_sync: true }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StoreConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StoreVisitor)
    }
}

struct StoreVisitor;

impl<'de> Visitor<'de> for StoreVisitor {
    type Value = StoreConfig;
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a path, a postgres:// URL, or a table with url and require_sync")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StoreConfig, E> {
        let Ok(location) = text.parse::<StoreLocation>();
        Ok(location.into())
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<StoreConfig, M::Error> {
        let Keys { url, require_sync } = Keys::deserialize(MapAccessDeserializer::new(map))?;
        let Ok(location) = url.parse::<StoreLocation>();
        if require_sync && matches!(location, StoreLocation::File(_)) {
            return Err(serde::de::Error::custom("require_sync is for PostgreSQL: a file has no standby"));
        }
        Ok(StoreConfig { location, require_sync })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_or_a_url_and_shows_no_password() {
        let cases = [
            ("/var/lib/persona/manager.sqlite", "/var/lib/persona/manager.sqlite"),
            ("postgres://p:s@h:1/db?sslmode=verify-full", "postgres://p@h:1/db?sslmode=verify-full"),
            ("postgresql://p:s@t@h/db?password=x", "postgresql://p@h/db"),
            ("postgres://h/db", "postgres://h/db"),
        ];
        for (text, shown) in cases {
            let location: StoreLocation = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(matches!(location, StoreLocation::Postgres(_)), text.starts_with("postgres"), "{text}");
        }
    }

    #[test]
    fn the_key_is_a_text_or_a_table() {
        let read = |text| serde_json::from_str::<StoreConfig>(text);
        assert_eq!(read(r#""/s""#).unwrap(), PathBuf::from("/s").into());
        assert!(read(r#"{"url":"postgres://h/db","require_sync":true}"#).unwrap().require_sync);
        for (bad, expected) in [
            (r#"{"url":"/s","require_sync":true}"#, "PostgreSQL"),
            (r#"{"url":"/s","sync":true}"#, "require_sync"),
            ("7", "a path"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
