//! config.json as it was said: a faithful record, nothing decided yet.
//!
//! The types follow the runtime-spec 1.3 (config.md, config-linux.md). They are ours where
//! `oci_spec` refuses what the spec allows (unknown capabilities, `null` limits, scheduler flags)
//! or where a plain field reads better; its leaves serve the rest. As in Go's decoder, which wrote
//! nearly every config.json there is, `null` means absent and unknown properties are ignored.
#![forbid(unsafe_code)]
#![allow(missing_docs)] // every field is named and explained by the spec

use oci_spec::runtime::{Hooks, LinuxIdMapping, LinuxNamespaceType, LinuxSeccomp, LinuxTimeOffset};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Reads `null` as the type's default.
fn null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(de: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(de)?.unwrap_or_default())
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    #[serde(deserialize_with = "null")]
    pub oci_version: String,
    pub process: Option<Process>,
    pub root: Option<Root>,
    #[serde(deserialize_with = "null")]
    pub hostname: String,
    #[serde(deserialize_with = "null")]
    pub domainname: String,
    #[serde(deserialize_with = "null")]
    pub mounts: Vec<Mount>,
    pub hooks: Option<Hooks>,
    #[serde(deserialize_with = "null")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "null")]
    pub linux: Linux,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Root {
    #[serde(deserialize_with = "null")]
    pub path: String,
    #[serde(deserialize_with = "null")]
    pub readonly: bool,
}

/// config.json's `process`, and the whole of an exec's process.json.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    #[serde(deserialize_with = "null")]
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    #[serde(deserialize_with = "null")]
    pub user: User,
    #[serde(deserialize_with = "null")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub cwd: String,
    pub capabilities: Option<Capabilities>,
    #[serde(deserialize_with = "null")]
    pub rlimits: Vec<Rlimit>,
    #[serde(deserialize_with = "null")]
    pub no_new_privileges: bool,
    #[serde(deserialize_with = "null")]
    pub apparmor_profile: String,
    pub oom_score_adj: Option<i32>,
    #[serde(deserialize_with = "null")]
    pub selinux_label: String,
    pub io_priority: Option<IoPriority>,
    pub scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    #[serde(deserialize_with = "null")]
    pub height: u32,
    #[serde(deserialize_with = "null")]
    pub width: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    #[serde(deserialize_with = "null")]
    pub uid: u32,
    #[serde(deserialize_with = "null")]
    pub gid: u32,
    pub umask: Option<u32>,
    #[serde(deserialize_with = "null")]
    pub additional_gids: Vec<u32>,
}

/// The five sets, by name: an unknown name is a warning (config.md), so they stay text here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    #[serde(deserialize_with = "null")]
    pub bounding: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub effective: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub inheritable: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub permitted: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub ambient: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub typ: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    #[serde(deserialize_with = "null")]
    pub class: String,
    #[serde(deserialize_with = "null")]
    pub priority: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    #[serde(deserialize_with = "null")]
    pub policy: String,
    #[serde(deserialize_with = "null")]
    pub nice: i32,
    #[serde(deserialize_with = "null")]
    pub priority: i32,
    #[serde(deserialize_with = "null")]
    pub flags: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub runtime: u64,
    #[serde(deserialize_with = "null")]
    pub deadline: u64,
    #[serde(deserialize_with = "null")]
    pub period: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    #[serde(deserialize_with = "null")]
    pub initial: String,
    #[serde(rename = "final", deserialize_with = "null")]
    pub last: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    #[serde(deserialize_with = "null")]
    pub destination: String,
    #[serde(rename = "type", deserialize_with = "null")]
    pub typ: String,
    #[serde(deserialize_with = "null")]
    pub source: String,
    #[serde(deserialize_with = "null")]
    pub options: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub uid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "null")]
    pub gid_mappings: Vec<LinuxIdMapping>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    #[serde(deserialize_with = "null")]
    pub uid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "null")]
    pub gid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "null")]
    pub sysctl: BTreeMap<String, String>,
    pub resources: Option<Resources>,
    #[serde(deserialize_with = "null")]
    pub cgroups_path: String,
    #[serde(deserialize_with = "null")]
    pub namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "null")]
    pub devices: Vec<Device>,
    #[serde(deserialize_with = "null")]
    pub net_devices: BTreeMap<String, NetDevice>,
    pub seccomp: Option<LinuxSeccomp>,
    #[serde(deserialize_with = "null")]
    pub rootfs_propagation: String,
    #[serde(deserialize_with = "null")]
    pub masked_paths: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub readonly_paths: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub mount_label: String,
    pub intel_rdt: Option<IntelRdt>,
    pub memory_policy: Option<MemoryPolicy>,
    pub personality: Option<Personality>,
    #[serde(deserialize_with = "null")]
    pub time_offsets: BTreeMap<String, LinuxTimeOffset>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub typ: LinuxNamespaceType,
    #[serde(default, deserialize_with = "null")]
    pub path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    #[serde(rename = "type", deserialize_with = "null")]
    pub typ: String,
    #[serde(deserialize_with = "null")]
    pub path: String,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NetDevice {
    #[serde(deserialize_with = "null")]
    pub name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IntelRdt {
    #[serde(rename = "closID", deserialize_with = "null")]
    pub clos_id: String,
    #[serde(deserialize_with = "null")]
    pub schemata: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub l3_cache_schema: String,
    #[serde(deserialize_with = "null")]
    pub mem_bw_schema: String,
    #[serde(deserialize_with = "null")]
    pub enable_monitoring: bool,
    /// Of 1.1 and 1.2; what `enable_monitoring` is now.
    #[serde(rename = "enableCMT", deserialize_with = "null")]
    pub enable_cmt: bool,
    /// As `enable_cmt`.
    #[serde(rename = "enableMBM", deserialize_with = "null")]
    pub enable_mbm: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MemoryPolicy {
    #[serde(deserialize_with = "null")]
    pub mode: String,
    #[serde(deserialize_with = "null")]
    pub nodes: String,
    #[serde(deserialize_with = "null")]
    pub flags: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Personality {
    #[serde(deserialize_with = "null")]
    pub domain: String,
    #[serde(deserialize_with = "null")]
    pub flags: Vec<String>,
}

/// config-linux.md, "Control groups"; also what `update -r` reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    #[serde(deserialize_with = "null")]
    pub devices: Vec<DeviceRule>,
    pub memory: Option<Memory>,
    pub cpu: Option<Cpu>,
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    #[serde(deserialize_with = "null")]
    pub hugepage_limits: Vec<HugepageLimit>,
    pub network: Option<Network>,
    #[serde(deserialize_with = "null")]
    pub rdma: BTreeMap<String, Rdma>,
    #[serde(deserialize_with = "null")]
    pub unified: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    #[serde(deserialize_with = "null")]
    pub allow: bool,
    /// `a`, `b`, `c`; empty means `a`.
    #[serde(rename = "type", deserialize_with = "null")]
    pub typ: String,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    /// Any of `r`, `w`, `m`; empty means all.
    #[serde(deserialize_with = "null")]
    pub access: String,
}

/// Limits in bytes; -1 is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    /// Ignored: the kernel dropped it (config-linux.md: "NOT RECOMMENDED").
    pub kernel: Option<i64>,
    /// Ignored, as `kernel`.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    pub use_hierarchy: Option<bool>,
    pub check_before_update: Option<bool>,
}

/// Times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub burst: Option<u64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    #[serde(deserialize_with = "null")]
    pub cpus: String,
    #[serde(deserialize_with = "null")]
    pub mems: String,
    pub idle: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    #[serde(deserialize_with = "null")]
    pub weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "null")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    #[serde(deserialize_with = "null")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "null")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "null")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WeightDevice {
    pub major: i64,
    pub minor: i64,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    pub major: i64,
    pub minor: i64,
    pub rate: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HugepageLimit {
    pub page_size: String,
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    #[serde(deserialize_with = "null")]
    pub priorities: Vec<InterfacePriority>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfacePriority {
    pub name: String,
    pub priority: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    pub hca_handles: Option<u32>,
    pub hca_objects: Option<u32>,
}
