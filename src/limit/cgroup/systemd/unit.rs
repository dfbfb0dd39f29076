//! LIMIT through systemd, planned and live: one scope, from StartTransientUnit to StopUnit.
#![forbid(unsafe_code)]

use super::super::devices::Policy;
use super::super::host::{Mode, Own, ROOT};
use super::super::resources::Write;
use super::super::{Cgroup, v2};
use super::annotation;
use super::bus::Bus;
use super::message::Value;
use super::name::Name;
use super::properties::{self, Property};
use crate::error::{Doing, Error, Result};
use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;

/// What will be asked of systemd.
#[derive(Debug)]
pub(in super::super) struct UnitPlan {
    name: Name,
    /// The user's own instance.
    pub(in super::super) user: bool,
    properties: Vec<Property>,
}

impl UnitPlan {
    /// Decides on a scope and its properties; `writes` are what the files will hold.
    pub(in super::super) fn new(
        cgroups_path: &str,
        id: &str,
        user: bool,
        annotations: &BTreeMap<String, String>,
        writes: &[Write],
        devices: &Policy,
    ) -> Result<Self> {
        let v1 = Mode::detect()? == Mode::V1;
        if user && v1 {
            let why = "cannot use rootless systemd cgroups manager on cgroup v1";
            return Err(Error::rule(Doing::PlanCgroup, why));
        }
        let name = Name::parse(cgroups_path, id, user)?;
        let mut all = vec![
            Property::new(
                "Description",
                Value::text(format!("creel container {}", name.name)),
            ),
            Property::new("Slice", Value::text(&*name.slice)),
        ];
        let accounting = if v1 {
            "BlockIOAccounting"
        } else {
            "IOAccounting"
        };
        // Accounted from the beginning: what is used before cannot be added later.
        for switch in [
            "Delegate",
            "MemoryAccounting",
            "CPUAccounting",
            "TasksAccounting",
            accounting,
        ] {
            all.push(Property::new(switch, Value::yes(true)));
        }
        all.push(Property::new("DefaultDependencies", Value::yes(false)));
        all.extend(annotation::properties(annotations)?);
        all.extend(properties::of(writes));
        if !user {
            // The user's instance may not load device filters.
            all.extend(properties::devices(devices.allowed()));
        }
        Ok(Self {
            name,
            user,
            properties: all,
        })
    }

    /// The unit's name.
    pub(in super::super) fn unit(&self) -> &str {
        &self.name.unit
    }

    /// The path that the scope will have below a hierarchy's mount point. Where a user's instance
    /// keeps its units, only it knows.
    pub(in super::super) fn path(&self, manager: &str) -> String {
        self.name.below(manager).unwrap_or_default()
    }

    /// The unit, not yet started: `files` are those that it does not need.
    pub(in super::super) fn make(&self, files: Cgroup) -> Result<Unit> {
        let manager = match self.user {
            true => manager_path()?,
            false => String::new(),
        };
        Ok(Unit {
            name: self.unit().into(),
            user: self.user,
            path: format!("{ROOT}{}", self.path(&manager)).into(),
            early: Box::new(files),
            files: OnceCell::new(),
            asked: Cell::new(false),
        })
    }
}

/// The cgroup of the user's own instance.
fn manager_path() -> Result<String> {
    let mut bus = Bus::open(true)?;
    let question = bus.begin_get("ControlGroup")?;
    property(&mut bus, question)
}

fn property(bus: &mut Bus, question: u32) -> Result<String> {
    let act = "tell a property of its";
    let answer = bus
        .answer(question)?
        .map_err(|refusal| refusal.about(act))?;
    let text = answer
        .texts()
        .and_then(|texts| texts.first().map(|one| (*one).to_owned()));
    text.ok_or_else(|| Error::rule(Doing::Systemd, "an answer without a value").on(act))
}

/// `v252.39-1` and `252 (252.39)` are 252.
fn number(version: &str) -> u32 {
    let digits = version.trim_start_matches('v');
    let end = digits
        .find(|next: char| !next.is_ascii_digit())
        .unwrap_or(digits.len());
    digits
        .get(..end)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// A scope, and the cgroup that is its.
#[derive(Debug)]
pub(crate) struct Unit {
    name: Box<str>,
    user: bool,
    /// On v2.
    path: Box<str>,
    /// What there is before systemd has made the rest: on v1, nearly all.
    early: Box<Cgroup>,
    files: OnceCell<Box<Cgroup>>,
    /// By this process: whether systemd was asked to start it.
    asked: Cell<bool>,
}

impl Unit {
    /// That of a container that exists.
    pub(in super::super) fn open(name: &str, user: bool, files: Cgroup) -> Self {
        Self {
            name: name.into(),
            user,
            path: Box::default(),
            early: Box::new(files),
            files: OnceCell::new(),
            asked: Cell::new(true),
        }
    }

    pub(in super::super) fn name(&self) -> &str {
        &self.name
    }

    pub(in super::super) fn is_users(&self) -> bool {
        self.user
    }

    /// On v2, where it will be.
    pub(in super::super) fn path(&self) -> &str {
        &self.path
    }

    /// The cgroup, to work on by its files.
    pub(in super::super) fn files(&self) -> &Cgroup {
        self.files.get().unwrap_or(&self.early)
    }

    /// Whether a process is still to be put in, by [`start`](Self::start).
    pub(in super::super) fn is_new(&self) -> bool {
        !self.asked.get()
    }

    /// Starts the scope around a process, and returns when the process is in it.
    pub(in super::super) fn start(
        &self,
        plan: &UnitPlan,
        pid: i32,
        writes: &[Write],
    ) -> Result<()> {
        let act = format_args!("start {}", self.name);
        let mut bus = Bus::open(self.user)?;
        let version = match properties::depend_on_version(&plan.properties) {
            true => {
                let question = bus.begin_get("Version")?;
                number(&property(&mut bus, question)?)
            }
            false => 0,
        };
        let mut properties = properties::wire(&plan.properties, version);
        if let Value::Array(_, items) = &mut properties {
            let pid = Value::Number(b'u', pid.cast_unsigned().into());
            let pids = Property::new("PIDs", Value::Array("u".into(), vec![pid]));
            items.push(pids.wire());
        }
        let arguments = [
            Value::text(&*self.name),
            Value::text("replace"),
            properties,
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        self.asked.set(true);
        let mut answer = bus.call("StartTransientUnit", &arguments)?;
        if matches!(&answer, Err(refusal) if refusal.name.ends_with(".UnitExists")) {
            // One that failed stays until somebody has looked at it.
            drop(bus.call("ResetFailedUnit", &[Value::text(&*self.name)])?);
            answer = bus.call("StartTransientUnit", &arguments)?;
        }
        let job = match answer {
            Ok(job) => job,
            Err(refusal) => {
                // It is not ours, or was not made.
                self.asked.set(false);
                return Err(refusal.about(act));
            }
        };
        let result = bus.job(&job)?;
        if result != "done" {
            let why = format!("its job ended as {result:?}");
            let hint = format_args!("journalctl -u {} tells more", self.name);
            return Err(Error::rule(Doing::Systemd, why).on(act).hint(hint));
        }
        self.enter(pid, writes)
    }

    /// Opens the cgroup that systemd has put a process into.
    fn enter(&self, pid: i32, writes: &[Write]) -> Result<()> {
        if !matches!(&*self.early, Cgroup::Unmanaged) {
            return Ok(()); // v1: they were made before
        }
        let own = Own::of_process(pid)?;
        let path = own.path("").unwrap_or_default();
        if self.path.strip_prefix(ROOT) != Some(path) {
            let why = format!(
                "the process is in the cgroup {path:?}, not in {:?}",
                self.path
            );
            return Err(Error::rule(Doing::JoinCgroup, why)
                .on(&self.name)
                .hint("does this systemd see the same cgroups and process ids as creel?"));
        }
        let group = v2::Group::adopt(&self.path, writes)?;
        // It was not there: nobody else opens it.
        self.files
            .set(Box::new(Cgroup::V2(group)))
            .unwrap_or_default();
        Ok(())
    }

    /// Sets the properties that say what is about to be written.
    pub(in super::super) fn update(&self, writes: &[Write]) -> Result<()> {
        let mut properties = properties::of(writes);
        // systemd takes it at the start only.
        properties.retain(|one| one.name != "OOMPolicy");
        if properties.is_empty() {
            return Ok(());
        }
        let mut bus = Bus::open(self.user)?;
        let version = bus.begin_get("Version")?;
        let version = number(&property(&mut bus, version)?);
        let arguments = [
            Value::text(&*self.name),
            Value::yes(true), // not beyond the unit's life
            properties::wire(&properties, version),
        ];
        match bus.call("SetUnitProperties", &arguments)? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.about(format_args!("change {}", self.name))),
        }
    }

    /// Has systemd forget the unit, once no process is left in it.
    fn stop(&self) -> Result<()> {
        let mut bus = Bus::open(self.user)?;
        let name = || [Value::text(&*self.name)];
        let [unit] = name();
        // It is gone already when the last process was the last reason for it.
        if let Ok(job) = bus.call("StopUnit", &[unit, Value::text("replace")])? {
            bus.job(&job)?;
        }
        // One that failed, as by the OOM killer, would stay.
        drop(bus.call("ResetFailedUnit", &name())?);
        Ok(())
    }

    /// Ends the unit: kills what is left in it, removes its cgroup, and has systemd forget it.
    pub(in super::super) fn remove(&self) -> Result<()> {
        self.files().remove()?;
        if self.is_new() {
            return Ok(());
        }
        if let Err(error) = self.stop() {
            // The cgroup is gone, and with it systemd's reason to keep the unit.
            crate::log::warning(&error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_version_is_the_first_number() {
        for text in [
            "252",
            "v252",
            "252.39-1~deb12u2",
            "v252 (252.39)",
            "252~rc1",
        ] {
            assert_eq!(number(text), 252, "{text}");
        }
        assert_eq!(number("unknown"), 0);
    }
}
