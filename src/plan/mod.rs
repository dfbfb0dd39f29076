//! DECIDE: what will be done.
#![forbid(unsafe_code)]

pub mod wishes;
