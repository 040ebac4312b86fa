//! The gateway's process: services and their instances from a file, health by checks, changes while it runs.
//!
//! It looks at the kernel, compiles tables and writes what differs; a verdict on an instance goes to the data path at
//! once. When the process dies, the data path goes on unchanged, and instances that die go unnoticed until it is back.
//! The same role delivers on nodes that hold instances reached by tunnel.

mod check;
mod client;
mod config;
mod control;
mod ground;
mod life;
mod observe;
mod overrides;
mod plan;
mod service_config;
mod tell;
mod view;
mod watch;

pub use client::{GatewayClient, GatewayClientError};
pub use config::{GatewayConfig, GatewayConfigError, GatewayFile, SOCKET_DEFAULT};
pub use life::{Source, run};
pub use view::{InstanceChange, InstanceView, ServiceView};
