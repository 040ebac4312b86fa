//! The central server: the HTTP API and the SQL live only here.
#![forbid(unsafe_code)]
