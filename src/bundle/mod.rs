//! READ: what was asked. A bundle directory and the config.json in it.
#![forbid(unsafe_code)]

pub mod config;
