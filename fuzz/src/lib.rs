//! Pure files of other crates that targets read bytes with, without all that those crates need; and the tests' model of the
//! data plane, which was written apart from them.
#![expect(dead_code, reason = "not all of each file is called here")]

pub mod csr;
pub mod dhcp;
pub mod dpkg;
pub mod exposition;
pub mod model;
pub mod neighbour;
pub mod qmp;
pub mod slow_path;
pub mod trace;
