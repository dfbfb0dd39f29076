//! Flags as Go's programs take them, said as clap takes them: one dash or two, `--bool=false`.
#![forbid(unsafe_code)]

use super::{COMMANDS, Entry, GlobalArgs};
use crate::error::{Doing, Error, Result};
use clap::{Arg, ArgAction, Args, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Commands whose flags end at the first word that is none.
const STOP_EARLY: [&str; 3] = ["exec", "kill", "ps"];

/// The command whose flags are wrong, if it is not the global ones that are.
pub(super) fn at_fault(args: &[OsString]) -> Option<&'static Entry> {
    let globals = GlobalArgs::augment_args(Command::new("globals"));
    for word in args.iter().skip(1) {
        if let Some((name, _)) = split(word)
            && find(&globals, name).is_none()
        {
            return None;
        }
        let called = COMMANDS.iter().find(|entry| word == entry.name);
        if called.is_some() {
            return called;
        }
    }
    None
}

/// A line, or what is wrong with it and what clap said, if that was it.
type Spelt = std::result::Result<Vec<OsString>, (Error, Option<clap::Error>)>;

/// The line in the spelling that clap knows; as it is, if nothing in it needs that.
///
/// # Errors
/// A switch has a value that is not a truth value.
pub(super) fn spell(args: &[OsString]) -> Spelt {
    let odd = |arg: &OsString| match arg.as_bytes() {
        [b'-', b'-', ..] => arg.as_bytes().contains(&b'='),
        [b'-', _, _, ..] => true,
        _ => false,
    };
    if !args.iter().any(odd) {
        return Ok(args.to_vec());
    }
    let mut args = args.iter().cloned();
    let mut out: Vec<OsString> = args.by_ref().take(1).collect();
    let globals = GlobalArgs::augment_args(Command::new("globals"));
    let Some(name) = rewrite(&globals, true, &mut args, &mut out).map_err(|error| (error, None))?
    else {
        return Ok(out);
    };
    if let Some(entry) = COMMANDS.iter().find(|entry| name == entry.name) {
        let command = (entry.augment)(Command::new(entry.name));
        let stop = STOP_EARLY.contains(&entry.name);
        rewrite(&command, stop, &mut args, &mut out).map_err(|error| (error, None))?;
    }
    out.extend(args);
    Ok(out)
}

/// Passes flags on to `out`, to the end or, if `stop`, to the first other word, which is returned.
fn rewrite(
    command: &Command,
    stop: bool,
    args: &mut dyn Iterator<Item = OsString>,
    out: &mut Vec<OsString>,
) -> Result<Option<OsString>> {
    while let Some(arg) = args.next() {
        let Some((name, value)) = split(&arg) else {
            let end = arg == "--";
            out.push(arg.clone());
            if stop && !end {
                return Ok(Some(arg));
            }
            if end {
                out.extend(args);
                return Ok(None);
            }
            continue;
        };
        let Some(flag) = find(command, name) else {
            let known = match name {
                b"help" | b"h" => "--help".into(),
                _ => arg,
            };
            out.push(known);
            continue;
        };
        let long = flag.get_long().unwrap_or_default();
        if matches!(flag.get_action(), ArgAction::SetTrue) {
            if truth(long, value)? {
                out.push(format!("--{long}").into());
            }
            continue;
        }
        let value = match value {
            Some(value) => Some(value.to_vec()),
            None => args.next().map(OsString::into_vec),
        };
        let spelt = match value {
            Some(value) => [b"--", long.as_bytes(), b"=", &value].concat(),
            None => [b"--", long.as_bytes()].concat(),
        };
        out.push(OsString::from_vec(spelt));
    }
    Ok(None)
}

/// The name and, behind `=`, the value of what looks like a flag.
fn split(arg: &OsStr) -> Option<(&[u8], Option<&[u8]>)> {
    let bare = arg.as_bytes().strip_prefix(b"-")?;
    let bare = bare.strip_prefix(b"-").unwrap_or(bare);
    if !bare.first()?.is_ascii_alphabetic() {
        return None;
    }
    match bare.iter().position(|&byte| byte == b'=') {
        Some(at) => Some((bare.get(..at)?, bare.get(at + 1..))),
        None => Some((bare, None)),
    }
}

fn find<'a>(command: &'a Command, name: &[u8]) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        let long = arg.get_long().is_some_and(|long| long.as_bytes() == name);
        let letter = match name {
            [letter] => arg.get_short() == Some(char::from(*letter)),
            _ => false,
        };
        long || letter
    })
}

fn truth(name: &str, value: Option<&[u8]>) -> Result<bool> {
    match value {
        None | Some(b"" | b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(true),
        Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Ok(false),
        Some(value) => {
            let value = String::from_utf8_lossy(value);
            let why = format!("invalid value {value:?} for flag -{name}: parse error");
            Err(Error::rule(Doing::Command, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(line: &str) -> Vec<String> {
        let args: Vec<_> = line.split(' ').map(OsString::from).collect();
        let spelt = spell(&args).expect("spelt").into_iter();
        spelt.map(|arg| arg.into_string().expect("text")).collect()
    }

    #[test]
    fn one_dash_or_two_are_the_same() {
        let want = ["runc", "--root=/r", "list", "--format=json", "--quiet"];
        assert_eq!(spelt("runc -root /r list -format json -q"), want);
        assert_eq!(spelt("runc --root=/r list -f=json -quiet"), want);
    }

    #[test]
    fn switches_take_truth_values() {
        let want = ["runc", "run", "--detach", "id"];
        assert_eq!(spelt("runc --debug=false run --detach=1 --keep=F id"), want);
        let args = ["runc", "run", "--keep=maybe"].map(OsString::from);
        assert!(spell(&args).is_err());
    }

    #[test]
    fn words_of_a_program_are_left_alone() {
        let line = "runc exec --tty=true id ls -root --tty=false";
        let want = ["runc", "exec", "--tty", "id", "ls", "-root", "--tty=false"];
        assert_eq!(spelt(line), want);
        assert_eq!(spelt("runc kill id -9"), ["runc", "kill", "id", "-9"]);
        let env = ["runc", "exec", "--env=A=b", "--env=-c", "id", "x"];
        assert_eq!(spelt("runc exec -e A=b --env=-c id x"), env);
    }

    #[test]
    fn a_usual_line_and_an_unknown_flag_pass_unchanged() {
        for line in ["runc --root /r exec -p f --detach id", "runc list -frob"] {
            assert_eq!(spelt(line), line.split(' ').collect::<Vec<_>>());
        }
    }
}
