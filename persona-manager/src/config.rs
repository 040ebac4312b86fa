//! The manager's section of the configuration file, and what may be bound to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use persona_core::units::Cidr;
use serde::{Deserialize, Serialize};

use crate::authority::{SealingError, SealingKeys};
use crate::store::{StoreConfig, StoreLocation};
use crate::telemetry::TelemetryConfig;

/// Certificates end within a year, milliseconds; the first value that is too long.
const CERTIFICATE_MS_MAX: u64 = 365 * 24 * 3_600_000 + 1;

/// The directory of keys and the socket where the store is a database.
pub(crate) const STATE_DIR_DEFAULT: &str = "/var/lib/persona/manager.state";

/// The manager's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the store is.
    pub store: StoreConfig,
    /// The URL under which other managers on the same database reach this one. None: where it listens.
    pub advertise: Option<String>,
    /// The directory of the certificate authority's keys and the administrators' socket. None: the store's path with
    /// `.state` in place of its extension, or [`STATE_DIR_DEFAULT`] for a database.
    pub state_dir: Option<PathBuf>,
    /// URLs under which nodes, edges and people reach the managers; join tokens carry them. Empty: where it listens.
    pub urls: Vec<String>,
    /// Names and addresses for this manager's certificate, for clients that check them.
    pub names: Vec<String>,
    /// Whether the network is served in plain HTTP. Nodes and edges cannot join then.
    pub insecure_http: bool,
    /// How long a node's or edge's certificate is good for, milliseconds.
    pub certificate_lifetime_ms: u64,
    /// How long after its certificate ended a node or an edge may come back by its key alone, milliseconds.
    pub certificate_grace_ms: u64,
    /// How many requests per second one identity may send, and ten times as many at once; those who do not say who they
    /// are get a fifth of it per address.
    pub rate_limit_per_sec: NonZeroU32,
    /// How many connections from the network there may be; a quarter of them is kept for client certificates.
    pub connections_max: NonZeroU32,
    /// Whether it may listen on a public address in plain HTTP.
    pub allow_public: bool,
    /// Whether anybody may read where egress addresses are: the geofeed, RFC 8805, at `/v1/geofeed`.
    pub publish_geofeed: bool,
    /// How often nodes and edges report at least, milliseconds.
    pub report_interval_ms: u32,
    /// A node or an edge that did not report for this long is down, milliseconds.
    pub silent_after_ms: u32,
    /// An edge that comes and goes is held back for longer each time, at most this long, milliseconds.
    pub hold_max_ms: u32,
    /// How many subjects criteria may switch in a minute, all together; the others wait. None: any number.
    pub activation_changes_per_minute: Option<NonZeroU32>,
    /// Ranges of addresses that webhooks may go to although they are this host's own, its link's or its cloud's.
    pub webhook_allow: Vec<Cidr>,
    /// Time between health probes, milliseconds.
    pub probe_interval_ms: u32,
    /// An edge is dead when nothing was heard from it for this many probe intervals.
    pub probe_multiplier: u8,
    /// The certificate authority.
    pub ca: CaConfig,
    /// Traces.
    pub telemetry: TelemetryConfig,
}

/// The certificate authority's part of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaConfig {
    /// The file of keys with which the keys of roots are sealed in the store. None: they lie in `state_dir`.
    pub seal_key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7600)),
            store: PathBuf::from("/var/lib/persona/manager.sqlite").into(),
            advertise: None,
            state_dir: None,
            urls: Vec::new(),
            names: Vec::new(),
            insecure_http: false,
            certificate_lifetime_ms: 24 * 3_600_000,
            certificate_grace_ms: 7 * 24 * 3_600_000,
            rate_limit_per_sec: const { NonZeroU32::new(100).unwrap() },
            connections_max: const { NonZeroU32::new(32_768).unwrap() },
            allow_public: false,
            publish_geofeed: false,
            report_interval_ms: 1_000,
            silent_after_ms: 5_000,
            hold_max_ms: persona_core::health::HOLD_MAX_MS as u32,
            activation_changes_per_minute: None,
            webhook_allow: Vec::new(),
            probe_interval_ms: 50,
            probe_multiplier: 3,
            ca: CaConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Anybody could reach it.
    #[error(
        "the manager would listen on {0} in plain HTTP, which is not loopback or private: leave `insecure_http` out, use a private address, or set `allow_public = true` (--allow-public) if something else encrypts"
    )]
    PublicBind(SocketAddr),
    /// Managers could not tell each other from anybody else.
    #[error(
        "insecure_http does not go with a store in PostgreSQL: managers on one database pass requests on to each other over TLS; leave it out, or keep the store in a file"
    )]
    PlainDatabase,
    /// Managers could not find each other.
    #[error(
        "advertise is missing: the manager listens on {0}, which tells other managers on the same database nothing; write https://HOST:PORT"
    )]
    AdvertiseMissing(SocketAddr),
    /// A URL that nobody could use.
    #[error("{key} has {given:?}; write {scheme}HOST:PORT, without a path")]
    Url {
        /// Which key.
        key: &'static str,
        /// What was given.
        given: String,
        /// How it must begin.
        scheme: &'static str,
    },
    /// The keys of roots could not be opened.
    #[error(transparent)]
    SealKeyFile(#[from] SealingError),
    /// A name that no certificate can have.
    #[error("names has {0:?}; write host names and addresses, without ports")]
    Name(String),
    /// A time is out of range.
    #[error("{key} is {given}; {valid}")]
    OutOfRange {
        /// Which key.
        key: &'static str,
        /// What was given.
        given: u64,
        /// What would be valid.
        valid: &'static str,
    },
}

impl ConfigError {
    /// The key that it is about.
    pub fn key(&self) -> &'static str {
        match self {
            Self::PublicBind(_) => "listen",
            Self::PlainDatabase => "insecure_http",
            Self::AdvertiseMissing(_) => "advertise",
            Self::Url { key, .. } | Self::OutOfRange { key, .. } => key,
            Self::SealKeyFile(_) => "ca.seal_key_file",
            Self::Name(_) => "names",
        }
    }
}

impl Config {
    /// The directory of keys and the socket.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| match &self.store.location {
            StoreLocation::File(path) => path.with_extension("state"),
            StoreLocation::Postgres(_) => STATE_DIR_DEFAULT.into(),
        })
    }

    /// URLs of the managers when this one listens on `address`. Empty: an address of all interfaces says nothing.
    pub(crate) fn urls_at(&self, address: SocketAddr) -> Vec<String> {
        let scheme = if self.insecure_http { "http" } else { "https" };
        match self.urls.as_slice() {
            [] if address.ip().is_unspecified() => Vec::new(),
            [] => vec![format!("{scheme}://{address}")],
            urls => urls.to_vec(),
        }
    }

    /// The URL under which other managers reach this one, which listens on `address`.
    pub(crate) fn advertise_at(&self, address: SocketAddr) -> String {
        self.advertise.clone().unwrap_or_else(|| format!("https://{address}"))
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let scheme = if self.insecure_http { "http://" } else { "https://" };
        let urls = self.urls.iter().map(|url| ("urls", url)).chain(self.advertise.iter().map(|url| ("advertise", url)));
        if let Some((key, url)) = urls.into_iter().find(|(_, url)| !is_base(url, scheme)) {
            return Err(ConfigError::Url { key, given: url.clone(), scheme });
        }
        let is_name = |name: &&String| {
            let is_host = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '.');
            name.parse::<IpAddr>().is_ok() || (!name.is_empty() && is_host)
        };
        match self.names.iter().find(|name| !is_name(name)) {
            Some(name) => Err(ConfigError::Name(name.clone())),
            None => Ok(()),
        }
    }

    /// Whatever encrypts on the way to a collector further away is a collector of this host.
    fn check_telemetry(&self) -> Result<(), ConfigError> {
        match &self.telemetry.otlp {
            Some(url) if !is_base(url, "http://") => {
                Err(ConfigError::Url { key: "telemetry.otlp", given: url.clone(), scheme: "http://" })
            }
            _ => Ok(()),
        }
    }

    fn check_database(&self, bound: SocketAddr) -> Result<(), ConfigError> {
        match &self.store.location {
            StoreLocation::File(_) => Ok(()),
            StoreLocation::Postgres(_) if self.insecure_http => Err(ConfigError::PlainDatabase),
            StoreLocation::Postgres(_) if bound.ip().is_unspecified() && self.advertise.is_none() => {
                Err(ConfigError::AdvertiseMissing(bound))
            }
            StoreLocation::Postgres(_) => Ok(()),
        }
    }

    /// Checks what the types cannot; `bound` is where it really listens.
    pub fn check(&self, bound: SocketAddr) -> Result<(), ConfigError> {
        self.mistakes(bound).into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that a configuration must not have; `bound` is where it really listens.
    pub fn mistakes(&self, bound: SocketAddr) -> Vec<ConfigError> {
        let is_bare = self.insecure_http && !self.allow_public && !is_private(bound.ip());
        let bare = is_bare.then_some(ConfigError::PublicBind(bound));
        let places = [self.check_database(bound), self.check_names(), self.check_telemetry()]
            .into_iter()
            .filter_map(Result::err);
        let probe = check_probe(self.probe_interval_ms, self.probe_multiplier).err();
        let sealing = self.ca.seal_key_file.as_deref().map(SealingKeys::read).and_then(Result::err);
        let sealing = sealing.map(ConfigError::SealKeyFile);
        bare.into_iter().chain(places).chain(sealing).chain(self.impossible_times()).chain(probe).collect()
    }

    fn impossible_times(&self) -> Vec<ConfigError> {
        let report = u64::from(self.report_interval_ms);
        let (silent, hold) = (u64::from(self.silent_after_ms), u64::from(self.hold_max_ms));
        let (lifetime, grace) = (self.certificate_lifetime_ms, self.certificate_grace_ms);
        let year = "use 2000 to 31536000000, which is a year";
        let wrong = [
            (!(2_000..CERTIFICATE_MS_MAX).contains(&lifetime), "certificate_lifetime_ms", lifetime, year),
            (grace >= CERTIFICATE_MS_MAX, "certificate_grace_ms", grace, "use 0 to 31536000000, which is a year"),
            (!(100..=60_000).contains(&report), "report_interval_ms", report, "use 100 to 60000"),
            (silent < 2 * report, "silent_after_ms", silent, "use at least twice report_interval_ms"),
            (!(1_000..=3_600_000).contains(&hold), "hold_max_ms", hold, "use 1000 to 3600000"),
        ];
        let wrong = wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong);
        wrong.map(|(_, key, given, valid)| ConfigError::OutOfRange { key, given, valid }).collect()
    }
}

/// Whether it is a URL of that scheme with a host, and without a path.
fn is_base(url: &str, scheme: &str) -> bool {
    let host = url.strip_prefix(scheme).unwrap_or_default();
    !host.is_empty() && !host.contains(['/', ',', '@', '?', '#', ' '])
}

/// Checks how edges shall be probed.
pub(crate) fn check_probe(interval_ms: u32, multiplier: u8) -> Result<(), ConfigError> {
    let out_of_range = |key, given: u64, valid| Err(ConfigError::OutOfRange { key, given, valid });
    match (interval_ms, multiplier) {
        (0..10 | 10_001.., _) => out_of_range("probe_interval_ms", interval_ms.into(), "use 10 to 10000"),
        (_, 0..2 | 21..) => out_of_range("probe_multiplier", multiplier.into(), "use 2 to 20"),
        _ => Ok(()),
    }
}

/// Loopback, RFC 1918, link-local (RFC 3927, RFC 4291) or unique local (RFC 4193).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(IpAddr::V4(v4)),
            None => v6 == Ipv6Addr::LOCALHOST || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_bind_in_plain_http_needs_to_be_allowed() {
        let cases = [
            ("127.0.0.1:1", true),
            ("10.1.2.3:1", true),
            ("192.168.0.1:1", true),
            ("172.16.0.1:1", true),
            ("169.254.1.1:1", true),
            ("[::1]:1", true),
            ("[fd00::1]:1", true),
            ("[fe80::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("203.0.113.1:1", false),
            ("[2001:db8::1]:1", false),
            ("172.32.0.1:1", false),
            ("[::ffff:203.0.113.1]:1", false),
            ("[::ffff:10.0.0.1]:1", true),
        ];
        for (address, is_fine) in cases {
            let bound = address.parse().unwrap();
            let plain = Config { insecure_http: true, ..Config::default() };
            assert_eq!(plain.check(bound).is_ok(), is_fine, "{address}");
            assert!(Config { allow_public: true, ..plain }.check(bound).is_ok(), "{address}");
            assert!(Config::default().check(bound).is_ok(), "{address}");
        }
    }

    #[test]
    fn managers_on_a_database_speak_tls() {
        let bound = "127.0.0.1:1".parse().unwrap();
        let Ok(location) = "postgres://h/db".parse::<StoreLocation>();
        let config = Config { store: location.into(), insecure_http: true, ..Config::default() };
        assert!(config.check(bound).unwrap_err().to_string().contains("insecure_http"));
        let config = Config { insecure_http: false, ..config };
        config.check(bound).unwrap();
        assert_eq!(config.advertise_at(bound), "https://127.0.0.1:1");
        assert_eq!(config.state_dir(), PathBuf::from(STATE_DIR_DEFAULT));
        let everywhere = "0.0.0.0:1".parse().unwrap();
        assert!(config.check(everywhere).unwrap_err().to_string().contains("advertise"));
        let config = Config { advertise: Some("https://m:1".to_owned()), ..config };
        config.check(everywhere).unwrap();
        assert_eq!(config.advertise_at(everywhere), "https://m:1");
        let config = Config { advertise: Some("http://m:1".to_owned()), ..config };
        assert!(config.check(bound).unwrap_err().to_string().contains("advertise"));
    }

    #[test]
    fn a_collector_is_spoken_to_in_plain_http_without_a_path() {
        let bound = "127.0.0.1:1".parse().unwrap();
        for (url, is_fine) in [
            ("http://127.0.0.1:4318", true),
            ("http://collector:4318", true),
            ("http://collector:4318/v1/traces", false),
            ("https://collector:4318", false),
            ("collector:4318", false),
        ] {
            let telemetry = TelemetryConfig { otlp: Some(url.to_owned()) };
            let outcome = Config { telemetry, ..Config::default() }.check(bound);
            assert_eq!(outcome.is_ok(), is_fine, "{url}");
            assert!(outcome.err().is_none_or(|error| error.key() == "telemetry.otlp"), "{url}");
        }
    }

    #[test]
    fn impossible_times_are_refused_by_key() {
        let bound = "127.0.0.1:1".parse().unwrap();
        let config = Config { silent_after_ms: 1_500, ..Config::default() };
        assert!(config.check(bound).unwrap_err().to_string().contains("silent_after_ms"));
        let config = Config { probe_multiplier: 1, ..Config::default() };
        assert!(config.check(bound).unwrap_err().to_string().contains("probe_multiplier"));
        let config = Config { names: vec!["a/b".to_owned()], hold_max_ms: 1, silent_after_ms: 1, ..config };
        let keys: Vec<&str> = config.mistakes(bound).iter().map(ConfigError::key).collect();
        assert_eq!(keys, ["names", "silent_after_ms", "hold_max_ms", "probe_multiplier"], "all at once");
    }
}
