//! Pure files of other crates that targets read packets with, without all that those crates need: the slow path's, those
//! that hear neighbours and routers, and the tests' model, which was written apart from them.
#![expect(dead_code, reason = "not all of each file is called here")]

pub mod model;
pub mod neighbour;
pub mod slow_path;
