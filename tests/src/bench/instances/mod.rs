//! What holding instances costs: choosing a persona, putting its limits on, and the agent that does both all day.

pub mod agent;
pub mod apply;
pub mod evaluate;
mod rules;
