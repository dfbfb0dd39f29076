//! LIMIT, planned for systemd: cgroupsPath as `slice:prefix:name` becomes a unit and its place.
#![forbid(unsafe_code)]

use crate::error::{Doing, Error, Result};

/// A scope and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// `docker-abc.scope`
    pub(super) unit: String,
    /// `system.slice`
    pub(super) slice: String,
    /// What is asked of the name: the container's, as the user knows it.
    pub(super) name: String,
}

/// systemd's limit, UNIT_NAME_MAX, less the NUL.
const LONGEST: usize = 255;

impl Name {
    /// Reads cgroupsPath for the systemd driver, by runc's rules: the slice may be left out, and
    /// all of it.
    pub(super) fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Self> {
        let parts: Vec<&str> = match cgroups_path {
            "" => vec!["", "creel", id],
            path => path.split(':').collect(),
        };
        let [slice, prefix, name] = *parts.as_slice() else {
            let why = format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {cgroups_path:?} instead"
            );
            return refuse(why);
        };
        if name.ends_with(".slice") {
            return refuse(format!("{name} is a slice, and those hold no processes"));
        }
        let slice = match (slice, user) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            (slice, _) => slice,
        };
        let unit = format!("{prefix}-{name}.scope");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
        if unit.len() > LONGEST || !unit.bytes().all(allowed) {
            let why = format!("systemd takes no unit of the name {unit:?}");
            return Err(error(why).hint("255 letters, digits and :-_.\\ at most; without a path, the name is made of the container's id"));
        }
        let name = Self {
            unit,
            slice: slice.into(),
            name: name.into(),
        };
        if !slice.bytes().all(allowed) || name.below("").is_none() {
            return refuse(format!("invalid slice name: {slice}"));
        }
        Ok(name)
    }

    /// The scope's path below that of a manager. Dashes in a slice's name are levels:
    /// `a-b.slice` is `a.slice/a-b.slice`, and `-.slice` the top.
    pub(super) fn below(&self, manager: &str) -> Option<String> {
        let stem = self.slice.strip_suffix(".slice")?;
        let mut path = manager.trim_end_matches('/').to_owned();
        if stem != "-" {
            if stem.split('-').any(str::is_empty) {
                return None;
            }
            let ends = stem
                .match_indices('-')
                .map(|(at, _)| at)
                .chain([stem.len()]);
            for end in ends {
                path.push('/');
                path.push_str(stem.get(..end)?);
                path.push_str(".slice");
            }
        }
        path.push('/');
        path.push_str(&self.unit);
        Some(path)
    }
}

fn error(why: String) -> Error {
    Error::rule(Doing::PlanCgroup, why).field("linux.cgroupsPath")
}

fn refuse<T>(why: String) -> Result<T> {
    Err(error(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(cgroups_path: &str) -> Result<String> {
        let name = Name::parse(cgroups_path, "id", false)?;
        Ok(name.below("").unwrap())
    }

    #[test]
    fn a_path_is_slice_prefix_and_name() {
        for (given, unit) in [
            ("system.slice:docker:12", "/system.slice/docker-12.scope"),
            ("", "/system.slice/creel-id.scope"),
            (":p:n", "/system.slice/p-n.scope"),
            ("::", "/system.slice/-.scope"),
            ("-.slice:p:n", "/p-n.scope"),
            (
                "machine.slice:libpod:a_b.c",
                "/machine.slice/libpod-a_b.c.scope",
            ),
        ] {
            assert_eq!(path(given).as_deref(), Ok(unit), "{given}");
        }
        let name = Name::parse("", "id", true).unwrap();
        assert_eq!(name.slice, "user.slice");
        assert_eq!(
            name.below("/user/1/").as_deref(),
            Some("/user/1/user.slice/creel-id.scope")
        );
    }

    #[test]
    fn dashes_in_a_slice_are_levels() {
        for (slice, expanded) in [
            ("a.slice", "/a.slice"),
            ("a-b.slice", "/a.slice/a-b.slice"),
            (
                "kubepods-besteffort-podX.slice",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice",
            ),
        ] {
            assert_eq!(
                path(&format!("{slice}:p:n")),
                Ok(format!("{expanded}/p-n.scope"))
            );
        }
        for slice in [
            "a",
            ".slice",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "a/b.slice",
            "../x.slice",
            "a b.slice",
            "a\0.slice",
        ] {
            let error = path(&format!("{slice}:p:n")).unwrap_err().to_string();
            assert!(
                error.contains("invalid slice name") && error.contains("linux.cgroupsPath"),
                "{error}"
            );
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for given in ["/a/b", "a", "a.slice:b", "a.slice:b:c:d"] {
            let error = path(given).unwrap_err().to_string();
            assert!(
                error.contains("expected cgroupsPath to be of format \"slice:prefix:name\""),
                "{error}"
            );
        }
        for given in [
            "a.slice:b:../c",
            "a.slice:b:c d",
            "a.slice:b:c/d",
            "a.slice:b:c.slice",
            "a.slice:b:c@d",
        ] {
            assert!(path(given).is_err(), "{given}");
        }
        assert!(path(&format!("a.slice:b:{}", "c".repeat(300))).is_err());
    }
}
