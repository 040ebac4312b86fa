//! What holding instances costs: choosing a persona, putting its limits on, the agent that does both all day; and what forecasts
//! are worth.

pub mod agent;
pub mod apply;
pub mod evaluate;
pub mod forecast;
mod rules;
