//! Software: which packages a subject shall have, and how far what is installed is from that.
//!
//! Versions compare as Debian's do (deb-version(7)). Nothing is installed here or anywhere: drift is told.

mod drift;
mod requirement;
mod version;

pub use drift::{Installed, compare, news, report};
pub use requirement::{Requirement, RequirementError, is_package_name};
pub use version::{Version, VersionError};
