//! What Docker mounts into a container.
#![forbid(unsafe_code)]

use super::Lesson;
use crate::case::Result;
use crate::docker::Docker;
use crate::{check, same};

pub(super) const LESSONS: &[Lesson] = &[
    ("docker run --volume NAME:/v", volume),
    ("docker run --volume /DIR:/b", bind),
    ("docker run --mount type=bind,readonly", read_only_bind),
    ("docker run --tmpfs /t:size=1m", tmpfs),
    ("docker run --read-only", read_only),
];

fn volume(docker: &mut Docker<'_>) -> Result<String> {
    docker
        .run(&["--volume", "vol:/v"], "echo kept >/v/f")?
        .ok()?;
    let again = docker.run(&["--volume", "vol:/v:ro"], "cat /v/f; touch /v/g")?;
    same!("again", again.out, "kept\n");
    same!("read-only", again.code, 1);
    docker.call(&["volume", "rm", "vol"])?.ok()?;
    Ok(format!("{}; read-only where asked", again.out.trim()))
}

fn bind(docker: &mut Docker<'_>) -> Result<String> {
    let dir = docker.lab.directory("bound")?;
    docker.lab.file("bound/f", "host\n")?;
    let bind = format!("{}:/b", dir.display());
    let output = docker.run(&["--volume", &bind], "cat /b/f; echo back >/b/g")?;
    same!("read", output.ok()?.out, "host\n");
    same!("written", crate::lab::text(&dir.join("g"))?, "back\n");
    Ok("read and written".into())
}

fn read_only_bind(docker: &mut Docker<'_>) -> Result<String> {
    let dir = docker.lab.directory("bound")?;
    let mount = format!("type=bind,src={},dst=/b,readonly", dir.display());
    let output = docker.run(&["--mount", &mount], "touch /b/x")?;
    check!(
        output.err.contains("Read-only file system"),
        "{}",
        output.err
    );
    Ok(output.err)
}

fn tmpfs(docker: &mut Docker<'_>) -> Result<String> {
    let script = "dd if=/dev/zero of=/t/f bs=1M count=2 2>&1 | grep -o 'No space.*'; \
                  grep -o '^tmpfs /t [^ ]* [^ ]*' /proc/mounts | sed 's/,relatime//'";
    let output = docker.run(&["--tmpfs", "/t:size=1m"], script)?.ok()?;
    check!(output.out.starts_with("No space left"), "{}", output.out);
    check!(output.out.contains("size=1024k"), "{}", output.out);
    Ok(output.out)
}

fn read_only(docker: &mut Docker<'_>) -> Result<String> {
    let output = docker.run(&["--read-only"], "touch /x")?;
    check!(
        output.err.contains("Read-only file system"),
        "{}",
        output.err
    );
    Ok(output.err)
}
