//! Tests: a second compiler's opinion, on the profiles it can express: one action, one ABI.
#![forbid(unsafe_code)]

use super::*;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;

fn condition(arg: u8, op: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(arg, SeccompCmpArgLen::Qword, op, value).unwrap()
}

#[test]
fn seccompiler_agrees() {
    let json = with(
        "ALLOW",
        r#"{"names": ["mkdir", "ptrace"], "action": "SCMP_ACT_TRAP"},
        {"names": ["ioctl"], "action": "SCMP_ACT_TRAP", "args": [
            {"index": 1, "op": "SCMP_CMP_GT", "value": 4294967296},
            {"index": 2, "op": "SCMP_CMP_LE", "value": 7}]},
        {"names": ["ioctl"], "action": "SCMP_ACT_TRAP", "args": [
            {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 240, "valueTwo": 48}]},
        {"names": ["socket"], "action": "SCMP_ACT_TRAP", "args": [
            {"index": 0, "op": "SCMP_CMP_NE", "value": 2}]}"#,
    );
    let rule = |conditions| SeccompRule::new(conditions).unwrap();
    let rules: BTreeMap<i64, Vec<SeccompRule>> = [
        (83, vec![]),
        (101, vec![]),
        (
            16,
            vec![
                rule(vec![
                    condition(1, SeccompCmpOp::Gt, 1 << 32),
                    condition(2, SeccompCmpOp::Le, 7),
                ]),
                rule(vec![condition(0, SeccompCmpOp::MaskedEq(240), 48)]),
            ],
        ),
        (41, vec![rule(vec![condition(0, SeccompCmpOp::Ne, 2)])]),
    ]
    .into();
    let (allow, trap) = (SeccompAction::Allow, SeccompAction::Trap);
    let second = SeccompFilter::new(rules, allow, trap, TargetArch::x86_64).unwrap();
    let second: seccompiler::BpfProgram = second.try_into().unwrap();
    let first = plan(&json);
    let mut compared = 0;
    let calls = calls(&profile(&json), Abi::X86_64).into_iter();
    for call in calls.filter(|call| call.number < 1024) {
        assert_eq!(
            run(first.program(), &call).0,
            run(&second, &call).0,
            "{call:x?}"
        );
        compared += 1;
    }
    println!("{compared} verdicts compared with seccompiler's");
}
