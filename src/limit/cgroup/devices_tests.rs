//! The device rules, checked against a naive reading of them and by running the programs.
#![forbid(unsafe_code)]

use super::*;

fn rule(allow: bool, typ: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        typ: typ.into(),
        major: (major >= 0).then_some(major),
        minor: (minor >= 0).then_some(minor),
        access: access.into(),
    }
}

/// The spec, read aloud: for each bit the last rule about it decides.
fn naive(rules: &[DeviceRule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let mut all: Vec<Rule> = rules.iter().map(|rule| read(rule).unwrap()).collect();
    all.extend(ALWAYS.iter().map(|&(kind, major, minor, access)| Rule {
        on: Match {
            kind: Some(kind),
            major,
            minor,
        },
        access,
        allow: true,
    }));
    let device = Match {
        kind: Some(kind),
        major: Some(major),
        minor: Some(minor),
    };
    [MKNOD, READ, WRITE]
        .iter()
        .filter(|bit| access & **bit != 0)
        .all(|bit| {
            let last = all
                .iter()
                .rev()
                .find(|rule| rule.on.covers(device) && rule.access & bit != 0);
            last.is_some_and(|rule| rule.allow)
        })
}

/// Runs a program as the kernel would.
fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let context = [kind as u32 | u32::from(access) << 16, major, minor];
    let mut registers = [0_u32; 11];
    let mut at = 0_usize;
    for _ in 0..10_000 {
        let Instruction {
            code,
            registers: pair,
            offset,
            immediate,
        } = program[at];
        let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
        let immediate = immediate.cast_unsigned();
        at += 1;
        let jump = match code {
            LOAD => {
                registers[to] = context[usize::try_from(offset).unwrap() / 4];
                false
            }
            COPY => {
                registers[to] = registers[from];
                false
            }
            SET => {
                registers[to] = immediate;
                false
            }
            AND => {
                registers[to] &= immediate;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= immediate;
                false
            }
            JUMP => true,
            JUMP_NOT_EQUAL => registers[to] != immediate,
            JUMP_ANY_BIT => registers[to] & immediate != 0,
            EXIT => return registers[0] != 0,
            other => panic!("unknown operation {other:#x}"),
        };
        if jump {
            at = at.checked_add_signed(isize::from(offset)).unwrap();
        }
    }
    panic!("the program does not end");
}

/// What the v1 controller would decide (security/device_cgroup.c).
fn run_v1(lines: &[(&str, String)], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let mut default = true;
    let mut exceptions = Vec::new();
    for (file, line) in lines {
        let allow = *file == "devices.allow";
        if line == "a" {
            default = allow;
            exceptions.clear();
        } else {
            assert_ne!(
                allow, default,
                "only exceptions to the default are written: {line}"
            );
            let fields: Vec<&str> = line.split([' ', ':']).collect();
            let number = |text: &str| text.parse().ok();
            let kind = if fields[0] == "b" {
                Kind::Block
            } else {
                Kind::Char
            };
            let on = Match {
                kind: Some(kind),
                major: number(fields[1]),
                minor: number(fields[2]),
            };
            let letters = [('m', MKNOD), ('r', READ), ('w', WRITE)];
            let bits = letters
                .iter()
                .filter(|(letter, _)| fields[3].contains(*letter));
            exceptions.push((on, bits.fold(0, |sum, (_, bit)| sum | bit)));
        }
    }
    let device = Match {
        kind: Some(kind),
        major: Some(major),
        minor: Some(minor),
    };
    let mut matching = exceptions.iter().filter(|one| one.0.covers(device));
    if default {
        !matching.any(|one| one.1 & access != 0)
    } else {
        matching.any(|one| access & !one.1 == 0)
    }
}

fn lists() -> Vec<(&'static str, Vec<DeviceRule>)> {
    vec![
        ("nothing said", vec![]),
        (
            "the default of `spec`",
            vec![rule(false, "", -1, -1, "rwm")],
        ),
        ("privileged", vec![rule(true, "a", -1, -1, "rwm")]),
        (
            "docker --device",
            vec![
                rule(false, "a", -1, -1, "rwm"),
                rule(true, "c", -1, -1, "m"),
                rule(true, "b", -1, -1, "m"),
                rule(true, "c", 1, 3, "rwm"),
                rule(true, "b", 8, 0, "r"),
                rule(true, "c", 10, 229, "rw"),
            ],
        ),
        (
            "all but some",
            vec![
                rule(true, "a", -1, -1, "rwm"),
                rule(false, "b", 8, -1, "w"),
                rule(false, "c", 10, 229, "rwm"),
            ],
        ),
        (
            "allowed and taken back",
            vec![
                rule(true, "b", 8, 0, "rwm"),
                rule(true, "b", 9, 1, "rw"),
                rule(false, "b", 8, 0, "w"),
                rule(false, "b", 9, -1, ""),
            ],
        ),
        (
            "all types, one access",
            vec![rule(true, "a", -1, -1, "r"), rule(false, "a", 8, -1, "r")],
        ),
        (
            "a hole in a wildcard",
            vec![rule(true, "b", 8, -1, "rw"), rule(false, "b", 8, 1, "w")],
        ),
    ]
}

fn every_access(mut check: impl FnMut(Kind, u32, u32, u8)) {
    for kind in [Kind::Block, Kind::Char] {
        for major in [0, 1, 5, 8, 9, 10, 136, u32::MAX] {
            for minor in [0, 1, 2, 3, 200, 229] {
                for access in 1..=ALL {
                    check(kind, major, minor, access);
                }
            }
        }
    }
}

#[test]
fn the_program_decides_as_the_rules_say() {
    for (name, rules) in lists() {
        let program = Policy::plan(&rules).unwrap().program();
        every_access(|kind, major, minor, access| {
            assert_eq!(
                run(&program, kind, major, minor, access),
                naive(&rules, kind, major, minor, access),
                "{name}: {kind:?} {major}:{minor} {access}"
            );
        });
    }
}

#[test]
fn the_v1_lines_decide_as_the_rules_say_or_are_refused() {
    let mut refused = Vec::new();
    for (name, rules) in lists() {
        match Policy::plan(&rules).unwrap().lines() {
            Ok(lines) => every_access(|kind, major, minor, access| {
                // The kernel asks for the making of a node alone.
                if access & MKNOD != 0 && access != MKNOD {
                    return;
                }
                assert_eq!(
                    run_v1(&lines, kind, major, minor, access),
                    naive(&rules, kind, major, minor, access),
                    "{name}: {kind:?} {major}:{minor} {access} {lines:?}"
                );
            }),
            Err(_) => refused.push(name),
        }
    }
    assert_eq!(refused, ["all types, one access", "a hole in a wildcard"]);
}

#[test]
fn privileged_is_one_line_and_two_instructions_of_verdict() {
    let policy = Policy::plan(&[rule(true, "", -1, -1, "rwm")]).unwrap();
    assert!(policy.allows_all());
    assert_eq!(policy.lines().unwrap(), [("devices.allow", "a".into())]);
    assert_eq!(policy.program().len(), 8);
}

#[test]
fn v1_lines_read_as_the_kernel_wants_them() {
    let lines = Policy::plan(&[rule(true, "b", 8, -1, "wr")])
        .unwrap()
        .lines()
        .unwrap();
    let text: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(text[..4], ["a", "b 8:* rw", "c *:* m", "b *:* m"]);
    assert_eq!(lines.len(), 13);
}

#[test]
fn bad_rules_are_refused_by_their_place() {
    for bad in [
        rule(true, "p", 1, 1, "r"),
        rule(true, "c", 1, 1, "x"),
        rule(true, "c", 1 << 40, 1, "r"),
        DeviceRule {
            major: Some(-2),
            ..rule(true, "c", 1, 1, "r")
        },
    ] {
        let error = Policy::plan(&[rule(true, "c", 1, 1, ""), bad])
            .unwrap_err()
            .to_string();
        assert!(error.contains("(linux.resources.devices[1])"), "{error}");
    }
}
