//! The sections beside network and qos: resources, security, software, monitoring and activation.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::protocol::Protocol;
use crate::units::{ByteCount, Cidr, Span};

/// CPU, memory, disk and process limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<Io>,
    /// Processes and threads, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cpu {
    /// Whole processors, at most; 0.5 is half of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Share against others, 1 to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// Above it, processes are killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<ByteCount>,
    /// Above it, processes are slowed and memory is reclaimed; at most `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<ByteCount>,
}

/// Disks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Io {
    /// Share against others, 1 to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Bytes read per second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bps: Option<ByteCount>,
    /// Bytes written per second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bps: Option<ByteCount>,
    /// Reads per second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u32>,
    /// Writes per second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u32>,
}

/// What may pass, and what an instance may do. What a running instance cannot be given takes a restart, which is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// Rules about what opens a flow; the first that matches decides, and what none matches passes. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firewall: Vec<Firewall>,
    /// Kernel parameters, such as `net.ipv4.tcp_syncookies: 1`, set inside a guest by its own agent. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, SysctlValue>,
    /// Linux capabilities that processes may have at most, such as `NET_BIND_SERVICE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Whether programs may give processes no more rights than they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Whether the root file system cannot be written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root: Option<bool>,
    /// Whether system calls are filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<bool>,
    /// The profile of AppArmor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
}

/// The value of a kernel parameter; a whole number may be written as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SysctlValue(pub String);

impl<'de> Deserialize<'de> for SysctlValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl serde::de::Visitor<'_> for Value {
            type Value = SysctlValue;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(
                    "the value of a kernel parameter: a whole number, or a text such as '4096 87380 6291456'",
                )
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SysctlValue, E> {
                Ok(SysctlValue(text.to_owned()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for SysctlValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SysctlValue".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer"], "description": "the value of a kernel parameter" })
    }
}

/// One firewall rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Firewall {
    /// What happens.
    pub action: FirewallAction,
    /// Seen from the subject.
    pub direction: Direction,
    /// Remote destinations, egress only. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Cidr>,
    /// Remote sources, ingress only. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Cidr>,
    /// Which protocol. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Destination ports; TCP and UDP only. Absent: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// What a firewall rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FirewallAction {
    /// Lets the flow open.
    Allow,
    /// Drops what would open it.
    Deny,
}

/// Who opens the flow, seen from the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Somebody, towards the subject.
    Ingress,
    /// The subject.
    Egress,
}

/// A package to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SoftwarePackage {
    /// Its name in the subject's package manager, if need be with `:ARCHITECTURE`.
    pub package: String,
    /// Such as `>= 1.22`; one of `=`, `>=`, `<=`, `>`, `<` and a version. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Something to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MonitoringRule {
    /// The criterion.
    pub when: String,
    /// How long it must hold before the alert is raised.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// The criterion for clearing the alert. Absent: when `when` no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
    /// How long that must hold. Absent: as long as `for`, at least 30s.
    #[serde(default, rename = "clearFor", skip_serializing_if = "Option::is_none")]
    pub clear_hold: Option<Span>,
    /// The alert's name.
    pub raise: String,
}

/// When to wear the persona.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActivationRule {
    /// The criterion, such as `cpu.utilisation > 0.8`.
    pub when: String,
    /// How long it must hold.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// The criterion for taking the persona off. Absent: when `when` no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave: Option<String>,
    /// How long that must hold.
    #[serde(default, rename = "leaveFor", skip_serializing_if = "Option::is_none")]
    pub leave_hold: Option<Span>,
    /// How long after leaving it before it may be worn again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// How long it is worn at least, unless a persona before it in the list takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dwell: Option<Span>,
    /// How long a criterion may be unknown, for want of a signal, before `onUnknown` decides. Absent: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
    /// What happens then. Absent: hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<OnUnknown>,
}

/// What happens to a persona that is worn while its criterion has been unknown for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// It stays.
    Hold,
    /// It is taken off.
    Leave,
}

impl<'de> Deserialize<'de> for OnUnknown {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl serde::de::Visitor<'_> for Word {
            type Value = OnUnknown;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("hold (what is worn stays) or leave (it is taken off)")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<OnUnknown, E> {
                match word {
                    "hold" => Ok(OnUnknown::Hold),
                    "leave" => Ok(OnUnknown::Leave),
                    other => Err(E::unknown_variant(other, &["hold", "leave"])),
                }
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<OnUnknown, E> {
                let advice = "write hold (what is worn stays) or leave (it is taken off)";
                Err(E::custom(format!("an unknown criterion is never taken for {value}: {advice}")))
            }
        }
        deserializer.deserialize_any(Word)
    }
}
