//! Mount propagation, as mountinfo's optional fields show it.
#![forbid(unsafe_code)]

use crate::case::{Case, Result};
use crate::check;
use crate::kernel::{mount_at, until};
use crate::lab::Lab;
use crate::scene;
use nix::mount::MsFlags;
use procfs::process::{MountInfo, MountOptFields};

/// One case for each option and each way to say it, and what they are for.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["private", "slave", "shared", "unbindable"] {
        for option in [kind.to_owned(), format!("r{kind}")] {
            let name = format!("mount_option_{option}");
            cases.push(Case::new(&name, move |lab| of_a_mount(lab, &option, kind)));
        }
        let name = format!("rootfs_propagation_{kind}");
        cases.push(Case::new(&name, move |lab| of_the_root(lab, kind)));
    }
    cases.extend(more());
    cases
}

crate::cases! {
    in more;
    without_an_option_a_bind_is_private_to_the_container,
    a_slave_mount_receives_the_hosts_mounts,
    a_shared_mount_sends_its_mounts_to_the_host,
}

fn shown(mount: &MountInfo) -> Vec<&'static str> {
    let fields = mount.opt_fields.iter().map(|field| match field {
        MountOptFields::Shared(_) => "shared",
        MountOptFields::Master(_) => "slave",
        MountOptFields::PropagateFrom(_) => "from",
        MountOptFields::Unbindable => "unbindable",
    });
    fields.collect()
}

fn matches(mount: &MountInfo, kind: &str) -> Result {
    let shown = shown(mount);
    let right = match kind {
        "private" => shown.is_empty(),
        kind => shown.contains(&kind),
    };
    check!(right, "want {kind}, mountinfo shows {shown:?}");
    Ok(())
}

fn of_a_mount(lab: &Lab, option: &str, kind: &str) -> Result {
    // Slaves need a master: the host's tree must be shared.
    scene::own_mounts(MsFlags::MS_SHARED)?;
    let source = lab.directory("source")?;
    scene::tmpfs(&source)?;
    let mut bundle = lab.idle()?;
    bundle.mount("bind", &source, "/mnt", &["bind", option])?;
    if kind != "private" {
        bundle.set("/linux/rootfsPropagation", "rslave")?;
    }
    let container = lab.started(&bundle)?;
    matches(&mount_at(container.executes("sleep")?, "/mnt")?, kind)
}

fn of_the_root(lab: &Lab, kind: &str) -> Result {
    scene::own_mounts(MsFlags::MS_SHARED)?;
    let mut bundle = lab.idle()?;
    bundle.set("/linux/rootfsPropagation", kind)?;
    let container = lab.started(&bundle)?;
    matches(&mount_at(container.executes("sleep")?, "/")?, kind)
}

fn without_an_option_a_bind_is_private_to_the_container(lab: &Lab) -> Result {
    scene::own_mounts(MsFlags::MS_SHARED)?;
    let source = lab.directory("source")?;
    scene::tmpfs(&source)?;
    let mut bundle = lab.idle()?;
    bundle.mount("bind", &source, "/mnt", &["rbind"])?;
    let container = lab.started(&bundle)?;
    let mount = mount_at(container.executes("sleep")?, "/mnt")?;
    check!(
        !shown(&mount).contains(&"shared"),
        "mountinfo shows {:?}",
        shown(&mount)
    );
    Ok(())
}

fn a_slave_mount_receives_the_hosts_mounts(lab: &Lab) -> Result {
    scene::own_mounts(MsFlags::MS_SHARED)?;
    let source = lab.directory("source")?;
    scene::tmpfs(&source)?;
    let sub = lab.directory("source/sub")?;
    let mut bundle = lab.idle()?;
    bundle.mount("bind", &source, "/mnt", &["rbind", "rslave"])?;
    bundle.set("/linux/rootfsPropagation", "rslave")?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    scene::tmpfs(&sub)?;
    until("the host's mount in the container", || {
        mount_at(pid, "/mnt/sub").ok()
    })?;
    Ok(())
}

fn a_shared_mount_sends_its_mounts_to_the_host(lab: &Lab) -> Result {
    scene::own_mounts(MsFlags::MS_SHARED)?;
    let source = lab.directory("source")?;
    scene::tmpfs(&source)?;
    let sub = lab.directory("source/sub")?;
    let mut bundle = lab.script("mount -t tmpfs x /mnt/sub && echo mounted && exec sleep 1000")?;
    bundle.caps(&["CAP_SYS_ADMIN"])?;
    bundle.mount("bind", &source, "/mnt", &["rbind", "rshared"])?;
    bundle.set("/linux/rootfsPropagation", "rshared")?;
    let container = lab.started(&bundle)?;
    container.says("mounted")?;
    let below = crate::kernel::mounts_below(&sub);
    check!(below.contains(&sub), "the host does not see it: {below:?}");
    Ok(())
}
