//! Intel RDT: the resource group that the kernel says the process is in.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// Judges `linux.intelRdt` by /proc/self/cpu_resctrl_groups.
pub fn check(config: &Config, report: &mut Report) {
    let Some(asked) = &config.linux.intel_rdt else {
        return;
    };
    let claim = "linux.intelRdt: the resource group can be seen";
    let file = "/proc/self/cpu_resctrl_groups";
    let Some(shown) = report.seen(claim, file, text(file)) else {
        return;
    };
    let of = |kind: &str| shown.lines().find_map(|line| line.strip_prefix(kind));
    let group = of("res:").unwrap_or_default();
    // Without a name it is the container's id, which is not known in here.
    match asked.clos_id.as_str() {
        "" => {
            let claim = "linux.intelRdt: the class of service is the container's own";
            let ok = !matches!(group, "" | "/");
            report.holds(claim, "a group", group, ok);
        }
        clos => {
            let claim = "linux.intelRdt.closID is the class of service";
            report.equal(claim, clos, group);
        }
    }
    if asked.enable_monitoring {
        let claim = "linux.intelRdt.enableMonitoring: there is a monitoring group";
        let monitor = of("mon:").unwrap_or_default();
        report.holds(claim, "a group", monitor, !monitor.is_empty());
    }
}
