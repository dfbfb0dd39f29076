//! What a container is shown of its cgroup, from the record of where it is.
#![forbid(unsafe_code)]

use super::Cgroup;
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
        let alone = record.paths().count() == 1;
        for (controllers, path) in record.paths() {
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
