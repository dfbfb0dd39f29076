//! File descriptors: what passes through, what must not, and the runtime's own program.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check, same};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

cases! {
    stdin_and_stdout_pass_through,
    stderr_passes_through,
    large_output_arrives_whole,
    no_inherited_fd_reaches_init,
    no_inherited_fd_reaches_an_exec,
    init_holds_only_its_three_fds,
    an_exec_holds_only_its_three_fds,
    preserved_fds_reach_init,
    preserved_fds_that_are_closed_are_refused,
    listen_fds_reach_init,
    a_cwd_on_a_leaked_fd_is_refused_or_inside,
    the_runtime_cannot_be_run_as_the_container,
    the_runtime_cannot_be_written_through_exec,
    dev_null_as_stdin_keeps_its_owner,
}

fn stdin_and_stdout_pass_through(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/bin/cat"])?.save()?;
    let input = lab.file("input", "from outside\n")?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let mut command = lab.command(&["run", "-b", &dir, &id]);
    let output = lab.finish(command.stdin(File::open(input)?))?.ok()?;
    same!("stdout", output.out, "from outside\n");
    Ok(())
}

fn stderr_passes_through(lab: &Lab) -> Result {
    let output = lab.run(&lab.script("echo out; echo err >&2")?)?.ok()?;
    same!("stdout", output.out, "out\n");
    same!("stderr", output.err, "err\n");
    Ok(())
}

fn large_output_arrives_whole(lab: &Lab) -> Result {
    let bundle = lab.script("head -c 3000000 /dev/zero | tr '\\0' x")?;
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    // A real pipe, as engines use.
    let output = lab
        .command(&["run", "-b", &dir, &id])
        .stdin(lab.null()?)
        .output()?;
    same!("bytes", output.stdout.len(), 3_000_000);
    Ok(())
}

/// Opens the host's root and a writable file so that every process started after inherits them.
fn leak(lab: &Lab) -> Result<Vec<File>> {
    let held = vec![
        File::open("/")?,
        File::create(lab.path("leak"))?,
        File::open("/proc")?,
    ];
    for file in &held {
        fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(held)
}

// The colon keeps the shell from becoming ls, whose own descriptor would show.
const LIST: &str = "ls -l /proc/$$/fd; :";

fn strangers(told: &str) -> Vec<&str> {
    // The shell of the script holds 0 to 2.
    let strange = |line: &&str| {
        let number = line
            .split(" -> ")
            .next()
            .and_then(|head| head.split_whitespace().last());
        number
            .and_then(|word| word.parse().ok())
            .is_some_and(|number: u32| number > 2)
    };
    told.lines().filter(strange).collect()
}

fn no_inherited_fd_reaches_init(lab: &Lab) -> Result {
    let held = leak(lab)?;
    let told = lab.told(&lab.script(LIST)?)?;
    check!(strangers(&told).is_empty(), "init holds {told}");
    check!(!told.is_empty(), "no descriptor is shown");
    drop(held);
    Ok(())
}

fn no_inherited_fd_reaches_an_exec(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let held = leak(lab)?;
    let told = container.sh(LIST)?.ok()?.out;
    check!(strangers(&told).is_empty(), "exec holds {told}");
    check!(!told.is_empty(), "no descriptor is shown");
    drop(held);
    Ok(())
}

fn numbers(pid: i32) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn init_holds_only_its_three_fds(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    same!(
        "fds",
        numbers(container.executes("sleep")?)?,
        ["0", "1", "2"]
    );
    Ok(())
}

fn an_exec_holds_only_its_three_fds(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("exec sleep 2000")?)?;
    let file = lab.path("pid");
    let flags = ["--detach", "--pid-file", &file.to_string_lossy()];
    container.call("exec", &flags, &["sleep", "1000"])?.ok()?;
    let pid: i32 = std::fs::read_to_string(&file)?.parse()?;
    crate::kernel::until("the exec's program", || {
        crate::kernel::command_line(u32::try_from(pid).ok()?)
            .starts_with("sleep")
            .then_some(())
    })?;
    same!("fds", numbers(pid)?, ["0", "1", "2"]);
    Ok(())
}

/// A shell that opens fd 3 and 4 and becomes the runtime.
fn through_shell(lab: &Lab, script: &str, args: &[&str]) -> Result<Command> {
    lab.file("three", "three\n")?;
    lab.file("four", "four\n")?;
    let mut shell = Command::new("sh");
    shell.current_dir(&lab.dir).stdin(lab.null()?);
    shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]);
    shell
        .arg(&lab.runtime)
        .arg("--root")
        .arg(lab.path("root"))
        .args(args);
    Ok(shell)
}

fn preserved_fds_reach_init(lab: &Lab) -> Result {
    let bundle = lab.script("cat <&3 <&4 2>&1; cat <&3; ls /proc/$$/fd; :")?;
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let args = ["run", "--preserve-fds", "2", "-b", &dir, &id];
    let output = lab
        .finish(&mut through_shell(
            lab,
            "exec 3<three 4<four 5<four",
            &args,
        )?)?
        .ok()?;
    let words = output.words();
    same!("stdout", words, ["four", "three", "0", "1", "2", "3", "4"]);
    Ok(())
}

fn preserved_fds_that_are_closed_are_refused(lab: &Lab) -> Result {
    let bundle = lab.bundle()?;
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let args = ["run", "--preserve-fds", "40", "-b", &dir, &id];
    let script = "exec 3<&-";
    lab.finish(&mut through_shell(lab, script, &args)?)?
        .refused("closed descriptors")?;
    Ok(())
}

fn listen_fds_reach_init(lab: &Lab) -> Result {
    let bundle = lab.script("echo $LISTEN_FDS $LISTEN_PID; cat <&3; ls /proc/$$/fd; :")?;
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let args = ["run", "-b", &dir, &id];
    let script = "exec 3<three 4<four; export LISTEN_FDS=1 LISTEN_PID=$$";
    let output = lab.finish(&mut through_shell(lab, script, &args)?)?.ok()?;
    let words = output.words();
    same!("stdout", words, ["1", "1", "three", "0", "1", "2", "3"]);
    Ok(())
}

fn a_cwd_on_a_leaked_fd_is_refused_or_inside(lab: &Lab) -> Result {
    let held = leak(lab)?;
    same!("an ordinary cwd", lab.told(&lab.script("pwd")?)?, "/\n");
    let secret = lab.file("secret", "secret")?;
    let up = "../".repeat(12);
    let way = secret.to_string_lossy().trim_start_matches('/').to_owned();
    let mut bundle = lab.script(&format!("cat {way} {up}{way} 2>/dev/null; pwd"))?;
    for number in 3..24 {
        for cwd in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/../.."),
        ] {
            bundle.set("/process/cwd", cwd.as_str())?;
            let output = lab.run(&bundle)?;
            check!(!output.out.contains("secret"), "cwd {cwd} is on the host");
        }
    }
    drop(held);
    Ok(())
}

/// What would change if somebody wrote to the file.
fn print(lab: &Lab) -> Result<(u64, i64, u32, Vec<u8>)> {
    let meta = std::fs::metadata(&lab.runtime)?;
    let bytes = std::fs::read(&lab.runtime)?;
    Ok((meta.len(), meta.mtime(), meta.permissions().mode(), bytes))
}

fn the_runtime_cannot_be_run_as_the_container(lab: &Lab) -> Result {
    let before = print(lab)?;
    for args in [
        json!(["/proc/self/exe", "--version"]),
        json!(["/proc/self/exe", "init"]),
    ] {
        let mut bundle = lab.bundle()?;
        bundle.set("/process/args", args)?;
        // However that ends, the host's program must be as it was.
        lab.run(&bundle)?;
    }
    check!(print(lab)? == before, "the runtime's binary changed");
    Ok(())
}

fn the_runtime_cannot_be_written_through_exec(lab: &Lab) -> Result {
    let before = print(lab)?;
    // pid 1 looks for the runtime's processes and tries to open their program for writing.
    let script = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || \
                  { (exec 9>>$p/exe) 2>/dev/null && readlink $p/exe >> /tmp/opened; }; done; done";
    let mut bundle = lab.script(script)?;
    bundle.caps(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"])?;
    let container = lab.started(&bundle)?;
    same!("an exec", container.exec(&["echo", "x"])?.ok()?.out, "x\n");
    for program in ["/proc/self/exe", "/bin/true"] {
        for _ in 0..10 {
            container.exec(&[program])?;
        }
    }
    let script = bundle.inside("bang.sh");
    std::fs::write(&script, "#!/proc/self/exe\n")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    container.exec(&["/bang.sh"])?;
    check!(print(lab)? == before, "the runtime's binary changed");
    let opened = std::fs::read_to_string(bundle.inside("tmp/opened")).unwrap_or_default();
    let name = lab
        .runtime
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let hit = opened.lines().find(|line| line.ends_with(&*name));
    check!(hit.is_none(), "opened for writing: {hit:?}");
    Ok(())
}

fn dev_null_as_stdin_keeps_its_owner(lab: &Lab) -> Result {
    let owner = || -> Result<(u32, u32)> {
        let meta = lab.null()?.metadata()?;
        Ok((meta.uid(), meta.gid()))
    };
    let before = owner()?;
    let host = std::fs::metadata("/dev/null")?.uid();
    let mut bundle = lab.idle()?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    let container = lab.started(&bundle)?;
    container
        .call("exec", &["--user", "1000:1000"], &["true"])?
        .ok()?;
    same!("owner of our null device", owner()?, before);
    same!(
        "owner of the host's",
        std::fs::metadata("/dev/null")?.uid(),
        host
    );
    Ok(())
}
