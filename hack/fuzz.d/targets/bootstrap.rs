//! Fuzzing: see the door of this name in `shim/src/fuzz.rs`.
#![no_main]

use creel_fuzz::{begin, knock};

libfuzzer_sys::fuzz_target!(init: begin("bootstrap"), |bytes: &[u8]| knock(creel_fuzz::shim_doors::bootstrap, bytes));
