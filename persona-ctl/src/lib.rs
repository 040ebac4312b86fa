//! The host code of Persona: the roles (manager, agent, edge) and the command line.

pub mod agent;
pub mod cli;
pub mod client;
pub mod config;
pub mod dataplane;
pub mod edge;
pub mod flow_export;
pub mod gateway;
pub mod host;
pub mod limits;
pub mod logging;
pub mod manager_link;
pub mod metrics;
pub mod monitor;
pub mod netlink;
pub mod packet_log;
pub mod path_mtu;
pub mod probe;
pub mod replay;
pub mod shutdown;
pub mod signals;
pub mod slow_path;
pub mod supervisor;
pub mod trace;
pub mod trust;
pub mod wire;
