//! Groups on a tree that looks like resctrl's.
#![forbid(unsafe_code)]

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that looks like a mounted resctrl, gone with the value.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("creel-rdt-{}-{number}", std::process::id()));
        let tree = Self(root);
        for (file, text) in [
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "4\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "4\n"),
            (
                "info/L3_MON/mon_features",
                "llc_occupancy\nmbm_total_bytes\n",
            ),
            ("info/last_cmd_status", "ok\n"),
            ("schemata", "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n"),
            ("tasks", ""),
        ] {
            tree.file(file, text);
        }
        tree
    }

    fn file(&self, file: &str, text: &str) {
        let file = self.0.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    /// A group as the kernel makes it.
    fn group(&self, name: &str, schemata: &str) {
        self.file(&format!("{name}/schemata"), schemata);
        fs::create_dir_all(self.0.join(name).join("mon_groups")).unwrap();
    }

    /// The kernel lets go of a group's files with the group; here they would be in rmdir's way.
    fn let_go(&self, name: &str) {
        for file in ["tasks", "schemata"] {
            fs::remove_file(self.0.join(name).join(file)).ok();
        }
        fs::remove_dir(self.0.join(name).join("mon_groups")).ok();
    }

    fn plan(&self, json: &str) -> Result<RdtPlan> {
        let asked: IntelRdt = serde_json::from_str(json).unwrap();
        RdtPlan::decide(&asked, "web", Some(&self.0))
    }

    fn fails(&self, json: &str, field: &str) {
        let error = self.plan(json).unwrap_err().to_string();
        assert!(error.contains(&format!("({field})")), "{error}");
    }

    fn exists(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn without_resctrl_it_is_refused() {
    let error = RdtPlan::decide(&IntelRdt::default(), "web", None).unwrap_err();
    assert!(error.to_string().contains("linux.intelRdt"), "{error}");
}

#[test]
fn without_a_clos_the_container_gets_a_group_of_its_name_that_goes_with_it() {
    let tree = Tree::new();
    let plan = tree
        .plan(r#"{"l3CacheSchema":"L3:0=7f0","memBwSchema":"MB:0=20","schemata":["L2:0=f","MB:1=30"]}"#)
        .unwrap();
    assert!(plan.record().made);
    let mut rdt = plan.make().unwrap();
    assert_eq!(
        tree.read("web/schemata"),
        "L3:0=7f0\nMB:0=20\nL2:0=f\nMB:1=30\n"
    );
    rdt.record().enter(42).unwrap();
    assert_eq!(tree.read("web/tasks"), "42");
    rdt.keep();
    let record = rdt.record();
    drop(rdt);
    assert!(tree.exists("web"));
    tree.let_go("web");
    record.remove().unwrap();
    assert!(!tree.exists("web"));
    record.remove().unwrap();
}

#[test]
fn a_create_that_fails_takes_the_group_along() {
    let tree = Tree::new();
    let rdt = tree.plan("{}").unwrap().make().unwrap();
    assert!(tree.exists("web"));
    drop(rdt);
    assert!(!tree.exists("web"));
}

#[test]
fn without_a_schema_none_is_written() {
    let tree = Tree::new();
    let rdt = tree.plan("{}").unwrap().make().unwrap();
    assert!(!tree.exists("web/schemata"));
    drop(rdt);
    let default = tree.plan(r#"{"closID":"/"}"#).unwrap().make().unwrap();
    default.record().enter(7).unwrap();
    assert_eq!(tree.read("tasks"), "7");
    assert!(tree.read("schemata").contains("L3:0=7ff"));
}

#[test]
fn a_group_that_was_there_stays() {
    let tree = Tree::new();
    tree.group("web", "L3:0=7ff\n");
    let plan = tree.plan(r#"{"l3CacheSchema":"L3:0=1"}"#).unwrap();
    assert!(!plan.record().made);
    drop(plan.make().unwrap());
    // Not ours to remove; the limits are the container's wish all the same.
    assert_eq!(tree.read("web/schemata"), "L3:0=1\n");
}

#[test]
fn a_named_clos_without_schema_must_exist_and_stays() {
    let tree = Tree::new();
    tree.fails(r#"{"closID":"gold"}"#, "linux.intelRdt.closID");
    tree.group("gold", "L3:0=7ff\n");
    let rdt = tree.plan(r#"{"closID":"gold"}"#).unwrap().make().unwrap();
    drop(rdt);
    assert_eq!(tree.read("gold/schemata"), "L3:0=7ff\n");
}

#[test]
fn a_named_clos_with_a_schema_is_made_and_stays_with_the_container() {
    let tree = Tree::new();
    let plan = tree
        .plan(r#"{"closID":"gold","schemata":["L3:0=1f"]}"#)
        .unwrap();
    let mut rdt = plan.make().unwrap();
    rdt.keep();
    rdt.record().remove().unwrap();
    drop(rdt);
    assert_eq!(tree.read("gold/schemata"), "L3:0=1f\n");
    tree.let_go("gold");
    fs::remove_dir(tree.0.join("gold")).unwrap();
    // Of a container that came to nothing, nothing is left.
    let rdt = plan.make().unwrap();
    tree.let_go("gold");
    drop(rdt);
    assert!(!tree.exists("gold"));
}

#[test]
fn a_named_clos_that_exists_must_have_what_is_asked() {
    let tree = Tree::new();
    tree.group("gold", "    L3:0=0ff;1=7ff\n    MB:0=30;1=100\n");
    let ask = |l3: &str, mb: &str| {
        let json = format!(r#"{{"closID":"gold","l3CacheSchema":"{l3}","memBwSchema":"{mb}"}}"#);
        tree.group("gold", "    L3:0=0ff;1=7ff\n    MB:0=30;1=100\n");
        tree.plan(&json).unwrap().make().map(drop)
    };
    assert!(ask("L3:0=ff", "MB:1=100").is_ok());
    assert!(ask("L3:1=7FF;0=ff", "").is_ok());
    // The kernel rounds up.
    assert!(ask("", "MB:0=25").is_ok());
    for (l3, mb) in [
        ("L3:0=f", ""),
        ("", "MB:0=50"),
        ("L3:7=ff", ""),
        ("L2:0=ff", ""),
    ] {
        let error = ask(l3, mb).unwrap_err().to_string();
        assert!(error.contains("linux.intelRdt.closID"), "{error}");
        assert!(tree.exists("gold"));
    }
}

#[test]
fn monitoring_has_a_group_of_its_own_that_goes() {
    let tree = Tree::new();
    tree.group("gold", "L3:0=7ff\n");
    for switch in ["enableMonitoring", "enableCMT", "enableMBM"] {
        let plan = tree
            .plan(&format!(r#"{{"closID":"gold","{switch}":true}}"#))
            .unwrap();
        let rdt = plan.make().unwrap();
        rdt.record().enter(9).unwrap();
        assert_eq!(tree.read("gold/mon_groups/web/tasks"), "9");
        assert_eq!(tree.read("gold/tasks"), "9");
        tree.let_go("gold/mon_groups/web");
        drop(rdt);
        assert!(!tree.exists("gold/mon_groups/web") && tree.exists("gold"));
    }
}

#[test]
fn monitoring_that_cannot_be_had_is_an_error() {
    let tree = Tree::new();
    tree.file("gold/schemata", "");
    tree.file("info/last_cmd_status", "Out of RMIDs\n");
    let plan = tree
        .plan(r#"{"closID":"gold","enableMonitoring":true}"#)
        .unwrap();
    let error = plan.make().map(drop).unwrap_err().to_string();
    assert!(error.contains("linux.intelRdt.enableMonitoring"), "{error}");
    assert!(error.ends_with("Out of RMIDs"), "{error}");
}

#[test]
fn what_is_no_group_or_no_schema_is_refused() {
    let tree = Tree::new();
    for clos in ["..", ".", "a/b", "/x", "info", "mon_groups"] {
        tree.fails(
            &format!(r#"{{"closID":"{clos}"}}"#),
            "linux.intelRdt.closID",
        );
    }
    tree.fails(r#"{"memBwSchema":"L3:0=1"}"#, "linux.intelRdt.memBwSchema");
    tree.fails(
        r#"{"memBwSchema":"MB:0=1\nL3:0=1"}"#,
        "linux.intelRdt.memBwSchema",
    );
    tree.fails(
        r#"{"schemata":["L3:0=1","a\nb"]}"#,
        "linux.intelRdt.schemata[1]",
    );
    fs::remove_dir_all(tree.0.join("info/L3")).unwrap();
    tree.fails(
        r#"{"l3CacheSchema":"L3:0=1"}"#,
        "linux.intelRdt.l3CacheSchema",
    );
}

#[test]
fn limits_are_changed_and_measured() {
    let tree = Tree::new();
    tree.group("gold", "    L3:0=7ff\n    MB:0=100\n");
    let plan = tree
        .plan(r#"{"closID":"gold","enableMonitoring":true}"#)
        .unwrap();
    let rdt = plan.make().unwrap();
    let record = rdt.record();
    tree.file(
        "gold/mon_groups/web/mon_data/mon_L3_00/llc_occupancy",
        "4096\n",
    );
    tree.file(
        "gold/mon_groups/web/mon_data/mon_L3_00/mbm_total_bytes",
        "70\n",
    );
    let stats = record.stats().unwrap();
    assert_eq!(stats.l3_cache_schema, "L3:0=7ff");
    assert_eq!(stats.mem_bw_schema_root, "MB:0=100;1=100");
    assert_eq!(stats.schemata, ["L3:0=7ff", "MB:0=100"]);
    assert_eq!(stats.cmt_stats.unwrap()[0].llc_occupancy, 4096);
    assert_eq!(stats.mbm_stats.unwrap()[0].mbm_total_bytes, 70);
    assert_eq!(stats.l3_cache_info.unwrap().cbm_mask, "7ff");
    let asked = record.schema("L3:0=f", "").unwrap();
    record.set(&asked).unwrap();
    assert_eq!(tree.read("gold/schemata"), "L3:0=f\n");
    assert_eq!(record.schema("", "").unwrap(), "");
    fs::remove_dir_all(tree.0.join("info/MB")).unwrap();
    assert!(record.schema("", "MB:0=10").is_err());
    fs::remove_dir_all(tree.0.join("gold/mon_groups/web")).unwrap();
}
