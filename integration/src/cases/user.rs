//! The user: ids, groups, home.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::status_line;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;

cases! {
    user_and_group_ids_are_set,
    additional_groups_are_set_exactly,
    without_additional_groups_there_are_none,
    a_user_need_not_be_in_passwd,
    home_comes_from_passwd,
    home_of_a_stranger_is_the_root,
    a_given_home_stays,
    stdio_can_be_reopened_by_the_user,
    a_user_may_be_in_a_directory_only_he_can_enter,
    a_users_files_are_his,
}

fn user_and_group_ids_are_set(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}))?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    same!("uids", status_line(pid, "Uid")?, "1000 1000 1000 1000");
    same!("gids", status_line(pid, "Gid")?, "1001 1001 1001 1001");
    Ok(())
}

fn additional_groups_are_set_exactly(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 2_000_000_000, 9]});
    bundle.set("/process/user", user)?;
    let container = lab.started(&bundle)?;
    let groups = status_line(container.executes("sleep")?, "Groups")?;
    same!("groups", groups, "5 9 2000000000");
    Ok(())
}

fn without_additional_groups_there_are_none(lab: &Lab) -> Result {
    // The caller's must not stay.
    nix::unistd::setgroups(&[1234.into(), 4321.into()])?;
    for user in [
        json!({"uid": 0, "gid": 0}),
        json!({"uid": 1000, "gid": 1000}),
    ] {
        let mut bundle = lab.idle()?;
        bundle.set("/process/user", user)?;
        let container = lab.started(&bundle)?;
        same!(
            "groups",
            status_line(container.executes("sleep")?, "Groups")?,
            ""
        );
    }
    Ok(())
}

fn a_user_need_not_be_in_passwd(lab: &Lab) -> Result {
    let mut bundle = lab.script("id -u; id -g")?;
    bundle.set("/process/user", json!({"uid": 54321, "gid": 2_147_483_647}))?;
    same!("ids", lab.told(&bundle)?, "54321\n2147483647\n");
    Ok(())
}

fn home_comes_from_passwd(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo $HOME")?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    same!("HOME", lab.told(&bundle)?, "/home/user\n");
    same!("HOME", lab.told(&lab.script("echo $HOME")?)?, "/root\n");
    Ok(())
}

fn home_of_a_stranger_is_the_root(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo $HOME")?;
    bundle.set("/process/user", json!({"uid": 777, "gid": 777}))?;
    same!("HOME", lab.told(&bundle)?, "/\n");
    Ok(())
}

fn a_given_home_stays(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo $HOME")?;
    bundle.set("/process/env", json!(["PATH=/bin", "HOME=/given"]))?;
    same!("HOME", lab.told(&bundle)?, "/given\n");
    Ok(())
}

fn stdio_can_be_reopened_by_the_user(lab: &Lab) -> Result {
    // Engines give pipes; a program must be able to write to /dev/stdout.
    let mut bundle = lab.script("echo one > /dev/stdout; echo two > /dev/stderr")?;
    bundle
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))?
        .save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let output = lab.command(&["run", "-b", &dir, &id]).output()?;
    let (out, err) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    );
    same!("stdout", out, "one\n");
    same!("stderr", err, "two\n");
    Ok(())
}

fn a_user_may_be_in_a_directory_only_he_can_enter(lab: &Lab) -> Result {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = lab.script("pwd")?;
    let home = bundle.inside("home/user");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
    nix::unistd::chown(&home, Some(1000.into()), Some(1000.into()))?;
    bundle.caps(&[])?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    bundle.set("/process/cwd", "/home/user")?;
    same!("pwd", lab.told(&bundle)?, "/home/user\n");
    Ok(())
}

fn a_users_files_are_his(lab: &Lab) -> Result {
    use std::os::unix::fs::MetadataExt;
    let mut bundle = lab.script("touch /tmp/made")?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}))?;
    lab.told(&bundle)?;
    let meta = std::fs::metadata(bundle.inside("tmp/made"))?;
    check!(
        (meta.uid(), meta.gid()) == (1000, 1001),
        "{}:{}",
        meta.uid(),
        meta.gid()
    );
    Ok(())
}
