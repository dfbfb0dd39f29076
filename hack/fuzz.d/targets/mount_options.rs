//! Fuzzing: see the door of this name in `creel::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: creel_fuzz::begin("mount_options"), |bytes: &[u8]| creel::fuzz::mount_options(bytes));
