//! The golden comparison: the same commands under Debian's runc and under the runtime, side by side.
//!
//! A sequence (`golden/*.txt`) is a list of steps; each is a few lines of shell that call `$R`. It is
//! played twice in a directory of the same name, and each step's exit code, stdout, stderr and
//! written files must be equal, but for what `golden/differences.txt` lists with a reason.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::lab::{self, Lab};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One step: its name and its shell.
pub struct Step {
    /// As the heading says.
    pub name: String,
    /// What is run.
    pub shell: String,
}

/// The steps of a sequence.
pub fn steps(sequence: &str) -> Result<Vec<Step>> {
    let path = folder().join(format!("{sequence}.txt"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("## "), steps.last_mut()) {
            (Some(name), _) => steps.push(Step {
                name: name.to_owned(),
                shell: String::new(),
            }),
            (None, Some(step)) => {
                step.shell.push_str(line);
                step.shell.push('\n');
            }
            (None, None) => {}
        }
    }
    Ok(steps)
}

/// Where the sequences are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The names of the sequences.
pub fn sequences() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".txt")
            && name != "differences"
            && name != "uncovered"
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What is known to differ: `sequence / step / what: reason`.
pub fn differences() -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(folder().join("differences.txt"))?;
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(": ") {
            Some((key, why)) => Ok((key.to_owned(), why.to_owned())),
            None => Err(format!("golden/differences.txt: no reason: {line}").into()),
        })
        .collect()
}

/// Whether a line of the differences is about that `sequence / step / aspect`; a `*` stands for any.
pub fn matches(listed: &str, key: &str) -> bool {
    let (listed, key) = (listed.split(" / "), key.split(" / "));
    listed.zip(key).all(|(a, b)| a == "*" || a == b)
}

/// What a step did, by aspect.
type Seen = BTreeMap<&'static str, String>;

/// Plays a sequence under both; the differing aspects, with what both did, by
/// `sequence / step / aspect`.
pub fn compare(lab: &Lab, sequence: &str) -> Result<BTreeMap<String, [String; 2]>> {
    let steps = steps(sequence)?;
    let theirs = play(lab, Path::new("/usr/sbin/runc"), &steps)?;
    let ours = play(lab, &lab.runtime, &steps)?;
    let mut differing = BTreeMap::new();
    for (step, (theirs, ours)) in steps.iter().zip(theirs.into_iter().zip(ours)) {
        for (aspect, theirs) in theirs {
            let ours = ours.get(aspect).cloned().unwrap_or_default();
            let equal = match aspect {
                // We may say more.
                "phrases" => theirs.split("; ").all(|phrase| ours.contains(phrase)),
                _ => ours == theirs,
            };
            if !equal {
                let key = format!("{sequence} / {} / {aspect}", step.name);
                differing.insert(key, [theirs, ours]);
            }
        }
    }
    Ok(differing)
}

fn play(lab: &Lab, runtime: &Path, steps: &[Step]) -> Result<Vec<Seen>> {
    // The same names for both: a drop-in is called runc.
    let top = lab.directory("golden")?;
    let (dir, bin) = (top.join("work"), top.join("bin"));
    for dir in [&dir, &bin] {
        fs::create_dir_all(dir)?;
    }
    symlink(runtime, bin.join("runc"))?;
    let root = lab.path("root");
    fs::create_dir_all(&root)?;
    let template = crate::bundle::plain().to_string();
    let template = template
        .replace(",\"terminal\":false", "")
        .replace("\"terminal\":false,", "");
    let template = template
        .replace("\"args\":[\"/bin/true\"]", "@MORE@\"args\":[@ARGS@]")
        .replace("\"linux\":{", "\"linux\":{\"cgroupsPath\":\"@CGROUP@\",");
    fs::write(top.join("template"), template)?;
    let prelude = fs::read_to_string(folder().join("prelude.sh"))?;
    let mut all = Vec::new();
    for step in steps {
        let files = dir.join("files");
        fs::create_dir_all(&files)?;
        let (out, err) = (top.join("out"), top.join("err"));
        let runc = bin.join("runc");
        let status = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{prelude}\n{}", step.shell))
            .current_dir(&dir)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("IMAGE", lab.image())
            .env("TEMPLATE", top.join("template"))
            .env("MARK", lab.mark())
            .env("ROOT", &root)
            .env("RUN", &runc)
            .env("R", format!("{} --root {}", runc.display(), root.display()))
            .stdin(lab.null()?)
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .status()?;
        let mut seen = Seen::new();
        let strip = |text: String| text.replace(&format!("{}/", bin.display()), "");
        let text = strip(lab::text(&err)?);
        let (mut stderr, phrases) = errors(&text);
        if step.shell.contains("--log ") {
            // The error again, without its frame.
            stderr = format!("{} lines", text.lines().filter(|line| !warns(line)).count());
        }
        seen.insert("exit code", lab::code(status).to_string());
        seen.insert("stdout", plain(&strip(lab::text(&out)?)));
        seen.insert("stderr", stderr);
        seen.insert("phrases", phrases);
        seen.insert("files", written(&files)?);
        all.push(seen);
        fs::remove_dir_all(&files)?;
    }
    fs::remove_dir_all(&top)?;
    fs::remove_dir_all(&root)?;
    Ok(all)
}

/// The files that a step wrote to `files/`: a log by its lines' shape, others by their text.
fn written(dir: &Path) -> Result<String> {
    let mut text = String::new();
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let content = lab::text(&entry.path())?;
        let content = match name.starts_with("log") {
            true => errors(&content).0,
            false => plain(&content),
        };
        text.push_str(&format!("{name}: {content}\n"));
    }
    Ok(text)
}

/// Text without what differs from run to run: numbers of two and more digits that may be pids, and
/// times; and with single blanks, for columns move with them.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "NAME:" {
            // Of a help, what callers test: the rest is prose, and each has its own.
            let name = lines.next().unwrap_or_default();
            out.push_str(&format!("help of{}\n", name.replace("   ", " ")));
            while lines
                .next_if(|line| *line != "NAME:" && *line != "Incorrect Usage.")
                .is_some()
            {}
            continue;
        }
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    if !text.ends_with('\n') {
        out.pop();
    }
    out
}

fn word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| "\",;{}[]".contains(c));
    let is_time = bare.len() > 18 && bare.contains('T') && bare.ends_with('Z');
    let is_pid = bare.len() > 2 && bare.bytes().all(|byte| byte.is_ascii_digit());
    let json = word.contains("\"pid\":") || word.contains("\"created\":");
    if json {
        return json_word(word);
    }
    match (is_time, is_pid) {
        (true, _) => word.replace(bare, "TIME"),
        (_, true) => word.replace(bare, "N"),
        _ => word.to_owned(),
    }
}

/// A line of `list --format json`, which has no blanks.
fn json_word(text: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(text) else {
        return text.to_owned();
    };
    for object in value.as_array_mut().into_iter().flatten() {
        for key in ["pid", "created"] {
            if let Some(value) = object.get_mut(key)
                && *value != 0
            {
                *value = key.into();
            }
        }
    }
    value.to_string()
}

/// What callers look for in an error (see cli.md and the engines' sources).
const PHRASES: [&str; 16] = [
    "container does not exist",
    "container not running",
    "container with given ID already exists",
    "process already finished",
    "no such process",
    "cannot exec in a stopped container",
    "cannot exec in a paused container",
    "executable file not found in $PATH",
    "no such file or directory",
    "permission denied",
    "flag provided but not defined",
    "No help topic for",
    "cannot start a",
    "unknown signal",
    "console socket",
    "requires",
];

/// The shape of messages (a log line's level and members; other lines as they are), and which of the
/// known phrases are in them.
fn errors(text: &str) -> (String, String) {
    let mut shape = String::new();
    let lines = text.lines().filter(|line| !warns(line));
    let mut shapes: Vec<String> = lines.map(shape_of).collect();
    // Whoever tries again complains again.
    shapes.dedup();
    for line in shapes {
        shape.push_str(&line);
        shape.push('\n');
    }
    let found: Vec<&str> = PHRASES
        .into_iter()
        .filter(|phrase| text.contains(phrase))
        .collect();
    (shape, found.join("; "))
}

/// Whether a line of a log only warns: each warns of what it finds odd.
fn warns(line: &str) -> bool {
    line.contains("level=warning") || line.contains("\"level\":\"warning\"")
}

fn shape_of(line: &str) -> String {
    if let Ok(serde_json::Value::Object(members)) = serde_json::from_str(line) {
        let keys: Vec<&str> = members.keys().map(String::as_str).collect();
        let level = members.get("level").and_then(serde_json::Value::as_str);
        return format!("json {} {}", keys.join(","), level.unwrap_or("none"));
    }
    match line
        .strip_prefix("time=\"")
        .and_then(|rest| rest.split_once("\" "))
    {
        Some((_, rest)) => {
            let level = rest.split(' ').next().unwrap_or_default();
            let quoted = if rest.contains(" msg=\"") {
                "quoted"
            } else {
                "bare"
            };
            format!("text {level} msg {quoted}")
        }
        None => plain(line),
    }
}
