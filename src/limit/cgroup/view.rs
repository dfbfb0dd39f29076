//! What a container is shown of its cgroup, from the record of where it is.
#![forbid(unsafe_code)]

use super::Cgroup;
use super::host::{Mode, Own, ROOT, hierarchies};
use crate::error::Result;
use crate::rootfs::c_string;
use crate::rootfs::cgroupfs::{Hierarchy, View};

impl Cgroup {
    /// The hierarchies for a mount of type `cgroup`.
    pub(crate) fn view(&self, namespaced: bool) -> Result<View> {
        let mut view = View {
            namespaced,
            ..View::default()
        };
        let record = self.record();
        let mut places: Vec<(String, String)> = record
            .paths()
            .map(|(controllers, path)| (controllers.to_owned(), path.to_owned()))
            .collect();
        if places.is_empty() {
            places = own_places()?;
        }
        let alone = places.len() == 1;
        for (controllers, path) in &places {
            let controllers = controllers.as_str();
            let path = c_string(path, "linux.cgroupsPath")?;
            match (alone, controllers) {
                (true, "") => view.unified = Some(path),
                // A hybrid host's v2 tree has no place among the v1 directories.
                (_, "") => {}
                _ => view.legacy.push(Hierarchy {
                    // A named hierarchy is mounted under its bare name, as systemd does.
                    name: controllers
                        .strip_prefix("name=")
                        .unwrap_or(controllers)
                        .to_owned(),
                    options: options(controllers)?,
                    path,
                }),
            }
        }
        Ok(view)
    }
}

/// Where we are ourselves: a rootless container without a cgroup of its own stays there.
fn own_places() -> Result<Vec<(String, String)>> {
    let own = Own::read()?;
    if Mode::detect()? == Mode::V2 {
        let path = own.path("").unwrap_or("/");
        return Ok(vec![(String::new(), format!("{ROOT}{path}"))]);
    }
    let all = hierarchies(true)?.into_iter();
    Ok(all
        .filter_map(|one| Some((one.controllers.clone(), own.place(&one)?)))
        .collect())
}

/// The mount options that select a v1 hierarchy.
fn options(controllers: &str) -> Result<Vec<(std::ffi::CString, Option<std::ffi::CString>)>> {
    let text = |word: &str| c_string(word, "linux.cgroupsPath");
    if let Some(name) = controllers.strip_prefix("name=") {
        return Ok(vec![
            (c"none".to_owned(), None),
            (c"name".to_owned(), Some(text(name)?)),
        ]);
    }
    controllers
        .split(',')
        .map(|word| Ok((text(word)?, None)))
        .collect()
}
