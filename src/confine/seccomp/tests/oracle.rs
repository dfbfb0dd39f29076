//! Tests: libseccomp's opinion, where python3-seccomp is installed, by way of `hack/seccomp-oracle`.
#![forbid(unsafe_code)]

use super::*;
use crate::confine::seccomp::{features, names};
use seccompiler::sock_filter;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/seccomp-oracle");

struct Oracle(Child, BufReader<std::process::ChildStdout>);

impl Oracle {
    /// Asks for nothing first, to see whether anybody answers.
    fn open() -> Option<Self> {
        for python in ["python3", "/usr/bin/python3"] {
            let (input, output) = (Stdio::piped(), Stdio::piped());
            let spawned = Command::new(python)
                .arg(ORACLE)
                .stdin(input)
                .stdout(output)
                .spawn();
            let Ok(mut child) = spawned else { continue };
            let answers = BufReader::new(child.stdout.take().unwrap());
            let mut oracle = Self(child, answers);
            if oracle.try_ask(&json!({"tables": []})).is_some() {
                return Some(oracle);
            }
        }
        println!("SKIP: no python3-seccomp to compare with");
        None
    }

    fn try_ask(&mut self, request: &Value) -> Option<Value> {
        writeln!(self.0.stdin.as_mut()?, "{request}").ok()?;
        let mut line = String::new();
        self.1.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.try_ask(request).unwrap()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

const NAMED: [(&str, Abi); 5] = [
    ("x86_64", Abi::X86_64),
    ("x86", Abi::X86),
    ("x32", Abi::X32),
    ("arm", Abi::Arm),
    ("aarch64", Abi::Aarch64),
];

#[test]
fn names_have_libseccomps_numbers() {
    let Some(mut oracle) = Oracle::open() else {
        return;
    };
    let abis: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
    let tables = oracle.ask(&json!({"tables": abis}));
    let (mut compared, mut newer) = (0, 0);
    for (abi, ours) in NAMED {
        let table = tables[abi].as_object().unwrap();
        for (name, number) in table {
            let found = names::find(name).and_then(|numbers| numbers.on(ours));
            assert_eq!(found.map(u64::from), number.as_u64(), "{name} on {abi}");
            compared += 1;
        }
        for name in names::all() {
            let Some(number) = names::find(name).unwrap().on(ours) else {
                continue;
            };
            if !table.contains_key(name) {
                // Only what came after libseccomp's tables may be ours alone.
                let bare = number & !X32_BIT;
                assert!(
                    bare > 440 || YOUNG.contains(&name),
                    "{name} on {abi}: {number}"
                );
                newer += 1;
            }
        }
    }
    println!("{compared} names have libseccomp's number; {newer} are newer than it");
}

/// New syscalls in old holes of the table.
const YOUNG: [&str; 2] = ["uretprobe", "uprobe"];
/// In x32 according to newer tables of libseccomp, not in it according to older ones.
const UNSETTLED: &str = "map_shadow_stack";

/// What `compare` saw.
#[derive(Default)]
struct Count {
    profiles: usize,
    refused: usize,
    verdicts: usize,
    enosys: usize,
    forgotten: usize,
    lost: usize,
    different: usize,
}

/// Compares a profile's verdicts, less the names that libseccomp is too old for.
fn compare(oracle: &mut Oracle, json: &str, count: &mut Count) {
    let mut request: Value = serde_json::from_str(json).unwrap();
    let first = oracle.ask(&json!({"profile": request}));
    count.profiles += 1;
    if first.get("error").is_some() {
        // Rules that contradict each other: an error there, the first match here.
        count.refused += 1;
        return;
    }
    let unknown = first["unknown"].as_array().unwrap();
    for entry in request["syscalls"].as_array_mut().unwrap() {
        let names = entry["names"].as_array_mut().unwrap();
        names.retain(|name| !unknown.contains(name) && name != UNSETTLED);
    }
    let first = oracle.ask(&json!({"profile": request}));
    let number = |value: &Value| value.as_u64().unwrap();
    let instruction = |one: &Value| sock_filter {
        code: number(&one[0]) as u16,
        jt: number(&one[1]) as u8,
        jf: number(&one[2]) as u8,
        k: number(&one[3]) as u32,
    };
    let theirs: Vec<_> = first["program"]
        .as_array()
        .unwrap()
        .iter()
        .map(instruction)
        .collect();
    let text = request.to_string();
    let ours = plan(&text);
    let default = profile(&text).default_action();
    let permissive = matches!(default.as_u32(None) >> 16, 0x7fff | 0x7ffc | 0x7ff0);
    for (name, abi) in NAMED {
        let newest = first["newest"][name]
            .as_i64()
            .filter(|newest| *newest > 0 && !permissive);
        for call in calls(&profile(&text), abi) {
            if machine::forgets(&theirs, &call) {
                count.forgotten += 1;
                continue;
            }
            let mut want = run(&theirs, &call).0;
            if newest.is_some_and(|newest| i64::from(call.number) > newest) {
                want = 0x0005_0000 | 38;
                count.enosys += 1;
            }
            let got = run(ours.program(), &call).0;
            // An alternative that libseccomp's tree does not get to, after an equality on the same
            // argument has matched: the rules say what ours says.
            let meant = || meaning::action(&profile(&text), abi, call.number, &call.args);
            if got != want && want == default.as_u32(None) && got == meant() {
                count.lost += 1;
                continue;
            }
            if got != want && count.different < 5 {
                println!("{name} {call:x?}: {got:#x}, libseccomp {want:#x}\n{text}");
            }
            count.different += usize::from(got != want);
            count.verdicts += 1;
        }
    }
}

fn report(count: &Count) {
    println!(
        "{} profiles ({} contradict themselves): {} verdicts compared with libseccomp's, {} of them \
         of syscalls newer than the profile; {} not compared, as its program is faulty there; \
         {} matches lost by it; {} differ",
        count.profiles,
        count.refused,
        count.verdicts,
        count.enosys,
        count.forgotten,
        count.lost,
        count.different,
    );
    assert!(count.lost <= 1, "{} lost", count.lost);
    assert_eq!(count.different, 0);
}

#[test]
fn libseccomp_agrees_on_dockers_profile() {
    let Some(mut oracle) = Oracle::open() else {
        return;
    };
    let mut count = Count::default();
    compare(&mut oracle, &docker(), &mut count);
    report(&count);
}

/// A small generator: the same profiles in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

/// A profile whose rules all have the one action, unless `mixed`.
fn random(dice: &mut Dice, mixed: bool) -> String {
    let actions = [
        "ALLOW",
        "ERRNO",
        "KILL",
        "KILL_PROCESS",
        "TRAP",
        "LOG",
        "TRACE",
    ];
    let names = [
        "read",
        "write",
        "open",
        "ioctl",
        "execve",
        "socket",
        "accept",
        "accept4",
        "recvfrom",
        "shmat",
        "semop",
        "socketcall",
        "ipc",
        "mmap2",
        "mmap",
        "clone",
        "personality",
        "statx",
        "clone3",
        "cacheflush",
        "newfstatat",
        "preadv",
        "no_such_call",
        "rt_sigreturn",
        "break",
        "time",
    ];
    let values = [
        "0",
        "1",
        "5",
        "38",
        "4294967295",
        "4294967296",
        "4294967301",
        "21474836480",
        "18446744073709551615",
    ];
    let default = dice.pick(&actions);
    let one = dice.pick(&actions);
    let mut entries = Vec::new();
    // libseccomp loses matches where two bounds on one 64-bit argument meet in its tree: a bound is
    // used once.
    let mut bounded = Vec::new();
    for _ in 0..=dice.roll(7) {
        let action = if mixed { dice.pick(&actions) } else { one };
        let listed: Vec<String> = (0..=dice.roll(3))
            .map(|_| format!("\"{}\"", dice.pick(&names)))
            .collect();
        let mut args = Vec::new();
        for _ in 0..dice.roll(4) {
            let (index, mut op) = (dice.roll(3), dice.pick(features::operators()));
            if op.contains("_G") || op.contains("_L") {
                if bounded.contains(&index) {
                    op = "SCMP_CMP_EQ";
                }
                bounded.push(index);
            }
            args.push(format!(
                r#"{{"index": {index}, "op": "{op}", "value": {}, "valueTwo": {}}}"#,
                dice.pick(&values),
                dice.pick(&values),
            ));
        }
        let (listed, args) = (listed.join(","), args.join(","));
        entries.push(format!(
            r#"{{"names": [{listed}], "action": "SCMP_ACT_{action}", "args": [{args}]}}"#
        ));
    }
    // libseccomp forgets to load the number in some programs for architectures that this machine
    // cannot have; they have their own test of meaning.
    let archs = ["X86", "X32", "X86_64"];
    let archs: Vec<String> = archs
        .iter()
        .filter(|_| dice.roll(2) == 0)
        .map(|arch| format!("\"SCMP_ARCH_{arch}\""))
        .collect();
    format!(
        r#"{{"defaultAction": "SCMP_ACT_{default}", "architectures": [{}], "syscalls": [{}]}}"#,
        archs.join(","),
        entries.join(","),
    )
}

#[test]
fn libseccomp_agrees_on_random_profiles() {
    let Some(mut oracle) = Oracle::open() else {
        return;
    };
    let (mut dice, mut count) = (Dice(1), Count::default());
    for _ in 0..100 {
        compare(&mut oracle, &random(&mut dice, false), &mut count);
    }
    report(&count);
}

#[test]
fn libseccomp_agrees_on_what_rules_with_different_actions_mean() {
    let Some(mut oracle) = Oracle::open() else {
        return;
    };
    let (mut dice, mut count) = (Dice(2), Count::default());
    for _ in 0..100 {
        compare(&mut oracle, &random(&mut dice, true), &mut count);
    }
    report(&count);
}
