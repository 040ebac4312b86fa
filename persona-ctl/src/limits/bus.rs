//! systemd over D-Bus: where a unit's control group is, and setting its properties for as long as this boot lasts.

use std::future::Future;
use std::io;
use std::time::Duration;

use persona_core::limit::UnitProperty;
use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant, Variant};

/// How long systemd may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A unit's control group, a path from the root of the tree; empty while it does not run. NotFound: systemd knows no such unit.
/// Blocks: not for a thread that drives a runtime.
pub(super) fn control_group(unit: &str) -> io::Result<String> {
    run(async {
        let bus = Connection::system().await?;
        let found = bus.call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), "GetUnit", &(unit,)).await?;
        let path: OwnedObjectPath = found.body().deserialize()?;
        let answer = property_of(&bus, path.as_str(), interface_of(unit), "ControlGroup").await?;
        let value: OwnedVariant = answer.body().deserialize()?;
        Ok(String::try_from(value).unwrap_or_default())
    })
}

/// Sets properties of a unit, with the rights of this process, until they are set again or the machine boots
/// (systemctl(1), `set-property --runtime`).
pub(crate) fn set_unit_properties_here(unit: &str, properties: &[UnitProperty]) -> io::Result<()> {
    let values: Vec<(&str, Variant<'_>)> = properties.iter().map(|it| (it.name, value_of(it))).collect();
    run(async {
        let bus = Connection::system().await?;
        let body = (unit, true, values);
        bus.call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), "SetUnitProperties", &body).await.map(drop)
    })
}

/// systemd's version.
pub(super) async fn version() -> io::Result<String> {
    let asked = async {
        let bus = Connection::system().await?;
        let answer = property_of(&bus, MANAGER_PATH, MANAGER, "Version").await?;
        let value: OwnedVariant = answer.body().deserialize()?;
        Ok(String::try_from(value).unwrap_or_default())
    };
    tokio::time::timeout(ANSWER_TIME, asked)
        .await
        .map_err(|_| io::ErrorKind::TimedOut.into())
        .and_then(|it| it.map_err(failed))
}

async fn property_of(bus: &Connection, path: &str, interface: &str, name: &str) -> zbus::Result<Message> {
    let properties = Some("org.freedesktop.DBus.Properties");
    bus.call_method(Some(DESTINATION), path, properties, "Get", &(interface, name)).await
}

fn interface_of(unit: &str) -> &'static str {
    match unit.rsplit_once('.').map(|(_, kind)| kind) {
        Some("scope") => "org.freedesktop.systemd1.Scope",
        Some("slice") => "org.freedesktop.systemd1.Slice",
        _ => "org.freedesktop.systemd1.Service",
    }
}

/// A rate of a device is a list with one pair of device and rate.
fn value_of(property: &UnitProperty) -> Variant<'static> {
    match &property.device {
        None => Variant::new(property.value),
        Some(device) => Variant::new(vec![(format!("/dev/block/{device}"), property.value)]),
    }
}

fn run<T>(question: impl Future<Output = zbus::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answered = runtime.block_on(async { tokio::time::timeout(ANSWER_TIME, question).await });
    answered.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(failed)
}

fn failed(error: zbus::Error) -> io::Error {
    let is_unknown = matches!(&error, zbus::Error::MethodError(name, ..) if name.as_str().ends_with(".NoSuchUnit"));
    let kind = if is_unknown { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}
