//! Tests: programs against [`super::meaning`], sizes, flags and refusals.
#![forbid(unsafe_code)]

use super::*;
use crate::confine::seccomp::features;

/// Compares every verdict of a profile with its meaning; says how many there were.
fn compare(json: &str, abis: &[Abi]) -> usize {
    let profile = profile(json);
    let planned = Seccomp::plan(&profile, &mut Vec::new()).unwrap();
    let mut compared = 0;
    for abi in abis {
        for call in calls(&profile, *abi) {
            let want = meaning::action(&profile, *abi, call.number, &call.args);
            assert_eq!(run(planned.program(), &call).0, want, "{abi:?} {call:x?}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn dockers_profile_means_what_it_says() {
    let compared = compare(&docker(), &[Abi::X86_64, Abi::X86, Abi::X32]);
    println!("{compared} verdicts compared with the profile's meaning");
}

#[test]
fn dockers_profile_is_small_and_quick() {
    let planned = plan(&docker());
    let mut longest = 0;
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for number in numbers(abi) {
            let call = Call {
                arch: abi.audit(),
                number,
                args: [0; 6],
            };
            longest = longest.max(run(planned.program(), &call).1);
        }
    }
    let profile = profile(&docker());
    let times = (0..200).map(|_| {
        let start = std::time::Instant::now();
        let planned = Seccomp::plan(&profile, &mut Vec::new()).unwrap();
        assert!(!planned.program().is_empty());
        start.elapsed()
    });
    println!(
        "{} instructions, longest path {longest}, planned in {:?}, unknown {:?}",
        planned.program().len(),
        times.min().unwrap(),
        planned.unknown(),
    );
    assert!(
        planned.program().len() <= 420,
        "{}",
        planned.program().len()
    );
    assert!(longest <= 40, "{longest}");
}

#[test]
fn every_operator_compares_as_the_spec_says() {
    let mut compared = 0;
    for op in features::operators() {
        for value in [0, 5, 0xffff_ffff, 0x1234_5678_9abc_def0, u64::MAX] {
            for default in ["ALLOW", "ERRNO"] {
                let action = if default == "ALLOW" { "ERRNO" } else { "ALLOW" };
                let entry = format!(
                    r#"{{"names": ["read", "ioctl"], "action": "SCMP_ACT_{action}", "args":
                    [{{"index": 3, "op": "{op}", "value": {value}, "valueTwo": 4294967303}}]}}"#
                );
                compared += compare(&with(default, &entry), &[Abi::X86_64, Abi::X86, Abi::X32]);
            }
        }
    }
    println!("{compared} verdicts compared with the operators' meaning");
}

const RULES: [&str; 9] = [
    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#,
    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"},
       {"names": ["read"], "action": "SCMP_ACT_TRAP"}"#,
    r#"{"names": ["write"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]},
       {"names": ["write", "nonsense"], "action": "SCMP_ACT_LOG"}"#,
    r#"{"names": ["openat2", "socket"], "action": "SCMP_ACT_TRACE", "errnoRet": 77, "args": [
        {"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 2, "op": "SCMP_CMP_NE", "value": 3}]}"#,
    r#"{"names": ["ioctl", "socket", "shmat"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 1, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 3},
        {"index": 0, "op": "SCMP_CMP_GT", "value": 100}]}"#,
    r#"{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 1, "op": "SCMP_CMP_LE", "value": 5}]},
       {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 1, "op": "SCMP_CMP_GE", "value": 500000000000}]},
       {"names": ["execve", "accept", "send"], "action": "SCMP_ACT_KILL_PROCESS"}"#,
    r#"{"names": ["socketcall", "ipc"], "action": "SCMP_ACT_ALLOW"},
       {"names": ["bind", "msgget"], "action": "SCMP_ACT_KILL_THREAD"}"#,
    r#"{"names": ["cacheflush", "statx", "arm_fadvise64_64"], "action": "SCMP_ACT_LOG"}"#,
    r#"{"names": [], "action": "SCMP_ACT_KILL_PROCESS"}"#,
];

#[test]
fn crafted_profiles_mean_what_they_say() {
    let mut compared = 0;
    let defaults = [
        "ALLOW",
        "ERRNO",
        "KILL",
        "KILL_PROCESS",
        "KILL_THREAD",
        "TRAP",
        "LOG",
        "TRACE",
    ];
    for default in defaults {
        for rules in RULES {
            let arms = r#""SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64""#;
            let json = with(default, rules).replace(r#""SCMP_ARCH_X32""#, arms);
            compared += compare(&json, &ABIS);
        }
    }
    println!("{compared} verdicts compared with the profiles' meaning");
}

#[test]
fn architectures_that_are_not_listed_are_killed() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
    let planned = plan(json);
    let verdict = |arch, number| {
        run(
            planned.program(),
            &Call {
                arch,
                number,
                args: [0; 6],
            },
        )
        .0
    };
    for number in [0, 11, 0xffff_ffff] {
        assert_eq!(verdict(0x4000_0003, number), libc::SECCOMP_RET_KILL_THREAD);
        assert_eq!(verdict(0xc000_00b7, number), libc::SECCOMP_RET_KILL_THREAD);
    }
    for number in [
        X32_BIT,
        X32_BIT | 520,
        0x8000_0000,
        0xc000_0000,
        0xffff_fffe,
    ] {
        assert_eq!(verdict(0xc000_003e, number), libc::SECCOMP_RET_KILL_THREAD);
    }
    for number in [0, 1023, 0x3fff_ffff, 0xffff_ffff] {
        assert_eq!(verdict(0xc000_003e, number), libc::SECCOMP_RET_ALLOW);
    }
}

#[test]
fn a_far_verdict_is_reached() {
    // Each of many syscalls has a long check of its own: jumps beyond 255 instructions abound.
    let mut rules = Vec::new();
    for (at, name) in ["read", "write", "close", "fstat", "mmap", "ioctl", "statx"]
        .iter()
        .enumerate()
    {
        for value in 0..40 {
            rules.push(format!(
                r#"{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW", "args":
                [{{"index": {}, "op": "SCMP_CMP_EQ", "value": {}}}]}}"#,
                at % 6,
                value * 3 + at,
            ));
        }
    }
    let json = with("ERRNO", &rules.join(","));
    assert!(plan(&json).program().len() > 1000);
    compare(&json, &[Abi::X86_64, Abi::X86, Abi::X32]);
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_refused() {
    let rules: Vec<String> = (0..2000)
        .map(|value| {
            format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args":
                [{{"index": 0, "op": "SCMP_CMP_EQ", "value": {value}}}]}}"#
            )
        })
        .collect();
    let text = refusal(&with("ERRNO", &rules.join(",")));
    assert!(text.contains("the kernel takes at most 4096"), "{text}");
}

#[test]
fn notifications_need_an_agent_and_spare_write() {
    let notify = |names: &str| format!(r#"{{"names": [{names}], "action": "SCMP_ACT_NOTIFY"}}"#);
    let text = refusal(&with("ALLOW", &notify(r#""mkdir""#)));
    assert!(text.contains("seccomp listenerPath is not set"), "{text}");
    let text = refusal(&with("ALLOW", &notify(r#""mkdir", "write""#)));
    assert!(
        text.contains("SCMP_ACT_NOTIFY cannot be used for the write syscall"),
        "{text}"
    );
    let text = refusal(&with("NOTIFY", ""));
    assert!(
        text.contains("SCMP_ACT_NOTIFY cannot be used as default action"),
        "{text}"
    );
    let json = with("ALLOW", &notify(r#""mkdir""#));
    let json = json.replacen('{', r#"{"listenerPath": "/agent", "#, 1);
    let planned = plan(&json);
    assert!(planned.listener().is_some());
    assert_eq!(planned.flags(), 4 | 8);
    let call = Call {
        arch: 0xc000_003e,
        number: 83,
        args: [0; 6],
    };
    assert_eq!(
        run(planned.program(), &call).0,
        libc::SECCOMP_RET_USER_NOTIF
    );
    let planned = plan(&with("ALLOW", "").replacen('{', r#"{"listenerPath": "/agent", "#, 1));
    assert!(planned.listener().is_none());
}

#[test]
fn flags_are_runcs() {
    let flags =
        |list: &str| plan(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{list}}}"#)).flags();
    assert_eq!(flags(""), 4);
    assert_eq!(flags(r#", "flags": []"#), 0);
    assert_eq!(flags(r#", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]"#), 0);
    let both = r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#;
    assert_eq!(flags(both), 6);
    let waits = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}"#;
    assert_eq!(plan(waits).flags(), 40);
    let mut warnings = Vec::new();
    let alone = waits.replace("NOTIFY", "ERRNO");
    let planned = Seccomp::plan(&profile(&alone), &mut warnings).unwrap();
    assert_eq!(planned.flags(), 0);
    assert!(
        warnings[0].contains("linux.seccomp.flags[0]"),
        "{warnings:?}"
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_field() {
    let text = refusal(&with(
        "ERRNO",
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}"#,
    ));
    assert!(
        text.contains("syscalls[0].errnoRet") && text.contains("SCMP_ACT_ALLOW"),
        "{text}"
    );
    let text = refusal(&with(
        "ERRNO",
        r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536}"#,
    ));
    assert!(text.contains("65536"), "{text}");
    let text = refusal(&with(
        "ERRNO",
        r#"{"names": [""], "action": "SCMP_ACT_ALLOW"}"#,
    ));
    assert!(text.contains("syscalls[0].names"), "{text}");
    let arg = r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]}"#;
    let text = refusal(&with("ERRNO", arg));
    assert!(
        text.contains("syscalls[0].args") && text.contains("no argument 6"),
        "{text}"
    );
}

#[test]
fn every_architecture_that_features_names_is_taken_without_a_word() {
    for arch in features::archs() {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["{arch}"],
                "syscalls": [{{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        );
        let mut warnings = Vec::new();
        assert!(
            Seccomp::plan(&profile(&json), &mut warnings).is_ok(),
            "{arch}"
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn this_kernel_has_what_features_says() {
    assert_eq!(features::actions().len(), 9);
    let flags = features::supported_flags();
    assert!(flags.contains(&"SECCOMP_FILTER_FLAG_LOG"), "{flags:?}");
}
