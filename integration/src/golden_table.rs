//! What the golden comparison covers: every command and flag of the runtime's own help.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::golden::{Step, differences, folder, matches, sequences, steps};
use crate::lab::Lab;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Flags by command; the global ones are those of "".
type Flags = BTreeMap<String, BTreeSet<String>>;

/// Letters and the long flags they stand for, by command.
type Letters = BTreeMap<(String, String), String>;

/// The flags of the runtime, from its help.
fn flags_of(lab: &Lab) -> Result<(Flags, Letters)> {
    let (mut flags, mut letters) = (Flags::new(), Letters::new());
    let root = lab.call(&["--help"])?.ok()?.out;
    let commands = root.lines().skip_while(|line| *line != "COMMANDS:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let mut names: Vec<String> = commands
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    names.push(String::new());
    for name in names {
        let help = match name.as_str() {
            "" => root.clone(),
            name => lab.call(&[name, "--help"])?.ok()?.out,
        };
        let lines = help
            .lines()
            .skip_while(|line| !line.ends_with("OPTIONS:"))
            .skip(1);
        let own = flags.entry(name.clone()).or_default();
        for line in lines {
            let mut words = line.split([' ', ',']).filter(|word| word.starts_with('-'));
            let first = words.next().unwrap_or_default();
            let long = if first.starts_with("--") {
                first
            } else {
                words.next().unwrap_or_default()
            };
            if long.is_empty() || long == "--help" {
                continue;
            }
            own.insert(long.to_owned());
            if first != long {
                letters.insert((name.clone(), first.to_owned()), long.to_owned());
            }
        }
    }
    Ok((flags, letters))
}

/// The calls of a step: command and flags. What stands before the command is global.
fn calls(step: &Step, flags: &Flags, letters: &Letters) -> Vec<(String, String)> {
    let mut calls = Vec::new();
    let text = step.shell.replace("\"$@\"", " ");
    for call in text.split("$R").skip(1) {
        // `$RUN` is one, too.
        let words = call.strip_prefix("UN").unwrap_or(call).split_whitespace();
        let mut command = String::new();
        for word in words.map(|word| word.trim_end_matches(';')) {
            if command.is_empty() && flags.contains_key(word) && !word.is_empty() {
                command = word.to_owned();
                calls.push((command.clone(), String::new()));
            } else if [";", "|", "&&", "||"].contains(&word) {
                break;
            } else if word.starts_with('-') {
                let name = word.split('=').next().unwrap_or_default();
                let dashes = if name.len() > 2 && !name.starts_with("--") {
                    "-"
                } else {
                    ""
                };
                let key = (command.clone(), name.to_owned());
                let long = letters
                    .get(&key)
                    .cloned()
                    .unwrap_or(format!("{dashes}{name}"));
                calls.push((command.clone(), long));
            }
        }
    }
    // The prelude gives each a root.
    calls.push((String::new(), "--root".to_owned()));
    calls
}

/// The table, and the flags that nothing covers and no line excuses.
pub fn table(lab: &Lab) -> Result<(String, Vec<String>)> {
    let (flags, letters) = flags_of(lab)?;
    let listed = differences()?;
    let excuses = std::fs::read_to_string(folder().join("uncovered.txt"))?;
    let excuses: Vec<&str> = excuses
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": ").map(|(flag, _)| flag))
        .collect();
    let mut used: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut steps_of: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for sequence in sequences()? {
        for step in steps(&sequence)? {
            let calls: BTreeSet<_> = calls(&step, &flags, &letters).into_iter().collect();
            let key = format!("{sequence} / {} / *", step.name);
            let differs = listed.keys().any(|line| {
                matches(line, &key) || {
                    let (line, _) = line.rsplit_once(" / ").unwrap_or((line, ""));
                    matches(&format!("{line} / *"), &key)
                }
            });
            let commands: BTreeSet<_> = calls.iter().map(|(command, _)| command.clone()).collect();
            for command in commands {
                let count = steps_of.entry(command).or_default();
                count.0 += 1;
                count.1 += usize::from(differs);
            }
            for call in calls {
                *used.entry(call).or_default() += 1;
            }
        }
    }
    let mut text = String::from("command     flags  covered  excused  steps  equal  listed\n");
    let mut missing = Vec::new();
    for (command, own) in &flags {
        let (mut covered, mut excused) = (0, 0);
        for flag in own {
            let name = format!("{command} {flag}");
            if used.contains_key(&(command.clone(), flag.clone())) {
                covered += 1;
            } else if excuses.contains(&name.trim())
                || excuses.contains(&format!("{command} *").as_str())
            {
                excused += 1;
            } else {
                missing.push(name);
            }
        }
        let (steps, listed) = steps_of.get(command).copied().unwrap_or_default();
        let name = if command.is_empty() {
            "(global)"
        } else {
            command
        };
        writeln!(
            text,
            "{name:<10} {:>6} {covered:>8} {excused:>8} {steps:>6} {:>6} {listed:>7}",
            own.len(),
            steps - listed
        )?;
        if steps == 0 && !excuses.contains(&format!("{command} *").as_str()) {
            missing.push(command.clone());
        }
    }
    Ok((text, missing))
}
