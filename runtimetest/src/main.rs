//! runtimetest
fn main() {}
