//! What the newcomer and CI run.

fn main() {}
