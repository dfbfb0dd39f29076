//! What networks Docker puts a container into.
#![forbid(unsafe_code)]

use super::Lesson;
use crate::case::Result;
use crate::docker::Docker;
use crate::kernel::until;
use crate::same;

pub(super) const LESSONS: &[Lesson] = &[
    ("docker run --network none", none),
    ("docker run --network bridge", bridge),
    ("docker run --network host", host),
    ("docker run --network container:NAME", shared),
    ("docker run --publish 8080:80, of a web server", publish),
    ("docker network create, run --network NAME", named),
];

const SERVE: &str = "mkdir /w; echo page >/w/index.html; exec httpd -f -p 80 -h /w";

fn links(docker: &Docker<'_>, mode: &str) -> Result<String> {
    let output = docker.run(&["--network", mode], "ls /sys/class/net")?;
    Ok(output.ok()?.words().join(" "))
}

fn none(docker: &mut Docker<'_>) -> Result<String> {
    let links = links(docker, "none")?;
    same!("links", links, "lo");
    Ok(links)
}

fn bridge(docker: &mut Docker<'_>) -> Result<String> {
    let links = links(docker, "bridge")?;
    same!("links", links, "eth0 lo");
    Ok(links)
}

fn host(docker: &mut Docker<'_>) -> Result<String> {
    let links = links(docker, "host")?;
    same!("docker0", links.contains("docker0"), true);
    Ok("the daemon's".into())
}

fn shared(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], SERVE)?;
    let get = "until wget -qO- http://127.0.0.1/; do sleep 0.1; done 2>/dev/null";
    let page = docker.run(&["--network", "container:c1"], get)?.ok()?.out;
    same!("page", page, "page\n");
    Ok(page)
}

fn publish(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("web", &["--publish", "8080:80"], SERVE)?;
    let page = until("the page", || {
        let get = ["busybox", "wget", "-qO-", "http://127.0.0.1:8080/"];
        docker.nearby(&get).ok().filter(|page| page.code == 0)
    })?;
    same!("page", page.out, "page\n");
    Ok(page.out)
}

fn named(docker: &mut Docker<'_>) -> Result<String> {
    docker.call(&["network", "create", "net1"])?.ok()?;
    docker.detached("peer", &["--network", "net1"], SERVE)?;
    let get = "until wget -qO- http://peer/; do sleep 0.1; done 2>/dev/null";
    let page = docker.run(&["--network", "net1"], get)?.ok()?.out;
    same!("page", page, "page\n");
    docker.clear()?;
    docker.call(&["network", "rm", "net1"])?.ok()?;
    Ok(format!("{}, by the name", page.trim()))
}
