//! Traffic that is measured: downloads with the gaps between their bytes, a counted UDP echo, fragments, iperf3 runs, captures.

pub mod capture;
pub mod download;
pub mod echo;
pub mod far;
pub mod fragments;
pub mod iperf;
pub mod paced;
pub mod talk;
