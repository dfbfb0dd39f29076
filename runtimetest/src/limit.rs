//! Limits: which file of which controller shows what `linux.resources` asks.
#![forbid(unsafe_code)]

use serde_json::Value;

/// One value to find in a control group.
#[derive(Debug, PartialEq)]
pub struct Limit {
    /// Its place in config.json.
    pub rule: String,
    /// The controller on cgroup v1.
    pub controller: String,
    /// The file.
    pub file: String,
    /// The word before the value, in a file of several.
    pub key: Option<String>,
    /// What may be there: runtimes differ where the kernel's units do.
    pub wants: Vec<String>,
}

/// The page size, to which the kernel rounds bytes down.
const PAGE: i64 = 4096;

/// All values of `resources` that show in one file.
pub fn listed(resources: &Value, is_v2: bool) -> Vec<Limit> {
    let mut limits = Vec::new();
    let number = |path: &str| resources.pointer(path).and_then(Value::as_i64);
    let text = |path: &str| {
        resources
            .pointer(path)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    let mut add = |rule: &str, controller: &str, file: &str, wants: Vec<String>| {
        let (rule, controller, file) = (rule.to_owned(), controller.to_owned(), file.to_owned());
        limits.push(Limit {
            rule,
            controller,
            file,
            key: None,
            wants,
        });
    };
    for (rule, v1, v2) in [
        ("/memory/limit", "memory.limit_in_bytes", "memory.max"),
        (
            "/memory/reservation",
            "memory.soft_limit_in_bytes",
            "memory.low",
        ),
    ] {
        if let Some(bytes) = number(rule).filter(|bytes| *bytes != 0) {
            add(
                rule,
                "memory",
                if is_v2 { v2 } else { v1 },
                vec![bytes_shown(bytes, is_v2)],
            );
        }
    }
    match (
        number("/memory/swap").filter(|s| *s != 0),
        number("/memory/limit"),
        is_v2,
    ) {
        (Some(swap), _, false) => {
            add(
                "/memory/swap",
                "memory",
                "memory.memsw.limit_in_bytes",
                vec![bytes_shown(swap, false)],
            );
        }
        // The spec's swap is memory and swap together; v2 limits swap alone.
        (Some(swap), Some(limit), true) => {
            let alone = if swap < 0 {
                -1
            } else {
                swap.saturating_sub(limit)
            };
            add(
                "/memory/swap",
                "memory",
                "memory.swap.max",
                vec![bytes_shown(alone, true)],
            );
        }
        _ => {}
    }
    if let (Some(value), false) = (number("/memory/swappiness"), is_v2) {
        add(
            "/memory/swappiness",
            "memory",
            "memory.swappiness",
            vec![value.to_string()],
        );
    }
    // Zero has had several meanings (none, no limit, one process) and is not judged.
    if let Some(pids) = number("/pids/limit").filter(|pids| *pids != 0) {
        let want = if pids < 0 {
            "max".to_owned()
        } else {
            pids.to_string()
        };
        add("/pids/limit", "pids", "pids.max", vec![want]);
    }
    if let Some(shares) = number("/cpu/shares").filter(|shares| *shares != 0) {
        if is_v2 {
            add("/cpu/shares", "cpu", "cpu.weight", weights(shares));
        } else {
            add(
                "/cpu/shares",
                "cpu",
                "cpu.shares",
                vec![shares.clamp(2, 262_144).to_string()],
            );
        }
    }
    let (quota, period) = (
        number("/cpu/quota").filter(|q| *q != 0),
        number("/cpu/period"),
    );
    let period = period.filter(|p| *p != 0);
    if is_v2 && (quota.is_some() || period.is_some()) {
        let quota = quota
            .filter(|q| *q > 0)
            .map_or("max".to_owned(), |q| q.to_string());
        let want = format!("{quota} {}", period.unwrap_or(100_000));
        add("/cpu/quota", "cpu", "cpu.max", vec![want]);
    } else if !is_v2 {
        if let Some(quota) = quota {
            add(
                "/cpu/quota",
                "cpu",
                "cpu.cfs_quota_us",
                vec![quota.max(-1).to_string()],
            );
        }
        if let Some(period) = period {
            add(
                "/cpu/period",
                "cpu",
                "cpu.cfs_period_us",
                vec![period.to_string()],
            );
        }
    }
    for (rule, v1, v2) in [
        ("/cpu/burst", "cpu.cfs_burst_us", "cpu.max.burst"),
        ("/cpu/idle", "cpu.idle", "cpu.idle"),
    ] {
        if let Some(value) = number(rule) {
            add(
                rule,
                "cpu",
                if is_v2 { v2 } else { v1 },
                vec![value.to_string()],
            );
        }
    }
    for (rule, file) in [("/cpu/cpus", "cpuset.cpus"), ("/cpu/mems", "cpuset.mems")] {
        if let Some(list) = text(rule) {
            add(rule, "cpuset", file, vec![list.to_owned()]);
        }
    }
    if let (Some(weight), false) = (number("/blockIO/weight").filter(|w| *w != 0), is_v2) {
        for file in ["blkio.weight", "blkio.bfq.weight"] {
            add("/blockIO/weight", "blkio", file, vec![weight.to_string()]);
        }
    }
    limits.extend(crate::limit_more::listed(resources, is_v2));
    limits.extend(throttles(resources, is_v2));
    limits.extend(pages(resources, is_v2));
    if is_v2 {
        limits.extend(unified(resources));
    }
    limits
}

fn bytes_shown(bytes: i64, is_v2: bool) -> String {
    match (bytes, is_v2) {
        (..0, true) => "max".to_owned(),
        // The page counter's ceiling in bytes.
        (..0, false) => (i64::MAX / PAGE * PAGE).to_string(),
        _ => (bytes / PAGE * PAGE).to_string(),
    }
}

/// Two conversions are in use: the straight line, and the curve that keeps 1024 at 100.
fn weights(shares: i64) -> Vec<String> {
    let shares = shares.clamp(2, 262_144);
    let line = 1 + (shares - 2) * 9999 / 262_142;
    let mut wants = vec![line.to_string()];
    // The curve is computed in floating point, so its neighbours are as good.
    let curve = (1..=10_000_i64)
        .filter(|weight| near(shares, *weight))
        .map(|w| w.to_string());
    wants.extend(curve);
    wants
}

/// Whether `weight` is within one of the curve through (2, 1), (1024, 100) and (262144, 10000):
/// log10(weight) = (l² + 125 l) / 612 - 7/34 with l = log2(shares).
fn near(shares: i64, weight: i64) -> bool {
    let float = |n: i64| i32::try_from(n).map_or(f64::NAN, f64::from);
    let l = float(shares).log2();
    let exact = 10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
    (exact - float(weight)).abs() <= 1.0
}

/// `blockIO.throttle*Device` on v1, one line per device.
fn throttles(resources: &Value, is_v2: bool) -> Vec<Limit> {
    let kinds = [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
        ),
    ];
    let mut limits = Vec::new();
    for (name, file) in kinds.into_iter().filter(|_| !is_v2) {
        let rule = format!("/blockIO/{name}");
        let devices = resources.pointer(&rule).and_then(Value::as_array);
        for device in devices.into_iter().flatten() {
            let number = |key: &str| device.get(key).and_then(Value::as_u64).unwrap_or_default();
            limits.push(Limit {
                rule: rule.clone(),
                controller: "blkio".to_owned(),
                file: file.to_owned(),
                key: Some(format!("{}:{}", number("major"), number("minor"))),
                wants: vec![number("rate").to_string()],
            });
        }
    }
    limits
}

/// `hugepageLimits`, one file per page size.
fn pages(resources: &Value, is_v2: bool) -> Vec<Limit> {
    let list = resources
        .pointer("/hugepageLimits")
        .and_then(Value::as_array);
    let limit = |page: &Value| {
        let size = page.get("pageSize")?.as_str()?;
        let file = if is_v2 { "max" } else { "limit_in_bytes" };
        Some(Limit {
            rule: format!("/hugepageLimits/{size}"),
            controller: "hugetlb".to_owned(),
            file: format!("hugetlb.{size}.{file}"),
            key: None,
            wants: vec![page.get("limit")?.as_u64()?.to_string()],
        })
    };
    list.into_iter().flatten().filter_map(limit).collect()
}

/// `unified`: files and values by name. Only single words are compared; files of many lines show
/// more than was written.
fn unified(resources: &Value) -> Vec<Limit> {
    let map = resources.pointer("/unified").and_then(Value::as_object);
    let limit = |(file, value): (&String, &Value)| {
        let value = value
            .as_str()
            .filter(|value| !value.trim().contains([' ', '\n']))?;
        Some(Limit {
            rule: format!("/unified/{file}"),
            controller: String::new(),
            file: file.clone(),
            key: None,
            wants: vec![value.to_owned()],
        })
    };
    map.into_iter().flatten().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn want(resources: &Value, is_v2: bool, file: &str) -> Vec<String> {
        let limits = listed(resources, is_v2);
        limits
            .into_iter()
            .find(|limit| limit.file == file)
            .map(|l| l.wants)
            .unwrap_or_default()
    }

    #[test]
    fn memory_is_shown_in_pages() {
        let resources = json!({"memory": {"limit": 10_000_000, "swap": -1}});
        assert_eq!(
            want(&resources, false, "memory.limit_in_bytes"),
            ["9998336"]
        );
        assert_eq!(want(&resources, true, "memory.max"), ["9998336"]);
        assert_eq!(want(&resources, true, "memory.swap.max"), ["max"]);
        assert_eq!(
            want(&resources, false, "memory.memsw.limit_in_bytes"),
            ["9223372036854771712"]
        );
    }

    #[test]
    fn shares_have_two_weights() {
        let weights = want(&json!({"cpu": {"shares": 1024}}), true, "cpu.weight");
        assert!(weights.contains(&"39".to_owned()) && weights.contains(&"100".to_owned()));
        assert!(!weights.contains(&"50".to_owned()));
    }

    #[test]
    fn quota_and_period_are_one_file_on_v2() {
        let resources = json!({"cpu": {"quota": 50_000, "period": 100_000}});
        assert_eq!(want(&resources, true, "cpu.max"), ["50000 100000"]);
        assert_eq!(want(&resources, false, "cpu.cfs_quota_us"), ["50000"]);
    }

    #[test]
    fn null_is_no_limit() {
        assert!(listed(&json!({"pids": {"limit": null}, "memory": null}), true).is_empty());
        assert!(listed(&Value::Null, false).is_empty());
    }
}
