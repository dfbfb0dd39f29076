//! Limits of the lesser controllers: network, rdma, realtime, the OOM killer, weights of devices.
#![forbid(unsafe_code)]

use crate::limit::Limit;
use serde_json::Value;

/// The values of `resources` that these controllers show.
pub fn listed(resources: &Value, is_v2: bool) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut add = |rule: &str, controller: &str, file: &str, key: Option<String>, want: String| {
        limits.push(Limit {
            rule: rule.to_owned(),
            controller: controller.to_owned(),
            file: file.to_owned(),
            key,
            wants: vec![want],
        });
    };
    let number = |path: &str| resources.pointer(path).and_then(Value::as_i64);
    let list = |path: &str| {
        let list = resources.pointer(path).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    if !is_v2 {
        if let Some(id) = number("/network/classID") {
            add(
                "/network/classID",
                "net_cls",
                "net_cls.classid",
                None,
                id.to_string(),
            );
        }
        for interface in list("/network/priorities") {
            let name = interface.get("name").and_then(Value::as_str);
            let priority = interface.get("priority").and_then(Value::as_u64);
            if let (Some(name), Some(priority)) = (name, priority) {
                let (rule, file) = ("/network/priorities", "net_prio.ifpriomap");
                add(
                    rule,
                    "net_prio",
                    file,
                    Some(name.to_owned()),
                    priority.to_string(),
                );
            }
        }
        for (rule, file) in [
            ("/cpu/realtimeRuntime", "cpu.rt_runtime_us"),
            ("/cpu/realtimePeriod", "cpu.rt_period_us"),
        ] {
            if let Some(value) = number(rule) {
                add(rule, "cpu", file, None, value.to_string());
            }
        }
        let rule = "/memory/disableOOMKiller";
        if resources.pointer(rule).and_then(Value::as_bool) == Some(true) {
            let key = Some("oom_kill_disable".to_owned());
            add(rule, "memory", "memory.oom_control", key, "1".to_owned());
        }
    }
    for page in list("/hugepageLimits") {
        let size = page.get("pageSize").and_then(Value::as_str);
        let limit = page.get("limit").and_then(Value::as_u64);
        if let (Some(size), Some(limit)) = (size, limit) {
            let tail = if is_v2 { "max" } else { "limit_in_bytes" };
            let file = format!("hugetlb.{size}.rsvd.{tail}");
            add("/hugepageLimits", "hugetlb", &file, None, limit.to_string());
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_value_has_its_file() {
        let resources = json!({
            "network": {"classID": 7, "priorities": [{"name": "lo", "priority": 3}]},
            "cpu": {"realtimeRuntime": 950},
            "memory": {"disableOOMKiller": true},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]
        });
        let files: Vec<String> = listed(&resources, false)
            .into_iter()
            .map(|l| l.file)
            .collect();
        let want = [
            "net_cls.classid",
            "net_prio.ifpriomap",
            "cpu.rt_runtime_us",
            "memory.oom_control",
            "hugetlb.2MB.rsvd.limit_in_bytes",
        ];
        assert_eq!(files, want);
        assert_eq!(listed(&resources, true).len(), 1);
    }
}
