//! The formats of the kernel's files, and the shape of the output.
#![forbid(unsafe_code)]

use super::text::{devices, list, map, number, pressure, rdma};
use super::*;

#[test]
fn numbers_are_as_runc_reads_them() {
    assert_eq!(number("5\n"), Some(5));
    assert_eq!(number("max\n"), Some(u64::MAX));
    assert_eq!(number("-1"), Some(0));
    assert_eq!(number("x"), None);
    assert_eq!(map("a 1\nb 2\nodd\n").get("b"), Some(&2));
    assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
    assert!(list("\n").is_empty());
}

#[test]
fn devices_of_v1_with_and_without_an_operation() {
    let found = devices("8:0 Read 12\n8:0 34\nTotal 46\n");
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].op.as_str(), found[0].value), ("Read", 12));
    assert_eq!((found[1].op.as_str(), found[1].value), ("", 34));
}

#[test]
fn pressure_is_printed_as_go_prints_it() {
    let found = pressure(
        "some avg10=1.50 avg60=0.07 avg300=12.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    );
    let want = r#"{"some":{"avg10":1.5,"avg60":0.07,"avg300":12,"total":12345}}"#;
    assert_eq!(serde_json::to_string(&found).unwrap(), want);
}

#[test]
fn rdma_limits_may_be_max() {
    let found = rdma("mlx5_0 hca_handle=2 hca_object=max\n");
    assert_eq!(found[0].device, "mlx5_0");
    assert_eq!((found[0].hca_handles, found[0].hca_objects), (2, u32::MAX));
}

#[test]
fn nothing_used_is_what_runc_prints_then() {
    let want = concat!(
        r#"{"cpu":{},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"#,
        r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"#,
        r#""sched_load_balance":0,"sched_relax_domain_level":0},"memory":{},"pids":{},"blkio":{},"#,
        r#""hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#
    );
    let got = serde_json::to_string(&Stats::default()).unwrap();
    assert_eq!(got, want);
}
