//! linux.resources to properties, by the version of systemd.
#![forbid(unsafe_code)]

use super::super::super::devices::Policy;
use super::super::super::host::Mode;
use super::super::super::resources::Limits;
use super::*;
use crate::bundle::config::Resources;

/// The properties as text, and the writes that they are of.
fn table(mode: Mode, version: u32, json: &str) -> (Vec<String>, Vec<String>) {
    let resources: Resources = serde_json::from_str(json).unwrap();
    let mut limits = Limits::plan(mode, &resources).unwrap();
    round(&mut limits.writes);
    let Value::Array(_, items) = wire(&of(&limits.writes), version) else {
        panic!("no array");
    };
    let written = limits
        .writes
        .iter()
        .map(|one| format!("{}={}", one.file, one.value));
    (items.iter().map(text).collect(), written.collect())
}

fn text(value: &Value) -> String {
    let list =
        |items: &[Value], between: &str| items.iter().map(text).collect::<Vec<_>>().join(between);
    match value {
        Value::Number(_, u64::MAX) => "infinity".into(),
        Value::Number(_, number) => number.to_string(),
        Value::Text(_, text) => text.clone(),
        Value::Array(_, items) => list(items, ","),
        Value::Struct(items) if matches!(items.as_slice(), [_, Value::Variant(_)]) => {
            list(items, "=")
        }
        Value::Struct(items) => list(items, " "),
        Value::Variant(value) => text(value),
    }
}

#[test]
fn limits_become_properties() {
    for (version, json, expected) in [
        (252, "{}", &[][..]),
        (
            252,
            r#"{"memory":{"limit":67108864}}"#,
            &["MemoryMax=67108864"],
        ),
        (
            252,
            r#"{"memory":{"limit":100,"swap":300,"reservation":50}}"#,
            &["MemorySwapMax=200", "MemoryMax=100", "MemoryLow=50"],
        ),
        (
            252,
            r#"{"memory":{"limit":-1}}"#,
            &["MemorySwapMax=infinity", "MemoryMax=infinity"],
        ),
        (252, r#"{"pids":{"limit":7}}"#, &["TasksMax=7"]),
        (252, r#"{"pids":{"limit":0}}"#, &["TasksMax=1"]),
        (252, r#"{"unified":{"pids.max":"0"}}"#, &["TasksMax=1"]),
        (252, r#"{"pids":{"limit":-1}}"#, &["TasksMax=infinity"]),
        (252, r#"{"cpu":{"shares":1024}}"#, &["CPUWeight=100"]),
        (252, r#"{"cpu":{"idle":1}}"#, &["CPUWeight=0"]),
        (252, r#"{"cpu":{"idle":1,"shares":1024}}"#, &["CPUWeight=0"]),
        (
            251,
            r#"{"cpu":{"idle":1,"shares":1024}}"#,
            &["CPUWeight=100"],
        ),
        (
            252,
            r#"{"cpu":{"idle":0,"shares":1024}}"#,
            &["CPUWeight=100"],
        ),
        (
            252,
            r#"{"cpu":{"quota":50000,"period":100000}}"#,
            &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=500000"],
        ),
        (
            241,
            r#"{"cpu":{"quota":50000,"period":200000}}"#,
            &["CPUQuotaPerSecUSec=250000"],
        ),
        (
            252,
            r#"{"cpu":{"quota":-1}}"#,
            &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=infinity"],
        ),
        (
            252,
            r#"{"cpu":{"cpus":"0-2,9","mems":"0"}}"#,
            &["AllowedCPUs=7,2", "AllowedMemoryNodes=1"],
        ),
        (243, r#"{"cpu":{"cpus":"0","mems":"0"}}"#, &[]),
        (252, r#"{"blockIO":{"weight":10}}"#, &["IOWeight=1"]),
        (
            252,
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":9}],"throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":5}]}}"#,
            &[
                "IOReadBandwidthMax=/dev/block/8:1 9",
                "IOWriteIOPSMax=/dev/block/8:1 5",
            ],
        ),
        (
            252,
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"weight":1000}]}}"#,
            &["IODeviceWeight=/dev/block/8:1 10000"],
        ),
        (
            252,
            r#"{"unified":{"memory.high":"1M","memory.low":"max","memory.min":"5"}}"#,
            &["MemoryHigh=1048576", "MemoryLow=infinity", "MemoryMin=5"],
        ),
        (
            252,
            r#"{"unified":{"cpu.max":"max 50000"}}"#,
            &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=infinity"],
        ),
        (
            252,
            r#"{"unified":{"cpu.idle":"1","cpu.weight":"7"}}"#,
            &["CPUWeight=0"],
        ),
        (
            252,
            r#"{"unified":{"memory.oom.group":"1","memory.zswap.max":"0"}}"#,
            &[],
        ),
        (
            253,
            r#"{"unified":{"memory.oom.group":"1","memory.zswap.max":"0"}}"#,
            &["OOMPolicy=kill", "MemoryZSwapMax=0"],
        ),
        (
            253,
            r#"{"unified":{"memory.oom.group":"0"}}"#,
            &["OOMPolicy=continue"],
        ),
        (
            252,
            r#"{"unified":{"io.weight":"default 50\n8:0 70"}}"#,
            &["IOWeight=50", "IODeviceWeight=/dev/block/8:0 70"],
        ),
        (
            252,
            r#"{"unified":{"io.max":"8:0 rbps=1 wbps=max riops=3"}}"#,
            &[
                "IOReadBandwidthMax=/dev/block/8:0 1",
                "IOWriteBandwidthMax=/dev/block/8:0 infinity",
                "IOReadIOPSMax=/dev/block/8:0 3",
            ],
        ),
        (
            252,
            r#"{"unified":{"pids.max":"33","misc.max":"x 1","hugetlb.2MB.max":"0"}}"#,
            &["TasksMax=33"],
        ),
        (252, r#"{"unified":{"pids.max":"many"}}"#, &[]),
    ] {
        assert_eq!(
            table(Mode::V2, version, json).0,
            expected,
            "{version} {json}"
        );
    }
}

#[test]
fn limits_become_properties_on_v1() {
    for (json, expected) in [
        (r#"{"memory":{"limit":100}}"#, &["MemoryLimit=100"][..]),
        (
            r#"{"cpu":{"shares":512,"quota":5000,"period":50000}}"#,
            &[
                "CPUShares=512",
                "CPUQuotaPeriodUSec=50000",
                "CPUQuotaPerSecUSec=100000",
            ],
        ),
        (r#"{"blockIO":{"weight":500}}"#, &["BlockIOWeight=500"]),
        (r#"{"pids":{"limit":5}}"#, &["TasksMax=5"]),
    ] {
        assert_eq!(table(Mode::V1, 252, json).0, expected, "{json}");
    }
}

#[test]
fn a_quota_is_rounded_up_to_what_a_unit_file_keeps() {
    for (quota, property, file) in [
        (
            r#"{"cpu":{"quota":12345,"period":100000}}"#,
            "CPUQuotaPerSecUSec=130000",
            "cpu.max=13000 100000",
        ),
        (
            r#"{"cpu":{"quota":30000,"period":60000}}"#,
            "CPUQuotaPerSecUSec=500000",
            "cpu.max=30000 60000",
        ),
        (
            r#"{"unified":{"cpu.max":"1001 100000"}}"#,
            "CPUQuotaPerSecUSec=20000",
            "cpu.max=2000 100000",
        ),
    ] {
        let (properties, written) = table(Mode::V2, 252, quota);
        assert!(
            properties.iter().any(|one| one == property),
            "{properties:?}"
        );
        assert_eq!(written, [file]);
    }
    let (_, written) = table(Mode::V1, 252, r#"{"cpu":{"quota":12345}}"#);
    assert_eq!(written, ["cpu.cfs_quota_us=13000"]);
    let (_, written) = table(Mode::V2, 252, r#"{"unified":{"cpu.max":"12345"}}"#);
    assert_eq!(written, ["cpu.max=13000"]);
}

fn device_properties(json: &str) -> Vec<String> {
    let rules: Vec<crate::bundle::config::DeviceRule> = serde_json::from_str(json).unwrap();
    let policy = Policy::plan(&rules).unwrap();
    devices(policy.allowed())
        .iter()
        .map(|one| text(&one.wire()))
        .collect()
}

#[test]
fn device_rules_become_properties_where_they_can() {
    let always = "char-* m,block-* m,/dev/char/1:3 rwm,/dev/char/1:8 rwm,/dev/char/1:7 rwm,\
        /dev/char/5:0 rwm,/dev/char/1:5 rwm,/dev/char/1:9 rwm,char-136 rwm,/dev/char/5:2 rwm,\
        /dev/char/10:200 rwm";
    for (rules, first) in [
        ("[]", ""),
        (r#"[{"allow":false,"access":"rwm"}]"#, ""),
        (
            r#"[{"allow":false},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},{"allow":true,"type":"b","major":8,"access":"r"}]"#,
            "/dev/char/10:229 rw,block-8 r,",
        ),
        (
            r#"[{"allow":true,"major":7,"minor":1}]"#,
            "/dev/block/7:1 rwm,/dev/char/7:1 rwm,",
        ),
    ] {
        let expected = [
            "DevicePolicy=strict".into(),
            format!("DeviceAllow={first}{always}"),
        ];
        assert_eq!(device_properties(rules), expected, "{rules}");
    }
    for rules in [
        r#"[{"allow":true}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c","major":1,"minor":11}]"#,
        r#"[{"allow":true,"type":"c","minor":7}]"#,
        r#"[{"allow":true,"type":"c","major":1},{"allow":false,"type":"c","major":1,"minor":11}]"#,
    ] {
        assert_eq!(
            device_properties(rules),
            ["DevicePolicy=auto", "DeviceAllow="],
            "{rules}"
        );
    }
}
