//! Bad input: every file of `integration/bad` is refused, and leaves nothing.
#![forbid(unsafe_code)]

use crate::bundle::{Bundle, plain};
use crate::case::{Case, Failure, Need, Result};
use crate::kernel;
use crate::lab::Lab;
use crate::{check, same};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One case for each file; see `integration/bad/README.md` for their form.
pub fn cases() -> Result<Vec<Case>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad");
    let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .replace('-', "_");
        let text = file.with_extension("txt");
        let text =
            std::fs::read_to_string(&text).map_err(|e| format!("{}: {e}", text.display()))?;
        let label = Label::read(&text)?;
        let needs = label.needs.clone();
        let case = Case::new(&format!("bad_{stem}"), move |lab| {
            refused(lab, &file, &label)
        });
        cases.push(case.needs(&needs));
    }
    Ok(cases)
}

/// What the companion file says.
struct Label {
    /// Any of these must be in creel's line; none: no field can be named.
    fields: Vec<String>,
    needs: Vec<Need>,
    /// `create` succeeds and `start` must fail.
    raw: bool,
}

impl Label {
    fn read(text: &str) -> Result<Self> {
        let mut label = Self {
            fields: Vec::new(),
            needs: Vec::new(),
            raw: false,
        };
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
        {
            match line.split_once(':') {
                Some(("field", field)) => label.fields.push(field.trim().to_owned()),
                Some(("needs", need)) => label.needs.push(match need.trim() {
                    "no-apparmor" => Need::NoAppArmor,
                    "no-selinux" => Need::NoSelinux,
                    "cgroup-v1" => Need::CgroupV1,
                    "cgroup-v2" => Need::CgroupV2,
                    "creel" => Need::Creel,
                    other => return Err(format!("unknown need {other}").into()),
                }),
                Some(("raw", _)) => label.raw = true,
                None if line.is_empty() => {}
                _ => return Err(format!("what is {line:?}?").into()),
            }
        }
        Ok(label)
    }
}

/// Lays a merge patch (RFC 7396) over the plain config.
fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(map) => {
            if !into.is_object() {
                *into = serde_json::json!({});
            }
            for (key, value) in map {
                if value.is_null() {
                    if let Some(object) = into.as_object_mut() {
                        object.remove(&key);
                    }
                } else {
                    merge(&mut into[key], value);
                }
            }
        }
        other => *into = other,
    }
}

fn write(lab: &Lab, bundle: &Bundle, file: &Path, label: &Label) -> Result {
    let config = bundle.dir.join("config.json");
    let text = std::fs::read_to_string(file)?;
    if label.raw {
        return Ok(std::fs::write(config, text)?);
    }
    let decoy = lab.directory("decoy")?;
    let text = text.replace("@DIR@", &lab.dir.to_string_lossy());
    let text = text.replace("@DECOY@", &decoy.to_string_lossy());
    let mut whole = plain();
    merge(&mut whole, serde_json::from_str(&text)?);
    Ok(std::fs::write(config, serde_json::to_vec_pretty(&whole)?)?)
}

fn refused(lab: &Lab, file: &Path, label: &Label) -> Result {
    let bundle = lab.bundle()?;
    write(lab, &bundle, file, label)?;
    let mounts = || -> Result<usize> {
        let all = procfs::process::Process::myself()?.mountinfo()?;
        Ok(all
            .0
            .iter()
            .filter(|mount| mount.mount_point.starts_with(&lab.dir))
            .count())
    };
    let before = mounts()?;
    let id = lab.id();
    let container = lab.adopt(&id, &bundle);
    let dir = bundle.dir.to_string_lossy();
    let mut output = lab.call(&["create", "-b", &dir, &id])?;
    if output.code == 0 {
        output = container.start()?;
        if output.code == 0 {
            return Err("it was accepted".into());
        }
        container.delete(&["-f"])?;
    }
    check!(
        output.code < 256,
        "the runtime died of signal {}",
        output.code - 256
    );
    same!("mounts left", mounts()?, before);
    check!(lab.states().is_empty(), "state left: {:?}", lab.states());
    let cgroups = kernel::directories_named(Path::new("/sys/fs/cgroup"), lab.mark());
    check!(cgroups.is_empty(), "cgroups left: {cgroups:?}");
    if Need::Creel.lack(&lab.runtime).is_none() {
        explained(&output.err, label)?;
    }
    Ok(())
}

/// creel's promise: one line, which names the field.
fn explained(err: &str, label: &Label) -> Result {
    same!(
        format!("lines of {err:?}"),
        err.trim_end().lines().count(),
        1
    );
    let named = label.fields.is_empty() || label.fields.iter().any(|field| err.contains(field));
    if !named {
        return Err(Failure::from(format!(
            "names none of {:?}: {err}",
            label.fields
        )));
    }
    check!(!err.contains("panicked"), "a panic: {err}");
    Ok(())
}
