//! Fuzzing: see the door of this name in `creel::fuzz`.
#![no_main]

use creel_fuzz::{begin, knock};

libfuzzer_sys::fuzz_target!(init: begin("update"), |bytes: &[u8]| knock(creel::fuzz::update, bytes));
