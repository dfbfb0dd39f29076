//! Fuzzing: see the door of this name in `creel::fuzz`.
#![no_main]

use creel_fuzz::{begin, knock};

libfuzzer_sys::fuzz_target!(init: begin("dbus"), |bytes: &[u8]| knock(creel::fuzz::dbus, bytes));
