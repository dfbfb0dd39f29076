//! LIMIT, planned: linux.resources becomes the files to write and what to write; pure.
//!
//! The conversions are runc's, so that a limit means the same under either runtime. As there, zero
//! means "not set" wherever the kernel has no use for a zero. What v2 cannot express (realtime,
//! swappiness, OOM killer, network) is left out on v2, and kernel memory everywhere, as by runc.
#![forbid(unsafe_code)]

use super::host::Mode;
use crate::bundle::config::{BlockIo, Cpu, Memory, Resources, ThrottleDevice, WeightDevice};
use crate::error::{Doing, Error, Result};
use std::borrow::Cow;

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// Who owns the file; on v1 the hierarchy it is in.
    pub(super) controller: Cow<'static, str>,
    /// The file, without directories.
    pub(super) file: Cow<'static, str>,
    /// What is written, in one call.
    pub(super) value: String,
    /// Who asked, below `linux.resources.`.
    pub(super) field: Cow<'static, str>,
    /// What is no failure.
    pub(super) mercy: Mercy,
}

/// Which refusals of the kernel are no failure, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mercy {
    /// None.
    None,
    /// The file may be absent: the kernel does without, and nothing is lost.
    Absent,
    /// If absent, this file takes this value instead.
    Or(&'static str, String),
    /// EINVAL means "not before another": it is written again after all others.
    Later,
    /// Both of the last and of `Absent`.
    LaterOrAbsent,
    /// The kernel may take another value in silence: it is read back.
    ReadBack,
}

/// All that is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) writes: Vec<Write>,
    /// `checkBeforeUpdate` on v2: memory in use must be below these limits (of memory, and of it
    /// with swap); v1's kernel checks by itself.
    pub(super) below: Option<(i64, i64)>,
}

impl Limits {
    /// Converts.
    pub(super) fn plan(mode: Mode, resources: &Resources) -> Result<Self> {
        let mut limits = Self::default();
        if mode == Mode::V1 && !resources.unified.is_empty() {
            let why = "invalid configuration: cannot use unified on cgroup v1";
            return Err(refuse("unified", why));
        }
        // runc's order: what a limit needs is written before it.
        if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
            // systemd cannot say 0, so runc made it 1 everywhere; no process starts either way.
            let value = match limit {
                0 => "1".into(),
                1.. => limit.to_string(),
                _ => "max".into(),
            };
            limits.put("pids", "pids.max", value, "pids.limit");
        }
        if let Some(memory) = &resources.memory {
            limits.memory(mode, memory)?;
        }
        if let Some(io) = &resources.block_io {
            let is_empty = |device: &WeightDevice| device.weight.or(device.leaf_weight).is_none();
            if let Some(index) = io.weight_device.iter().position(is_empty) {
                // config-linux.md: "You MUST specify at least one of weight or leafWeight".
                let why = "neither weight nor leafWeight is given";
                return Err(refuse(&format!("blockIO.weightDevice[{index}]"), why));
            }
            limits.block_io(mode, io);
        }
        if let Some(cpu) = &resources.cpu {
            match mode {
                Mode::V1 => limits.cpu_v1(cpu),
                Mode::V2 => limits.cpu_v2(cpu),
            }
            for (value, file, field) in [
                (&cpu.cpus, "cpuset.cpus", "cpu.cpus"),
                (&cpu.mems, "cpuset.mems", "cpu.mems"),
            ] {
                if !value.is_empty() {
                    limits.put("cpuset", file, value.clone(), field);
                }
            }
        }
        limits.hugepages(mode, resources)?;
        for (device, limit) in &resources.rdma {
            if limit.hca_handles.or(limit.hca_objects).is_none() {
                // config-linux.md: "You MUST specify at least one of the hcaHandles or hcaObjects".
                let why = "neither hcaHandles nor hcaObjects is given";
                return Err(refuse(&format!("rdma.{device}"), why));
            }
            let mut value = device.clone();
            for (key, count) in [
                ("hca_handle", limit.hca_handles),
                ("hca_object", limit.hca_objects),
            ] {
                if let Some(count) = count {
                    value += &format!(" {key}={count}");
                }
            }
            limits.put("rdma", "rdma.max", value, "rdma");
        }
        if mode == Mode::V1 {
            limits.network(resources);
        }
        limits.unified(resources)?;
        Ok(limits)
    }

    /// Whether these files must be written before a process enters: on v1 a cpuset without cpus
    /// takes nobody, and a cpu cgroup without realtime bandwidth takes no realtime process.
    pub(super) fn is_early(write: &Write) -> bool {
        write.controller == "cpuset" || write.file.starts_with("cpu.rt_")
    }

    fn put(
        &mut self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
        field: impl Into<Cow<'static, str>>,
    ) -> &mut Self {
        self.writes.push(Write {
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
            field: field.into(),
            mercy: Mercy::None,
        });
        self
    }

    /// What is no failure of the last one put.
    fn forgiving(&mut self, mercy: Mercy) {
        if let Some(write) = self.writes.last_mut() {
            write.mercy = mercy;
        }
    }

    fn memory(&mut self, mode: Mode, memory: &Memory) -> Result<()> {
        let limit = memory.limit.unwrap_or(0);
        let swap = memory.swap.unwrap_or(0);
        let reservation = memory.reservation.unwrap_or(0);
        if swap > 0 && limit == 0 && mode == Mode::V2 {
            return Err(refuse(
                "memory.swap",
                "unable to set swap limit without memory limit",
            ));
        }
        if swap > 0 && limit > 0 && swap < limit {
            return Err(refuse(
                "memory.swap",
                "memory+swap limit should be >= memory limit",
            ));
        }
        if limit < -1 {
            return Err(refuse(
                "memory.limit",
                format!("invalid memory value: {limit}"),
            ));
        }
        match mode {
            Mode::V1 => {
                // Each must not pass the other, whichever way they move.
                if limit != 0 {
                    self.put("memory", "memory.limit_in_bytes", limit, "memory.limit")
                        .forgiving(Mercy::Later);
                }
                if swap != 0 {
                    self.put("memory", "memory.memsw.limit_in_bytes", swap, "memory.swap");
                } else if limit == -1 {
                    // No limit of memory alone means none of both.
                    self.put("memory", "memory.memsw.limit_in_bytes", -1, "memory.limit")
                        .forgiving(Mercy::Absent);
                }
                if reservation != 0 {
                    self.put(
                        "memory",
                        "memory.soft_limit_in_bytes",
                        reservation,
                        "memory.reservation",
                    );
                }
                if memory.disable_oom_killer == Some(true) {
                    self.put("memory", "memory.oom_control", 1, "memory.disableOOMKiller");
                }
                match memory.swappiness {
                    None | Some(u64::MAX) => {}
                    Some(value @ 0..=100) => {
                        self.put("memory", "memory.swappiness", value, "memory.swappiness");
                    }
                    Some(value) => {
                        let why = format!(
                            "invalid memory swappiness value: {value} (valid range is 0-100)"
                        );
                        return Err(refuse("memory.swappiness", why));
                    }
                }
                // useHierarchy has been fixed to true since Linux 5.11, and runc ignores it.
            }
            Mode::V2 => {
                let max = |value: i64| match value {
                    -1 => "max".into(),
                    value => value.to_string(),
                };
                // v1 counts memory and swap together, v2 apart.
                let apart = match (limit, swap) {
                    (-1, 0) | (_, -1) => Some(-1),
                    (_, 0) => None,
                    (-1, swap) => Some(swap),
                    (limit, swap) => Some(swap - limit),
                };
                if let Some(apart) = apart {
                    self.put("memory", "memory.swap.max", max(apart), "memory.swap");
                    if apart <= 0 {
                        // Without swap in the kernel, none and any amount are the same.
                        self.forgiving(Mercy::Absent);
                    }
                }
                if limit != 0 {
                    self.put("memory", "memory.max", max(limit), "memory.limit");
                }
                if reservation != 0 {
                    self.put(
                        "memory",
                        "memory.low",
                        max(reservation),
                        "memory.reservation",
                    );
                }
                if memory.check_before_update == Some(true) && (limit > 0 || swap > 0) {
                    self.below = Some((limit, swap));
                }
            }
        }
        Ok(())
    }

    fn cpu_v1(&mut self, cpu: &Cpu) {
        if let Some(shares @ 1..) = cpu.shares {
            self.put("cpu", "cpu.shares", shares, "cpu.shares")
                .forgiving(Mercy::ReadBack);
        }
        // The kernel checks quota/period and burst against the parent at each write, so what is
        // right only together is refused in the wrong order.
        if let Some(period @ 1..) = cpu.period {
            self.put("cpu", "cpu.cfs_period_us", period, "cpu.period")
                .forgiving(Mercy::Later);
        }
        if let Some(burst) = cpu.burst {
            self.put("cpu", "cpu.cfs_burst_us", burst, "cpu.burst")
                .forgiving(Mercy::LaterOrAbsent);
        }
        if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
            self.put("cpu", "cpu.cfs_quota_us", quota, "cpu.quota");
        }
        if let Some(idle) = cpu.idle {
            self.put("cpu", "cpu.idle", idle, "cpu.idle");
        }
        if let Some(period @ 1..) = cpu.realtime_period {
            self.put("cpu", "cpu.rt_period_us", period, "cpu.realtimePeriod")
                .forgiving(Mercy::Later);
        }
        if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
            self.put("cpu", "cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime");
        }
    }

    fn cpu_v2(&mut self, cpu: &Cpu) {
        if let Some(idle) = cpu.idle {
            self.put("cpu", "cpu.idle", idle, "cpu.idle");
        }
        if let Some(shares @ 1..) = cpu.shares {
            self.put("cpu", "cpu.weight", weight(shares), "cpu.shares");
        }
        if let Some(burst) = cpu.burst {
            self.put("cpu", "cpu.max.burst", burst, "cpu.burst")
                .forgiving(Mercy::Later);
        }
        let quota = cpu.quota.unwrap_or(0);
        let period = cpu.period.unwrap_or(0);
        if quota != 0 || period != 0 {
            let quota = if quota > 0 {
                quota.to_string()
            } else {
                "max".into()
            };
            let period = if period == 0 { 100_000 } else { period };
            self.put("cpu", "cpu.max", format!("{quota} {period}"), "cpu.quota");
        }
    }

    fn block_io(&mut self, mode: Mode, io: &BlockIo) {
        let controller = if mode == Mode::V1 { "blkio" } else { "io" };
        let numbers = |device: &WeightDevice, value: u16| {
            format!("{}:{} {value}", device.major, device.minor)
        };
        if let Some(weight @ 1..) = io.weight {
            // The weight of the scheduler that there is: CFQ's or BFQ's; BFQ's or iocost's.
            let (file, or) = match mode {
                Mode::V1 => (
                    "blkio.weight",
                    Mercy::Or("blkio.bfq.weight", weight.to_string()),
                ),
                Mode::V2 => (
                    "io.bfq.weight",
                    Mercy::Or("io.weight", io_weight(weight).to_string()),
                ),
            };
            self.put(controller, file, weight, "blockIO.weight")
                .forgiving(or);
        }
        if let (Mode::V1, Some(weight @ 1..)) = (mode, io.leaf_weight) {
            self.put(
                controller,
                "blkio.leaf_weight",
                weight,
                "blockIO.leafWeight",
            );
        }
        for device in &io.weight_device {
            if let Some(weight @ 1..) = device.weight {
                let value = numbers(device, weight);
                let (file, mercy) = match mode {
                    Mode::V1 => (
                        "blkio.weight_device",
                        Mercy::Or("blkio.bfq.weight_device", value.clone()),
                    ),
                    // Per device only BFQ's weights mean the same; runc leaves them out without it.
                    Mode::V2 => ("io.bfq.weight", Mercy::Absent),
                };
                self.put(controller, file, value, "blockIO.weightDevice")
                    .forgiving(mercy);
            }
            if let (Mode::V1, Some(weight @ 1..)) = (mode, device.leaf_weight) {
                let value = numbers(device, weight);
                self.put(
                    controller,
                    "blkio.leaf_weight_device",
                    value,
                    "blockIO.weightDevice",
                );
            }
        }
        let throttles: [(&[ThrottleDevice], _, _, _); 4] = [
            (
                &io.throttle_read_bps_device,
                "read_bps",
                "rbps",
                "blockIO.throttleReadBpsDevice",
            ),
            (
                &io.throttle_write_bps_device,
                "write_bps",
                "wbps",
                "blockIO.throttleWriteBpsDevice",
            ),
            (
                &io.throttle_read_iops_device,
                "read_iops",
                "riops",
                "blockIO.throttleReadIOPSDevice",
            ),
            (
                &io.throttle_write_iops_device,
                "write_iops",
                "wiops",
                "blockIO.throttleWriteIOPSDevice",
            ),
        ];
        for (devices, v1, v2, field) in throttles {
            for ThrottleDevice { major, minor, rate } in devices {
                match mode {
                    Mode::V1 => {
                        let file = format!("blkio.throttle.{v1}_device");
                        self.put(controller, file, format!("{major}:{minor} {rate}"), field);
                    }
                    Mode::V2 => {
                        self.put(
                            controller,
                            "io.max",
                            format!("{major}:{minor} {v2}={rate}"),
                            field,
                        );
                    }
                }
            }
        }
    }

    fn hugepages(&mut self, mode: Mode, resources: &Resources) -> Result<()> {
        let end = if mode == Mode::V1 {
            "limit_in_bytes"
        } else {
            "max"
        };
        for (index, huge) in resources.hugepage_limits.iter().enumerate() {
            let field = format!("hugepageLimits[{index}]");
            let size = &huge.page_size;
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                let why = format!("invalid page size {size:?}: 64KB, 2MB or 1GB is wanted");
                return Err(refuse(&format!("{field}.pageSize"), why));
            }
            // Reservations count too where the kernel (5.7) counts them.
            let (used, reserved) = (
                format!("hugetlb.{size}.{end}"),
                format!("hugetlb.{size}.rsvd.{end}"),
            );
            self.put("hugetlb", used, huge.limit, field.clone());
            self.put("hugetlb", reserved, huge.limit, field)
                .forgiving(Mercy::Absent);
        }
        Ok(())
    }

    fn network(&mut self, resources: &Resources) {
        let Some(network) = &resources.network else {
            return;
        };
        if let Some(class @ 1..) = network.class_id {
            self.put("net_cls", "net_cls.classid", class, "network.classID");
        }
        for one in &network.priorities {
            let value = format!("{} {}", one.name, one.priority);
            self.put(
                "net_prio",
                "net_prio.ifpriomap",
                value,
                "network.priorities",
            );
        }
    }

    /// The v2 files by name: last, since they override the rest.
    fn unified(&mut self, resources: &Resources) -> Result<()> {
        for (file, value) in &resources.unified {
            let field = format!("unified[{file:?}]");
            if file.contains(['/', '\0']) {
                let why = format!("unified resource {file:?} must be a file name (no slashes)");
                return Err(refuse(&field, why));
            }
            let parts = file.split_once('.');
            let Some((controller, _)) = parts.filter(|(name, _)| !name.is_empty()) else {
                let why =
                    format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER");
                return Err(refuse(&field, why));
            };
            // Files with a key on each line take one line at a time.
            for line in value.split_inclusive('\n') {
                self.writes.push(Write {
                    controller: controller.to_owned().into(),
                    file: file.clone().into(),
                    value: line.into(),
                    field: field.clone().into(),
                    mercy: Mercy::None,
                });
            }
        }
        Ok(())
    }
}

/// An error about a field below `linux.resources`.
fn refuse(field: &str, why: impl Into<Box<str>>) -> Error {
    Error::rule(Doing::PlanCgroup, why).field(format!("linux.resources.{field}"))
}

/// cpu.shares (2 to 262144, usually 1024) as a cpu.weight (1 to 10000, usually 100).
///
/// The curve through these three points that runc, crun and systemd agreed on; see
/// <https://github.com/opencontainers/cgroups/pull/20>.
fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    // Exact: the value has 18 bits.
    let l = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
    let power = 10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
    // The whole number it is, without a lossy cast: bit by bit, 10000 has 14.
    let add = |sum: u32, bit: u32| {
        if f64::from(sum | bit) <= power {
            sum | bit
        } else {
            sum
        }
    };
    u64::from((0..14).rev().map(|bit| 1 << bit).fold(0, add))
}

/// A blkio weight (10 to 1000) as an io.weight (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
