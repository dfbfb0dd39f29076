//! The conversions, against what runc writes for the same config.
#![forbid(unsafe_code)]

use super::*;

fn plan(mode: Mode, json: &str) -> Result<Vec<String>> {
    let resources: Resources = serde_json::from_str(json).unwrap();
    let limits = Limits::plan(mode, &resources)?;
    let text = |write: &Write| format!("{}={}", write.file, write.value);
    Ok(limits.writes.iter().map(text).collect())
}

fn refused(mode: Mode, json: &str) -> String {
    plan(mode, json).unwrap_err().to_string()
}

#[test]
fn limits_become_files() {
    let table: &[(&str, &[&str], &[&str])] = &[
        // config, v1, v2
        ("{}", &[], &[]),
        (
            r#"{"pids":{"limit":99}}"#,
            &["pids.max=99"],
            &["pids.max=99"],
        ),
        (r#"{"pids":{"limit":0}}"#, &["pids.max=1"], &["pids.max=1"]),
        (
            r#"{"pids":{"limit":-1}}"#,
            &["pids.max=max"],
            &["pids.max=max"],
        ),
        (r#"{"pids":{"limit":null}}"#, &[], &[]),
        (
            r#"{"memory":{"limit":100,"swap":300,"reservation":50}}"#,
            &[
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=300",
                "memory.soft_limit_in_bytes=50",
            ],
            &["memory.swap.max=200", "memory.max=100", "memory.low=50"],
        ),
        (
            r#"{"memory":{"limit":100,"swap":100}}"#,
            &[
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=100",
            ],
            &["memory.swap.max=0", "memory.max=100"],
        ),
        (
            r#"{"memory":{"limit":-1}}"#,
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            &["memory.swap.max=max", "memory.max=max"],
        ),
        (
            r#"{"memory":{"limit":100,"swap":-1}}"#,
            &[
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=-1",
            ],
            &["memory.swap.max=max", "memory.max=100"],
        ),
        (
            r#"{"memory":{"limit":-1,"swap":500}}"#,
            &[
                "memory.limit_in_bytes=-1",
                "memory.memsw.limit_in_bytes=500",
            ],
            &["memory.swap.max=500", "memory.max=max"],
        ),
        (
            r#"{"memory":{"limit":0,"swap":0,"kernel":5,"kernelTCP":6}}"#,
            &[],
            &[],
        ),
        (
            r#"{"memory":{"swappiness":60,"disableOOMKiller":true,"useHierarchy":true}}"#,
            &["memory.oom_control=1", "memory.swappiness=60"],
            &[],
        ),
        (
            r#"{"cpu":{"shares":1024,"quota":50000,"period":200000,"burst":1000}}"#,
            &[
                "cpu.shares=1024",
                "cpu.cfs_period_us=200000",
                "cpu.cfs_burst_us=1000",
                "cpu.cfs_quota_us=50000",
            ],
            &[
                "cpu.weight=100",
                "cpu.max.burst=1000",
                "cpu.max=50000 200000",
            ],
        ),
        (
            r#"{"cpu":{"quota":50000}}"#,
            &["cpu.cfs_quota_us=50000"],
            &["cpu.max=50000 100000"],
        ),
        (
            r#"{"cpu":{"quota":-1}}"#,
            &["cpu.cfs_quota_us=-1"],
            &["cpu.max=max 100000"],
        ),
        (
            r#"{"cpu":{"period":5000}}"#,
            &["cpu.cfs_period_us=5000"],
            &["cpu.max=max 5000"],
        ),
        (r#"{"cpu":{"shares":0,"quota":0,"period":0}}"#, &[], &[]),
        (r#"{"cpu":{"idle":1}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
        (
            r#"{"cpu":{"realtimeRuntime":9,"realtimePeriod":10}}"#,
            &["cpu.rt_period_us=10", "cpu.rt_runtime_us=9"],
            &[],
        ),
        (
            r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
            &["cpuset.cpus=0-1", "cpuset.mems=0"],
            &["cpuset.cpus=0-1", "cpuset.mems=0"],
        ),
        (
            r#"{"blockIO":{"weight":500,"leafWeight":20,"weightDevice":[{"major":8,"minor":0,"weight":300,"leafWeight":40}]}}"#,
            &[
                "blkio.weight=500",
                "blkio.leaf_weight=20",
                "blkio.weight_device=8:0 300",
                "blkio.leaf_weight_device=8:0 40",
            ],
            &["io.bfq.weight=500", "io.bfq.weight=8:0 300"],
        ),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],
                "throttleWriteBpsDevice":[{"major":8,"minor":1,"rate":2}],
                "throttleReadIOPSDevice":[{"major":8,"minor":2,"rate":3}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":3,"rate":4}]}}"#,
            &[
                "blkio.throttle.read_bps_device=8:0 1",
                "blkio.throttle.write_bps_device=8:1 2",
                "blkio.throttle.read_iops_device=8:2 3",
                "blkio.throttle.write_iops_device=8:3 4",
            ],
            &[
                "io.max=8:0 rbps=1",
                "io.max=8:1 wbps=2",
                "io.max=8:2 riops=3",
                "io.max=8:3 wiops=4",
            ],
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#,
            &[
                "hugetlb.2MB.limit_in_bytes=9",
                "hugetlb.2MB.rsvd.limit_in_bytes=9",
            ],
            &["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9"],
        ),
        (
            r#"{"rdma":{"mlx":{"hcaHandles":3,"hcaObjects":4},"x":{"hcaObjects":5}}}"#,
            &[
                "rdma.max=mlx hca_handle=3 hca_object=4",
                "rdma.max=x hca_object=5",
            ],
            &[
                "rdma.max=mlx hca_handle=3 hca_object=4",
                "rdma.max=x hca_object=5",
            ],
        ),
        (
            r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#,
            &["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"],
            &[],
        ),
    ];
    for (json, v1, v2) in table {
        assert_eq!(plan(Mode::V1, json).unwrap(), *v1, "v1 {json}");
        assert_eq!(plan(Mode::V2, json).unwrap(), *v2, "v2 {json}");
    }
}

#[test]
fn unified_is_written_line_by_line_and_last() {
    let json = r#"{"pids":{"limit":5},"unified":{"io.max":"8:0 rbps=1\n8:16 wbps=2","memory.oom.group":"1"}}"#;
    assert_eq!(
        plan(Mode::V2, json).unwrap(),
        [
            "pids.max=5",
            "io.max=8:0 rbps=1\n",
            "io.max=8:16 wbps=2",
            "memory.oom.group=1"
        ]
    );
    let why = refused(Mode::V1, json);
    assert!(
        why.contains("invalid configuration: cannot use unified on cgroup v1"),
        "{why}"
    );
}

#[test]
fn shares_become_weights_on_the_newer_curve() {
    let table = [
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
        (10, 4),
        (100, 17),
        (256, 35),
        (512, 59),
        (1023, 100),
        (1024, 100),
        (1025, 101),
        (2048, 174),
        (3333, 256),
        (4096, 303),
        (8192, 532),
        (65536, 3023),
        (262_143, 10_000),
        (262_144, 10_000),
        (999_999, 10_000),
        (u64::MAX, 10_000),
    ];
    for (shares, wanted) in table {
        assert_eq!(weight(shares), wanted, "{shares} shares");
    }
    assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (mode, json, field, why) in [
        (
            Mode::V2,
            r#"{"memory":{"swap":5}}"#,
            "memory.swap",
            "without memory limit",
        ),
        (
            Mode::V2,
            r#"{"memory":{"limit":9,"swap":5}}"#,
            "memory.swap",
            "should be >= memory limit",
        ),
        (
            Mode::V1,
            r#"{"memory":{"limit":9,"swap":5}}"#,
            "memory.swap",
            "should be >= memory limit",
        ),
        (
            Mode::V1,
            r#"{"memory":{"limit":-5}}"#,
            "memory.limit",
            "invalid memory value: -5",
        ),
        (
            Mode::V1,
            r#"{"memory":{"swappiness":101}}"#,
            "memory.swappiness",
            "valid range is 0-100",
        ),
        (
            Mode::V2,
            r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
            "hugepageLimits[0]",
            "page size",
        ),
        (
            Mode::V2,
            r#"{"unified":{"a/b.c":"1"}}"#,
            "unified",
            "no slashes",
        ),
        (
            Mode::V2,
            r#"{"unified":{"bogus":"1"}}"#,
            "unified",
            "CONTROLLER.PARAMETER",
        ),
        (
            Mode::V2,
            r#"{"unified":{"..":"1"}}"#,
            "unified",
            "CONTROLLER.PARAMETER",
        ),
    ] {
        let error = refused(mode, json);
        assert!(
            error.contains(&format!("(linux.resources.{field}")) && error.contains(why),
            "{error}"
        );
    }
}

#[test]
fn order_and_absence_are_forgiven_only_where_they_may_be() {
    let json = r#"{"memory":{"limit":9,"swap":-1,"checkBeforeUpdate":true},"cpu":{"cpus":"0","burst":1,"quota":2}}"#;
    let resources: Resources = serde_json::from_str(json).unwrap();
    let v2 = Limits::plan(Mode::V2, &resources).unwrap();
    assert_eq!(v2.below, Some((9, -1)));
    let mercy = |limits: &Limits, file: &str| {
        limits
            .writes
            .iter()
            .find(|write| write.file == file)
            .unwrap()
            .mercy
            .clone()
    };
    assert_eq!(mercy(&v2, "memory.swap.max"), Mercy::Absent);
    assert_eq!(mercy(&v2, "cpu.max.burst"), Mercy::Later);
    let v1 = Limits::plan(Mode::V1, &resources).unwrap();
    assert_eq!(v1.below, None);
    assert_eq!(mercy(&v1, "memory.limit_in_bytes"), Mercy::Later);
    assert_eq!(mercy(&v1, "cpu.cfs_burst_us"), Mercy::LaterOrAbsent);
    let early: Vec<_> = v1
        .writes
        .iter()
        .filter(|write| Limits::is_early(write))
        .collect();
    assert_eq!(early.len(), 1);
}

#[test]
fn an_entry_without_a_limit_is_refused() {
    for (json, field) in [
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":0},{"major":8,"minor":1}]}}"#,
            "linux.resources.blockIO.weightDevice[1]",
        ),
        (r#"{"rdma":{"mlx5":{}}}"#, "linux.resources.rdma.mlx5"),
    ] {
        for mode in [Mode::V1, Mode::V2] {
            let error = refused(mode, json);
            assert!(error.contains(field), "{error}");
        }
    }
}
