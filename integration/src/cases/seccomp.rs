//! Seccomp profiles, as the container's system calls feel them.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::status_line;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};

cases! {
    seccomp_errno_defaults_to_eperm,
    seccomp_errno_returns_the_given_number,
    seccomp_default_errno_is_returned,
    seccomp_allows_what_is_listed,
    seccomp_kill_kills,
    seccomp_kill_process_kills,
    seccomp_trap_sends_sigsys,
    seccomp_log_lets_the_call_pass,
    seccomp_trace_without_a_tracer_is_enosys,
    seccomp_compares_arguments,
    seccomp_compares_with_a_mask,
    seccomp_conditions_of_one_rule_all_hold,
    seccomp_rules_of_one_call_are_alternatives,
    seccomp_compares_all_64_bits,
    seccomp_takes_several_architectures,
    seccomp_works_without_no_new_privileges,
    seccomp_ignores_calls_unknown_to_the_architecture,
    seccomp_mode_shows_in_status,
    seccomp_reaches_exec,
    seccomp_flags_are_accepted,
    seccomp_of_only_a_default_allow_changes_nothing,
    seccomp_does_not_hinder_the_runtime_itself,
    a_profile_older_than_close_range_works,
    a_profile_may_refuse_getcwd,
}

/// Everything is allowed but what the rules say.
fn with(lab: &Lab, script: &str, rules: Value) -> Result<Bundle> {
    let mut bundle = lab.script(script)?;
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    bundle.set("/linux/seccomp", profile)?;
    Ok(bundle)
}

fn rule(names: &[&str], action: &str) -> Value {
    json!([{"names": names, "action": action}])
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];
const TRY: &str = "mkdir /tmp/made 2>&1; echo end";

fn seccomp_errno_defaults_to_eperm(lab: &Lab) -> Result {
    let told = lab.told(&with(lab, TRY, rule(&MKDIR, "SCMP_ACT_ERRNO"))?)?;
    check!(told.contains("Operation not permitted"), "{told}");
    Ok(())
}

fn seccomp_errno_returns_the_given_number(lab: &Lab) -> Result {
    let rules = json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
    let told = lab.told(&with(lab, TRY, rules)?)?;
    check!(told.contains("No space left on device"), "{told}");
    Ok(())
}

/// What busybox's shell and its applets need, so that a default of refusal can be tried.
fn all_but_mkdir() -> Value {
    json!([{"action": "SCMP_ACT_ALLOW", "names": [
        "access", "arch_prctl", "brk", "capget", "capset", "chdir", "clock_gettime", "clone",
        "clone3", "close", "close_range", "dup", "dup2", "dup3", "epoll_create1", "epoll_ctl",
        "epoll_pwait", "eventfd2", "execve", "exit", "exit_group", "faccessat", "faccessat2",
        "fchdir", "fchown", "fcntl", "fork", "fstat", "fstatfs", "futex", "getcwd", "getdents64",
        "getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid", "getrandom", "getrlimit",
        "gettid", "getuid", "ioctl", "lseek", "lstat", "madvise", "mmap", "mprotect", "munmap",
        "nanosleep", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "poll", "prctl",
        "pread64", "prlimit64", "read", "readlink", "readlinkat", "rseq", "rt_sigaction",
        "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "sched_getaffinity", "sched_yield",
        "seccomp", "sendmsg", "set_robust_list", "set_tid_address", "setgid", "setgroups",
        "setpgid", "setresgid", "setresuid", "setsid", "setuid", "sigaltstack", "socketpair",
        "stat", "statfs", "statx", "tgkill", "umask", "uname", "unlink", "vfork", "wait4", "write",
        "writev"
    ]}])
}

fn strict(lab: &Lab, script: &str, extra: Value) -> Result<Bundle> {
    let mut bundle = lab.script(script)?;
    let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": all_but_mkdir()});
    for (key, value) in extra.as_object().into_iter().flatten() {
        profile[key] = value.clone();
    }
    bundle.set("/linux/seccomp", profile)?;
    Ok(bundle)
}

fn seccomp_default_errno_is_returned(lab: &Lab) -> Result {
    let told = lab.told(&strict(lab, TRY, json!({"defaultErrnoRet": 30}))?)?;
    check!(told.contains("Read-only file system"), "{told}");
    Ok(())
}

fn seccomp_allows_what_is_listed(lab: &Lab) -> Result {
    let told = lab.told(&strict(lab, TRY, json!({}))?)?;
    check!(
        told.contains("Operation not permitted") && told.ends_with("end\n"),
        "{told}"
    );
    Ok(())
}

fn signalled(lab: &Lab, action: &str) -> Result {
    let bundle = with(lab, "mkdir /tmp/made; echo $?", rule(&MKDIR, action))?;
    same!("status of mkdir", lab.told(&bundle)?, "159\n");
    check!(!bundle.inside("tmp/made").exists(), "the call went through");
    Ok(())
}

fn seccomp_kill_kills(lab: &Lab) -> Result {
    signalled(lab, "SCMP_ACT_KILL")
}

fn seccomp_kill_process_kills(lab: &Lab) -> Result {
    signalled(lab, "SCMP_ACT_KILL_PROCESS")
}

fn seccomp_trap_sends_sigsys(lab: &Lab) -> Result {
    signalled(lab, "SCMP_ACT_TRAP")
}

fn seccomp_log_lets_the_call_pass(lab: &Lab) -> Result {
    let bundle = with(lab, TRY, rule(&MKDIR, "SCMP_ACT_LOG"))?;
    same!("stdout", lab.told(&bundle)?, "end\n");
    check!(
        bundle.inside("tmp/made").exists(),
        "the call did not go through"
    );
    Ok(())
}

fn seccomp_trace_without_a_tracer_is_enosys(lab: &Lab) -> Result {
    let told = lab.told(&with(lab, TRY, rule(&MKDIR, "SCMP_ACT_TRACE"))?)?;
    check!(told.contains("Function not implemented"), "{told}");
    Ok(())
}

/// Whether `kill -N` of a process that is not there is refused by the filter; N is the argument
/// that the rules look at, and 0 is a question without effect.
fn refused(lab: &Lab, signal: u32, args: Value) -> Result<bool> {
    let rules =
        json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]);
    let script = format!("kill -{signal} 12345 2>&1; echo end");
    Ok(lab.told(&with(lab, &script, rules)?)?.contains("No space"))
}

fn seccomp_compares_arguments(lab: &Lab) -> Result {
    for (op, below, equal, above) in [
        ("EQ", false, true, false),
        ("NE", true, false, true),
        ("LT", true, false, false),
        ("LE", true, true, false),
        ("GT", false, false, true),
        ("GE", false, true, true),
    ] {
        for (signal, want) in [(9, below), (10, equal), (11, above)] {
            let args = json!([{"index": 1, "value": 10, "op": format!("SCMP_CMP_{op}")}]);
            same!(
                format!("{signal} {op} 10"),
                refused(lab, signal, args)?,
                want
            );
        }
    }
    Ok(())
}

fn seccomp_compares_with_a_mask(lab: &Lab) -> Result {
    for (signal, want) in [(9, true), (1, true), (8, false)] {
        let op = "SCMP_CMP_MASKED_EQ";
        // value is the mask, valueTwo what must be left
        let args = json!([{"index": 1, "value": 1, "valueTwo": 1, "op": op}]);
        same!(
            format!("{signal} & 1 == 1"),
            refused(lab, signal, args)?,
            want
        );
    }
    Ok(())
}

fn seccomp_conditions_of_one_rule_all_hold(lab: &Lab) -> Result {
    for (pid, want) in [(12345, true), (12346, false)] {
        let args = json!([
            {"index": 0, "value": pid, "op": "SCMP_CMP_EQ"},
            {"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}
        ]);
        same!(format!("pid {pid}"), refused(lab, 10, args)?, want);
    }
    Ok(())
}

fn seccomp_rules_of_one_call_are_alternatives(lab: &Lab) -> Result {
    let one = |value: u32| {
        json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
            "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let script = "for s in 9 10 12; do kill -$s 12345 2>&1; done; echo end";
    let told = lab.told(&with(lab, script, json!([one(9), one(12)]))?)?;
    same!("refused", told.matches("No space").count(), 2);
    Ok(())
}

fn seccomp_compares_all_64_bits(lab: &Lab) -> Result {
    // 10 in the low half must not match a value that differs in the high half.
    let value = (1_u64 << 32) + 10;
    let args = json!([{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]);
    same!("high half", refused(lab, 10, args)?, false);
    let args = json!([{"index": 1, "value": value, "op": "SCMP_CMP_LT"}]);
    same!("less", refused(lab, 11, args)?, true);
    Ok(())
}

fn seccomp_takes_several_architectures(lab: &Lab) -> Result {
    let mut bundle = with(lab, TRY, rule(&MKDIR, "SCMP_ACT_ERRNO"))?;
    let archs = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    bundle.set("/linux/seccomp/architectures", archs)?;
    let told = lab.told(&bundle)?;
    check!(told.contains("Operation not permitted"), "{told}");
    Ok(())
}

fn seccomp_works_without_no_new_privileges(lab: &Lab) -> Result {
    let mut bundle = with(lab, TRY, rule(&MKDIR, "SCMP_ACT_ERRNO"))?;
    bundle.set("/process/noNewPrivileges", false)?;
    let told = lab.told(&bundle)?;
    check!(told.contains("Operation not permitted"), "{told}");
    Ok(())
}

fn seccomp_ignores_calls_unknown_to_the_architecture(lab: &Lab) -> Result {
    let rules = rule(
        &["mkdir", "mkdirat", "s390_runtime_instr", "no_such_call"],
        "SCMP_ACT_ERRNO",
    );
    let told = lab.told(&with(lab, TRY, rules)?)?;
    check!(told.contains("Operation not permitted"), "{told}");
    Ok(())
}

fn seccomp_mode_shows_in_status(lab: &Lab) -> Result {
    let bundle = with(lab, "exec sleep 1000", rule(&MKDIR, "SCMP_ACT_ERRNO"))?;
    let container = lab.started(&bundle)?;
    same!(
        "Seccomp",
        status_line(container.executes("sleep")?, "Seccomp")?,
        "2"
    );
    Ok(())
}

fn seccomp_reaches_exec(lab: &Lab) -> Result {
    let bundle = with(lab, "exec sleep 1000", rule(&MKDIR, "SCMP_ACT_ERRNO"))?;
    let container = lab.started(&bundle)?;
    let output = container
        .sh("mkdir /tmp/made 2>&1; grep Seccomp: /proc/self/status")?
        .ok()?;
    check!(
        output.out.contains("Operation not permitted"),
        "{}",
        output.out
    );
    check!(output.out.contains("Seccomp:\t2"), "{}", output.out);
    Ok(())
}

fn seccomp_flags_are_accepted(lab: &Lab) -> Result {
    for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"] {
        let mut bundle = with(lab, TRY, rule(&MKDIR, "SCMP_ACT_ERRNO"))?;
        bundle.set("/linux/seccomp/flags", json!([flag]))?;
        let told = lab.told(&bundle)?;
        check!(told.contains("Operation not permitted"), "{flag}: {told}");
    }
    Ok(())
}

fn seccomp_of_only_a_default_allow_changes_nothing(lab: &Lab) -> Result {
    let mut bundle = lab.script(TRY)?;
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}))?;
    same!("stdout", lab.told(&bundle)?, "end\n");
    Ok(())
}

fn seccomp_does_not_hinder_the_runtime_itself(lab: &Lab) -> Result {
    // What a runtime uses late: all after the filter is on must come without these.
    let calls = [
        "mount",
        "umount2",
        "pivot_root",
        "unshare",
        "setns",
        "sethostname",
        "chroot",
    ];
    let mut bundle = with(lab, "echo end", rule(&calls, "SCMP_ACT_KILL_PROCESS"))?;
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [5]}),
    )?;
    same!("stdout", lab.told(&bundle)?, "end\n");
    Ok(())
}

fn a_profile_older_than_close_range_works(lab: &Lab) -> Result {
    // Without noNewPrivileges the filter comes early, before the runtime closes what it has open.
    for calls in [
        &["close_range"][..],
        &["close_range", "faccessat2", "openat2"],
    ] {
        let script = "ls -l /proc/self/fd | wc -l";
        let mut bundle = with(lab, script, rule(calls, "SCMP_ACT_ERRNO"))?;
        let here = lab.told(&lab.script(script)?)?;
        bundle.set("/process/noNewPrivileges", false)?;
        same!("open files", lab.told(&bundle)?, here);
        bundle.idle()?;
        let output = lab.started(&bundle)?.sh(script)?.ok()?;
        same!("open files of an exec", output.out, here);
    }
    Ok(())
}

fn a_profile_may_refuse_getcwd(lab: &Lab) -> Result {
    let mut bundle = with(lab, "pwd -P; echo end", rule(&["getcwd"], "SCMP_ACT_ERRNO"))?;
    bundle.set("/process/noNewPrivileges", false)?;
    bundle.set("/process/cwd", "/home/user")?;
    let told = lab.told(&bundle)?;
    check!(told.ends_with("end\n"), "{told}");
    Ok(())
}
