//! Software: which packages a subject shall have, and how far what is installed is from that.
//!
//! Versions compare as Debian's do (deb-version(7)). On nodes and in containers drift is told; inside a guest that permits it,
//! its own agent installs what `install` decides.

mod drift;
mod install;
mod requirement;
mod version;

pub use drift::{Installed, compare, news, report};
pub use install::{
    Change, Entry, Ledger, Packages, Simulated, Was, back, difference, entry_of, read_offered, read_packages, steps,
};
pub use requirement::{Requirement, RequirementError, is_package_name};
pub use version::{Version, VersionError};
