//! Writes what each fuzzer begins with: `seeds DIR` makes DIR/TARGET/* and DIR/TARGET.dict.
#![forbid(unsafe_code)]

use creel::fuzz::{DOORS, seeds};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn put(dir: &Path, seeds: &[Vec<u8>]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (index, seed) in seeds.iter().enumerate() {
        std::fs::write(dir.join(format!("{index:03}")), seed)?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "seeds".into()));
    for (door, _, seeds) in shim::DOORS {
        put(&dir.join(door), &seeds())?;
    }
    for (door, _) in DOORS {
        put(&dir.join(door), &seeds::seeds(door))?;
        let mut words = String::new();
        for word in seeds::words(door) {
            let escaped = word.bytes().fold(String::new(), |mut out, byte| {
                match byte {
                    b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => out.push(char::from(byte)),
                    other => drop(write!(out, "\\x{other:02x}")),
                }
                out
            });
            words += &format!("\"{escaped}\"\n");
        }
        std::fs::write(dir.join(format!("{door}.dict")), words)?;
    }
    Ok(())
}
