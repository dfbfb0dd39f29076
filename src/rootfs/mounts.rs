//! `mounts`, in the order listed: each made or cloned detached, then attached complete.
#![forbid(unsafe_code)]

use super::idmap::IdMapping;
use super::options::{Options, propagation};
use super::{Leaf, Root, below, c_string, copyup, file_type};
use crate::bundle::config::{Config, Mount as Asked};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::lexical;
use crate::sys::mount::{self, ATTR_RDONLY, Context, MountAttr};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::SFlag;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One mount, decided.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Below the container's root, without trailing slashes.
    pub(crate) destination: String,
    kind: Kind,
    options: Options,
    pub(crate) idmap: Option<IdMapping>,
    /// `mounts[3]`, for errors.
    pub(crate) field: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A filesystem of that type.
    New {
        typ: CString,
        source: Option<CString>,
    },
    /// A copy of what is at that path on the host.
    Bind { source: CString },
    /// The container's view of its cgroup, whatever the host's hierarchy.
    Cgroup,
    /// New attributes for what is there already.
    Remount,
}

/// Files of procfs that something may be mounted on: lxcfs's, and what engines use (runc's list).
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

impl Mount {
    pub(crate) fn plan_all(config: &Config, warnings: &mut Vec<String>) -> Result<Vec<Self>> {
        let all = config.mounts.iter().enumerate();
        all.map(|(index, asked)| {
            Self::plan(
                asked,
                &format!("mounts[{index}]"),
                &config.linux.mount_label,
                warnings,
            )
        })
        .collect()
    }

    fn plan(asked: &Asked, field: &str, label: &str, warnings: &mut Vec<String>) -> Result<Self> {
        let wrong = |part: &str, why: String| {
            Err(Error::rule(Doing::CheckConfig, why).field(format!("{field}{part}")))
        };
        if asked.destination.is_empty() {
            return wrong(".destination", "a mount needs a destination".to_owned());
        }
        if !asked.destination.starts_with('/') {
            // config.md 1.2: relative destinations are taken from the root, and discouraged.
            warnings.push(format!(
                "{field}.destination: relative destination path {:?} is deprecated, using it as \
                 relative to /",
                asked.destination
            ));
        }
        let destination = format!("/{}", lexical::clean(&asked.destination));
        let mut options = match Options::parse(&asked.options) {
            Ok(options) => options,
            Err(_) => return wrong(".options", "contains a NUL byte".to_owned()),
        };
        let source = c_string(&asked.source, &format!("{field}.source"))?;
        let kind = if options.remount {
            Kind::Remount
        } else if options.bind.is_some() || asked.typ == "bind" {
            options.bind.get_or_insert(false);
            if asked.source.is_empty() {
                return wrong(".source", "a bind mount needs a source".to_owned());
            }
            if let Some((key, _)) = options.data.first() {
                // The kernel ignores a filesystem's options on a bind; runc 1.2 and later refuse
                // them, its predecessors and crun do not, and so do validators of the spec.
                warnings.push(format!(
                    "{field}.options: a bind mount cannot have filesystem-specific options, \
                     ignoring {:?} and the like",
                    key.to_string_lossy()
                ));
                options.data.clear();
            }
            Kind::Bind { source }
        } else if asked.typ == "cgroup" || asked.typ == "cgroup2" {
            Kind::Cgroup
        } else if asked.typ.is_empty() {
            return wrong(
                ".type",
                "a mount that is no bind mount needs a type".to_owned(),
            );
        } else {
            let typ = c_string(&asked.typ, &format!("{field}.type"))?;
            Kind::New {
                typ,
                source: (!asked.source.is_empty()).then_some(source),
            }
        };
        if options.copy_up && asked.typ != "tmpfs" {
            return wrong(".options", "tmpcopyup is for tmpfs only".to_owned());
        }
        if !label.is_empty() && asked.typ == "tmpfs" {
            let context = c_string(&format!("\"{label}\""), "linux.mountLabel")?;
            options.data.push((c"context".to_owned(), Some(context)));
        }
        check_proc(&destination, &kind, &asked.typ, field)?;
        let can_map = matches!(kind, Kind::Bind { .. } | Kind::New { .. });
        let idmap = IdMapping::plan(asked, can_map, field)?;
        Ok(Self {
            destination,
            kind,
            options,
            idmap,
            field: field.to_owned(),
        })
    }

    /// Whether what is mounted at /dev is the host's: then nothing is made in there.
    pub(crate) fn binds_dev(&self) -> bool {
        self.destination == "/dev" && self.is_bind()
    }

    /// Whether making it needs the process to be in its cgroup: for the cgroup namespace, or
    /// because the memory that it takes is the container's.
    pub(crate) fn needs_cgroup(&self) -> bool {
        self.is_cgroup() || self.options.copy_up
    }

    /// Whether it shows the container's cgroup.
    pub(crate) fn is_cgroup(&self) -> bool {
        self.kind == Kind::Cgroup
    }

    /// The error form of a failure on this mount.
    pub(crate) fn explain<T>(&self, doing: Doing, result: nix::Result<T>) -> Result<T> {
        let what = match &self.kind {
            Kind::New { typ, .. } => typ.to_string_lossy(),
            Kind::Bind { source } => source.to_string_lossy(),
            Kind::Cgroup => "cgroup".into(),
            Kind::Remount => "again".into(),
        };
        result
            .doing(doing)
            .on(format_args!("{what} at {}", self.destination))
            .field(&self.field)
    }

    /// What can be made before the mount's turn: a detached copy of a bind mount's source, or a
    /// filesystem whose ids are to be mapped by somebody with more privileges than init. `None` for
    /// other mounts. A source is resolved from the current directory, the bundle: the host's paths,
    /// trusted like config.json.
    pub(crate) fn clone_source(&self) -> Result<Option<OwnedFd>> {
        let source = match &self.kind {
            Kind::Bind { source } => source,
            Kind::New { typ, source } if self.idmap.is_some() => {
                return self.make_new(typ, source.as_deref()).map(Some);
            }
            _ => return Ok(None),
        };
        let recursive = self.options.bind == Some(true);
        mount::clone_tree(AT_FDCWD, source, recursive, true)
            .map(Some)
            .doing(Doing::OpenSource)
            .on(source.to_string_lossy())
            .field(format_args!("{}.source", self.field))
    }

    /// Whether what [`clone_source`](Self::clone_source) gives is part of the host's tree.
    pub(crate) fn is_bind(&self) -> bool {
        matches!(self.kind, Kind::Bind { .. })
    }

    /// Mounts it in `root`. `source` is what [`clone_source`](Self::clone_source) gave.
    ///
    /// A tmpfs that is asked read-only stays writable until [`seal`](Self::seal): mount points
    /// and devices have yet to be made in it.
    pub(crate) fn mount(
        &self,
        root: &Root,
        source: Option<OwnedFd>,
        cgroup: &super::cgroupfs::View,
    ) -> Result<()> {
        match &self.kind {
            Kind::New { typ, source: of } => {
                match source.map_or_else(|| self.make_new(typ, of.as_deref()), Ok) {
                    Err(error) if typ.as_c_str() == c"sysfs" => self.bind_sysfs(root, error),
                    tree => self.mount_new(root, tree?),
                }
            }
            Kind::Bind { .. } => {
                let tree = source.map_or_else(|| self.clone_source(), |tree| Ok(Some(tree)))?;
                tree.map_or(Ok(()), |tree| self.mount_bind(root, &tree))
            }
            Kind::Cgroup => super::cgroupfs::mount(self, root, cgroup, &self.options),
            Kind::Remount => {
                // The kernel changes no mount in the middle of a detached tree (mount_setattr(2)).
                self.explain(Doing::Pivot, root.surface())?;
                let target = self.explain(Doing::OpenTarget, root.find(&self.destination))?;
                self.finish(target.as_fd(), true)
            }
        }
    }

    /// Before its mount point: a filesystem that cannot be had leaves no directory behind.
    fn make_new(&self, typ: &CStr, source: Option<&CStr>) -> Result<OwnedFd> {
        match Context::open(typ) {
            Err(Errno::ENODEV) => self
                .explain(Doing::Mount, Err(Errno::ENODEV))
                .hint("the kernel does not know this filesystem type"),
            result => self.make_filesystem(&self.explain(Doing::Mount, result)?, source),
        }
    }

    /// A sysfs is of the network namespace that its maker owns, and a user namespace owns none but
    /// its own: like crun, show the host's there.
    fn bind_sysfs(&self, root: &Root, refused: Error) -> Result<()> {
        if refused.errno() != Some(Errno::EPERM) {
            return Err(refused);
        }
        let why = "a new sysfs needs a network namespace of the container's own";
        match mount::clone_tree(AT_FDCWD, c"/sys", true, false) {
            Ok(tree) => self.mount_bind(root, &tree),
            Err(errno) => Err(refused.hint(format!("{why}, and to bind /sys failed: {errno}"))),
        }
    }

    fn mount_new(&self, root: &Root, tree: OwnedFd) -> Result<()> {
        let target = self.make_target(root, Leaf::Dir)?;
        if self.options.copy_up {
            copyup::copy(target.as_fd(), tree.as_fd())
                .doing(Doing::Mount)
                .on(format_args!("tmpfs at {}", self.destination))
                .field(&self.field)
                .hint("copying up what the image has there failed")?;
        }
        self.finish(tree.as_fd(), false)?;
        self.attach(root, &tree, &target)?;
        let kernels_own = self.is_of_type(&[b"proc", b"sysfs"]);
        root.anchor(&self.destination, kernels_own.then_some(tree));
        Ok(())
    }

    fn make_filesystem(&self, context: &Context, source: Option<&CStr>) -> Result<OwnedFd> {
        let configure = || {
            if let Some(source) = source {
                context.set(c"source", source)?;
            }
            for flag in &self.options.superblock {
                context.flag(flag)?;
            }
            for (key, value) in &self.options.data {
                match value {
                    Some(value) => match context.set(key, value) {
                        // Like crun: the terminals' group need not exist in a user namespace.
                        Err(Errno::EINVAL) if self.is_group_of_terminals(key, value) => {}
                        result => result?,
                    },
                    None => context.flag(key)?,
                }
            }
            let late = if self.is_sealed_late() {
                ATTR_RDONLY
            } else {
                0
            };
            context.mount(self.options.attr.set & !late)
        };
        let result = self.explain(Doing::Mount, configure());
        match (result, context.complaint()) {
            (Err(error), Some(said)) if !said.is_empty() => Err(error.hint(said)),
            (result, _) => result,
        }
    }

    fn is_group_of_terminals(&self, key: &CStr, value: &CStr) -> bool {
        let devpts = matches!(&self.kind, Kind::New { typ, .. } if typ.as_c_str() == c"devpts");
        let number = value.to_str().is_ok_and(|gid| gid.parse::<u32>().is_ok());
        devpts && key == c"gid" && number
    }

    fn mount_bind(&self, root: &Root, tree: &OwnedFd) -> Result<()> {
        let is_dir = self.explain(Doing::OpenSource, file_type(tree))? == SFlag::S_IFDIR;
        if self.destination == "/proc" {
            self.check_bound_proc(tree)?;
        }
        let target = self.make_target(root, if is_dir { Leaf::Dir } else { Leaf::File })?;
        self.finish(tree.as_fd(), true)?;
        self.attach(root, tree, &target)?;
        let kernels_own = matches!(self.destination.as_str(), "/proc" | "/sys");
        let tree = kernels_own.then(|| tree.try_clone()).transpose();
        root.anchor(&self.destination, tree.doing(Doing::Mount)?);
        Ok(())
    }

    /// Only another procfs may stand for /proc (CVE-2019-16884: a fake /proc swallows labels).
    fn check_bound_proc(&self, tree: &OwnedFd) -> Result<()> {
        let is_proc = fstatfs(tree).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
        if is_proc {
            return Ok(());
        }
        Err(Error::rule(
            Doing::CheckConfig,
            "\"/proc\" cannot be mounted because it is not of type proc",
        )
        .field(format!("{}.destination", self.field)))
    }

    /// Opens the mount point, making it if it lacks.
    pub(crate) fn make_target(&self, root: &Root, leaf: Leaf) -> Result<OwnedFd> {
        if self.is_of_type(&[b"proc", b"sysfs"])
            && let Some(found) = self.refuse_symlink(root)?
        {
            return Ok(found);
        }
        let target = self.explain(Doing::MakeTarget, root.make(&self.destination, leaf))?;
        if below(&self.destination, "/proc").is_none()
            && self.explain(Doing::OpenTarget, root.is_in_proc(&target))?
        {
            // A link of the image's leads to what `check_proc` would have refused.
            return Err(Error::rule(
                Doing::OpenTarget,
                "cannot be mounted because it is inside /proc",
            )
            .on(&self.destination)
            .field(format!("{}.destination", self.field)));
        }
        let found = self.explain(Doing::OpenTarget, file_type(&target))?;
        if (found == SFlag::S_IFDIR) != (leaf == Leaf::Dir) {
            let (have, want) = match leaf {
                Leaf::Dir => ("not a directory", "a directory"),
                Leaf::File => ("a directory", "not a directory"),
            };
            return Err(Error::rule(
                Doing::OpenTarget,
                format!("the mount point is {have}, what is mounted is {want}"),
            )
            .on(&self.destination)
            .field(format!("{}.destination", self.field)));
        }
        Ok(target)
    }

    /// procfs and sysfs go exactly where the config says: an image whose /proc is a symlink would
    /// have the runtime write labels and sysctls elsewhere (CVE-2019-19921, CVE-2023-27561).
    fn refuse_symlink(&self, root: &Root) -> Result<Option<OwnedFd>> {
        use nix::fcntl::OFlag;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let Ok(found) = root.open_at(&self.destination, flags) else {
            return Ok(None);
        };
        if self.explain(Doing::OpenTarget, file_type(&found))? == SFlag::S_IFDIR {
            return Ok(Some(found));
        }
        Err(
            Error::rule(Doing::Mount, "must be mounted on ordinary directory")
                .on(format_args!("filesystem at {}", self.destination))
                .field(format!("{}.destination", self.field)),
        )
    }

    /// Applies attributes and propagation to a mount; a bind's inherited ones stay where the
    /// options do not speak of them.
    pub(crate) fn finish(&self, tree: BorrowedFd<'_>, attributes: bool) -> Result<()> {
        let mut plain = self.options.attr;
        if self.is_sealed_late() {
            plain.set &= !ATTR_RDONLY;
        }
        if attributes && plain != MountAttr::default() {
            self.set(Doing::SetMountAttributes, tree, &plain, false)?;
        }
        if self.options.recursive != MountAttr::default() {
            self.set(
                Doing::SetMountAttributes,
                tree,
                &self.options.recursive,
                true,
            )?;
        }
        self.propagate(tree)
    }

    /// Sets its own propagation anew, after that of the whole root was set.
    pub(crate) fn propagate_again(&self, root: &Root) -> Result<()> {
        if self.options.propagation.is_empty() {
            return Ok(());
        }
        let tree = self.explain(Doing::OpenTarget, root.find(&self.destination))?;
        self.propagate(tree.as_fd())
    }

    fn propagate(&self, tree: BorrowedFd<'_>) -> Result<()> {
        for (flag, recursive) in &self.options.propagation {
            let change = MountAttr {
                propagation: *flag,
                ..Default::default()
            };
            self.set(Doing::SetPropagation, tree, &change, *recursive)?;
        }
        Ok(())
    }

    fn set(
        &self,
        doing: Doing,
        tree: BorrowedFd<'_>,
        attr: &MountAttr,
        recursive: bool,
    ) -> Result<()> {
        self.explain(doing, mount::set_attributes(tree, attr, recursive))
    }

    fn is_of_type(&self, types: &[&[u8]]) -> bool {
        matches!(&self.kind, Kind::New { typ, .. } if types.contains(&typ.to_bytes()))
    }

    pub(crate) fn attach(&self, root: &Root, tree: &OwnedFd, target: &OwnedFd) -> Result<()> {
        self.explain(Doing::Mount, root.attach(tree.as_fd(), target.as_fd()))
    }

    fn is_sealed_late(&self) -> bool {
        let Kind::New { typ, .. } = &self.kind else {
            return false;
        };
        self.options.attr.set & ATTR_RDONLY != 0
            && (typ.as_bytes() == b"tmpfs" || self.destination == "/dev")
    }

    /// Makes a read-only tmpfs read-only, now that all is in it.
    pub(crate) fn seal(&self, root: &Root) -> Result<()> {
        if !self.is_sealed_late() {
            return Ok(());
        }
        // The kernel changes no mount in the middle of a detached tree (mount_setattr(2)).
        self.explain(Doing::Pivot, root.surface())?;
        let tree = self.explain(Doing::OpenTarget, root.find(&self.destination))?;
        let readonly = MountAttr {
            set: ATTR_RDONLY,
            ..Default::default()
        };
        self.set(Doing::SetMountAttributes, tree.as_fd(), &readonly, false)
    }
}

/// Refuses what would shadow procfs (CVE-2019-16884), as runc does.
fn check_proc(destination: &str, kind: &Kind, typ: &str, field: &str) -> Result<()> {
    let wrong = |why: String| {
        Err(Error::rule(Doing::CheckConfig, why).field(format!("{field}.destination")))
    };
    if destination == "/proc" {
        return match kind {
            // Whether a bind is of a procfs shows when it is opened.
            Kind::Bind { .. } | Kind::Remount => Ok(()),
            _ if typ == "proc" => Ok(()),
            _ => wrong("\"/proc\" cannot be mounted because it is not of type proc".to_owned()),
        };
    }
    if destination.starts_with("/proc/") && !PROC_FILES.contains(&destination) {
        return wrong(format!(
            "{destination:?} cannot be mounted because it is inside /proc"
        ));
    }
    Ok(())
}

/// `linux.rootfsPropagation`: the flag and whether of the whole tree; `None` when not given.
pub(crate) fn plan_propagation(config: &Config) -> Result<Option<(u64, bool)>> {
    let word = config.linux.rootfs_propagation.as_str();
    if word.is_empty() {
        return Ok(None);
    }
    propagation(word).map(Some).ok_or_else(|| {
        Error::rule(
            Doing::CheckConfig,
            format!("rootfsPropagation={word} is not supported"),
        )
        .field("linux.rootfsPropagation")
        .hint("shared, slave, private or unbindable, or one of these with an r before it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Vec<Mount>> {
        let config = serde_json::from_str(&format!(r#"{{"mounts":[{json}]}}"#)).unwrap();
        Mount::plan_all(&config, &mut Vec::new())
    }

    #[test]
    fn a_bind_is_known_by_type_or_option() {
        for json in [
            r#"{"destination":"/a","type":"bind","source":"/b"}"#,
            r#"{"destination":"/a","type":"none","source":"/b","options":["rbind"]}"#,
            r#"{"destination":"/a","source":"/b","options":["bind"]}"#,
        ] {
            assert!(matches!(plan(json).unwrap()[0].kind, Kind::Bind { .. }));
        }
    }

    #[test]
    fn nothing_shadows_proc_but_the_files_on_the_list() {
        let at = |path: &str| {
            plan(&format!(
                r#"{{"destination":"{path}","type":"tmpfs","source":"tmpfs"}}"#
            ))
        };
        for path in [
            "/proc",
            "/proc/self/attr",
            "/proc/sys/kernel",
            "/x/../proc/1",
        ] {
            assert!(
                at(path)
                    .unwrap_err()
                    .to_string()
                    .contains("mounts[0].destination")
            );
        }
        assert!(at("/proc/meminfo").is_ok() && at("/procfs").is_ok());
    }

    #[test]
    fn data_of_a_bind_is_a_warning() {
        let json = r#"{"destination":"/a","type":"bind","source":"/b","options":["size=1"]}"#;
        let config = serde_json::from_str(&format!(r#"{{"mounts":[{json}]}}"#)).unwrap();
        let mut warnings = Vec::new();
        let plan = Mount::plan_all(&config, &mut warnings).unwrap();
        assert!(plan[0].options.data.is_empty());
        assert!(warnings[0].starts_with("mounts[0].options: a bind mount cannot have"));
    }
}
