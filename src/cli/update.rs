//! `update`: other limits for a container that lives.
#![forbid(unsafe_code)]

use super::{Entry, args, only_id, size};
use crate::bundle::config::{BlockIo, Cpu, Memory, Pids, Resources};
use crate::bundle::parse;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::log;
use clap::Args;
use std::ffi::OsString;
use std::io::Read;
use std::str::FromStr;

pub(super) const COMMAND: Entry = Entry::new::<UpdateArgs>(
    "update",
    "update container resource constraints",
    "<container-id>",
    |matches, globals| {
        let said: UpdateArgs = args(matches)?;
        let id = only_id(&said.ids, "update", globals)?;
        let container = globals.store.find(id)?;
        let resources = match said.resources.as_ref().filter(|path| !path.is_empty()) {
            Some(path) => read(path)?,
            None => said.resources().on(id)?,
        };
        let memory = resources.memory.as_ref();
        if memory.is_some_and(|memory| memory.kernel.or(memory.kernel_tcp).is_some()) {
            log::warning(&"Kernel memory settings are ignored and will be removed");
        }
        let schema = |text: Option<String>| text.unwrap_or_default();
        let (l3, bandwidth) = (schema(said.l3_cache_schema), schema(said.mem_bw_schema));
        container.update(&resources, &l3, &bandwidth).map(|()| 0)
    },
);

#[derive(Args)]
struct UpdateArgs {
    /// path to a file with the resources to update, or '-' for the standard input: JSON as
    /// config.json's linux.resources, what is to stay left out; all other options are ignored
    #[arg(long, short, value_name = "value")]
    resources: Option<OsString>,
    /// per cgroup weight, range is from 10 to 1000
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    blkio_weight: Option<String>,
    /// CPU CFS period to be used for hardcapping (in usecs). 0 to use system default
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_period: Option<String>,
    /// CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// CPU CFS burst limit (in usecs): what may be saved up for a period
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_burst: Option<String>,
    /// CPU shares (relative weight vs. other containers)
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_share: Option<String>,
    /// CPU realtime period to be used for hardcapping (in usecs). 0 to use system default
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_rt_period: Option<String>,
    /// CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<String>,
    /// CPU(s) to use
    #[arg(long, value_name = "value")]
    cpuset_cpus: Option<String>,
    /// memory node(s) to use
    #[arg(long, value_name = "value")]
    cpuset_mems: Option<String>,
    /// ignored
    #[arg(long, value_name = "value", allow_hyphen_values = true, hide = true)]
    kernel_memory: Option<String>,
    /// ignored
    #[arg(long, value_name = "value", allow_hyphen_values = true, hide = true)]
    kernel_memory_tcp: Option<String>,
    /// memory limit (in bytes)
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    memory: Option<String>,
    /// set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    cpu_idle: Option<String>,
    /// memory reservation or soft_limit (in bytes)
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// total memory usage (memory + swap); set '-1' to enable unlimited swap
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// maximum number of pids allowed in the container
    #[arg(long, value_name = "value", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Intel RDT/CAT L3 cache schema
    #[arg(long, value_name = "value")]
    l3_cache_schema: Option<String>,
    /// Intel RDT/MBA memory bandwidth schema
    #[arg(long, value_name = "value")]
    mem_bw_schema: Option<String>,
    #[arg(hide = true)]
    ids: Vec<String>,
}

/// A value that does not read.
fn invalid(flag: &str, why: &str) -> Error {
    Error::rule(Doing::Update, format!("invalid value for {flag}: {why}"))
}

/// An empty value is none, as Go's flags have it.
fn said(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

fn number<T: FromStr>(flag: &str, value: &Option<String>) -> Result<Option<T>> {
    let number = |text: &str| {
        let why = || format!("parsing {text:?}: invalid syntax");
        text.parse().map_err(|_| invalid(flag, &why()))
    };
    said(value).map(number).transpose()
}

fn bytes(flag: &str, value: &Option<String>) -> Result<Option<i64>> {
    let bytes = |text| size::parse(text).map_err(|why| invalid(flag, &why));
    said(value).map(bytes).transpose()
}

impl UpdateArgs {
    fn resources(&self) -> Result<Resources> {
        let text = |value: &Option<String>| said(value).unwrap_or_default().to_owned();
        Ok(Resources {
            memory: Some(Memory {
                limit: bytes("memory", &self.memory)?,
                swap: bytes("memory-swap", &self.memory_swap)?,
                kernel: bytes("kernel-memory", &self.kernel_memory)?,
                kernel_tcp: bytes("kernel-memory-tcp", &self.kernel_memory_tcp)?,
                reservation: bytes("memory-reservation", &self.memory_reservation)?,
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                shares: number("cpu-share", &self.cpu_share)?,
                quota: number("cpu-quota", &self.cpu_quota)?,
                burst: number("cpu-burst", &self.cpu_burst)?,
                period: number("cpu-period", &self.cpu_period)?,
                realtime_runtime: number("cpu-rt-runtime", &self.cpu_rt_runtime)?,
                realtime_period: number("cpu-rt-period", &self.cpu_rt_period)?,
                cpus: text(&self.cpuset_cpus),
                mems: text(&self.cpuset_mems),
                idle: number("cpu-idle", &self.cpu_idle)?,
            }),
            block_io: Some(BlockIo {
                weight: number("blkio-weight", &self.blkio_weight)?.filter(|weight| *weight != 0),
                ..BlockIo::default()
            }),
            pids: Some(Pids {
                limit: number("pids-limit", &self.pids_limit)?,
            }),
            ..Resources::default()
        })
    }
}

fn read(path: &OsString) -> Result<Resources> {
    let name = path.to_string_lossy();
    if path != "-" {
        let bytes = std::fs::read(path).doing(Doing::ReadConfig).on(&name)?;
        return parse(&bytes, name);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .doing(Doing::ReadConfig)
        .on("the standard input")?;
    parse(&bytes, "the standard input")
}
