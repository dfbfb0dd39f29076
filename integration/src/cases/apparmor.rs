//! AppArmor: the profile that a process is given, as the kernel tells it of that process.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::until;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::process::Command;

cases! {
    apparmor_confines_the_program: [AppArmor, Tool("apparmor_parser")],
    apparmor_confines_what_is_execed: [AppArmor, Tool("apparmor_parser")],
    apparmor_of_a_process_json_is_its_own: [AppArmor, Tool("apparmor_parser")],
    apparmor_flag_of_exec_overrides_the_config: [AppArmor, Tool("apparmor_parser")],
    apparmor_without_new_privileges_confines: [AppArmor, Tool("apparmor_parser")],
    apparmor_in_a_user_namespace_confines: [AppArmor, Userns, Tool("apparmor_parser")],
    an_unknown_apparmor_profile_is_refused: [AppArmor],
    an_unknown_apparmor_profile_is_refused_by_exec: [AppArmor],
    no_apparmor_profile_leaves_the_callers: [AppArmor],
}

/// A profile in the kernel, taken out with the value: it allows all but writing to /tmp.
struct Profile(String);

impl Profile {
    fn load(lab: &Lab) -> Result<Self> {
        let name = lab.id();
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n\
             file,\ncapability,\nnetwork,\nmount,\numount,\npivot_root,\nptrace,\nsignal,\nunix,\n\
             deny /tmp/** w,\n}}\n"
        );
        let profile = Self(name);
        let file = lab.file(&format!("{}.profile", profile.0), &text)?;
        let told = Command::new("apparmor_parser")
            .args(["--replace", "--skip-cache"])
            .arg(file)
            .output()?;
        let err = String::from_utf8_lossy(&told.stderr);
        check!(told.status.success(), "apparmor_parser: {err}");
        Ok(profile)
    }

    fn label(&self) -> String {
        format!("{} (enforce)", self.0)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        std::fs::write("/sys/kernel/security/apparmor/.remove", &self.0).ok();
    }
}

/// What the kernel says of a process.
fn label(pid: i32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current"))?;
    Ok(text.trim().to_owned())
}

/// The label once the program runs: it changes at execve.
fn wears(pid: i32, want: &str) -> Result {
    until(&format!("{want} of pid {pid}"), || {
        label(pid).ok().filter(|got| got == want)
    })
    .map(drop)
}

fn confined(lab: &Lab, profile: &str) -> Result<Bundle> {
    let mut bundle = lab.script("exec sleep 1000")?;
    bundle.set("/process/apparmorProfile", profile)?;
    Ok(bundle)
}

const TRY: &str =
    "cat /proc/self/attr/current; echo x > /tmp/x || echo denied; echo x > /root/x && echo fine";

fn apparmor_confines_the_program(lab: &Lab) -> Result {
    let profile = Profile::load(lab)?;
    let container = lab.started(&confined(lab, &profile.0)?)?;
    wears(container.executes("sleep")?, &profile.label())?;
    let mut bundle = lab.script(TRY)?;
    bundle.set("/process/apparmorProfile", profile.0.as_str())?;
    let told = lab.told(&bundle)?;
    same!(
        "stdout",
        told,
        format!("{}\ndenied\nfine\n", profile.label())
    );
    Ok(())
}

fn apparmor_confines_what_is_execed(lab: &Lab) -> Result {
    let profile = Profile::load(lab)?;
    let container = lab.started(&confined(lab, &profile.0)?)?;
    let told = container.sh(TRY)?.ok()?.out;
    same!(
        "stdout",
        told,
        format!("{}\ndenied\nfine\n", profile.label())
    );
    Ok(())
}

fn apparmor_of_a_process_json_is_its_own(lab: &Lab) -> Result {
    let (first, second) = (Profile::load(lab)?, Profile::load(lab)?);
    let container = lab.started(&confined(lab, &first.0)?)?;
    let process = json!({"args": ["cat", "/proc/self/attr/current"], "cwd": "/",
        "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "apparmorProfile": second.0});
    let file = lab.file("process.json", &process.to_string())?;
    let told = container
        .call("exec", &["--process", &file.to_string_lossy()], &[])?
        .ok()?
        .out;
    same!("label", told.trim(), second.label());
    Ok(())
}

fn apparmor_flag_of_exec_overrides_the_config(lab: &Lab) -> Result {
    let (first, second) = (Profile::load(lab)?, Profile::load(lab)?);
    let container = lab.started(&confined(lab, &first.0)?)?;
    let rest = ["cat", "/proc/self/attr/current"];
    let told = container
        .call("exec", &["--apparmor", &second.0], &rest)?
        .ok()?
        .out;
    same!("label", told.trim(), second.label());
    Ok(())
}

fn apparmor_without_new_privileges_confines(lab: &Lab) -> Result {
    let profile = Profile::load(lab)?;
    for none in [true, false] {
        let mut bundle = lab.script("cat /proc/self/attr/current")?;
        bundle
            .set("/process/apparmorProfile", profile.0.as_str())?
            .set("/process/noNewPrivileges", none)?;
        same!(
            format!("noNewPrivileges {none}"),
            lab.told(&bundle)?.trim(),
            profile.label()
        );
    }
    Ok(())
}

fn apparmor_in_a_user_namespace_confines(lab: &Lab) -> Result {
    let profile = Profile::load(lab)?;
    let mut bundle = confined(lab, &profile.0)?;
    bundle.mapped()?;
    let container = lab.started(&bundle)?;
    wears(container.executes("sleep")?, &profile.label())?;
    same!(
        "exec",
        container
            .sh("cat /proc/self/attr/current")?
            .ok()?
            .out
            .trim(),
        profile.label()
    );
    Ok(())
}

fn an_unknown_apparmor_profile_is_refused(lab: &Lab) -> Result {
    let bundle = confined(lab, "no-such-profile-7")?;
    let err = lab
        .run(&bundle)?
        .refused("a profile that is not loaded")?
        .err;
    check!(
        err.contains("no-such-profile-7") || err.contains("apparmor") || err.contains("attr/exec"),
        "{err}"
    );
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    Ok(())
}

fn an_unknown_apparmor_profile_is_refused_by_exec(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    container
        .call("exec", &["--apparmor", "no-such-profile-7"], &["true"])?
        .refused("a profile that is not loaded")?;
    same!("status", container.status()?, "running");
    Ok(())
}

fn no_apparmor_profile_leaves_the_callers(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let own = label(i32::try_from(std::process::id())?)?;
    wears(container.executes("sleep")?, &own)
}
