//! `checkpoint` and `restore` that are refused: they change nothing and leave nothing behind.
#![forbid(unsafe_code)]

use super::checkpoint::{checkpoint, restore};
use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check, same};

cases! {
    checkpoint_refuses_what_does_not_run,
    parent_path_must_be_relative_and_exist,
    odd_checkpoint_options_are_refused,
    restore_without_images_leaves_nothing: [Criu],
    restore_makes_no_image_directory: [Criu, Creel],
    without_criu_the_error_says_so: [Creel],
}

fn checkpoint_refuses_what_does_not_run(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    let images = lab.path("images");
    let output = checkpoint(&container, &images, &[])?.refused("a created container")?;
    let why = "Container cannot be checkpointed in created state";
    check!(output.err.contains(why), "{}", output.err);
    container.start()?.ok()?;
    container.kill("KILL")?.ok()?;
    container.stopped()?;
    let output = checkpoint(&container, &images, &[])?.refused("a stopped container")?;
    let why = "Container cannot be checkpointed in stopped state";
    check!(output.err.contains(why), "{}", output.err);
    Ok(())
}

fn parent_path_must_be_relative_and_exist(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let images = lab.path("images");
    let output = checkpoint(&container, &images, &["--parent-path", "/tmp"])?;
    let output = output.refused("an absolute parent")?;
    check!(output.err.contains("--parent-path"), "{}", output.err);
    let output = checkpoint(&container, &images, &["--parent-path", "../nobody"])?;
    let output = output.refused("a parent that is not there")?;
    check!(
        output.err.contains("invalid --parent-path"),
        "{}",
        output.err
    );
    same!("status", container.status()?, "running");
    Ok(())
}

fn odd_checkpoint_options_are_refused(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let images = lab.path("images");
    for (flags, why) in [
        (["--manage-cgroups-mode", "wild"], "anage"),
        (
            ["--page-server", "1.2.3.4"],
            "Use --page-server ADDRESS:PORT",
        ),
        (["--page-server", "1.2.3.4:x"], "Invalid port number"),
        (["--empty-ns", "uts"], "is not supported"),
    ] {
        let output = checkpoint(&container, &images, &flags)?.refused(flags[1])?;
        check!(output.err.contains(why), "{}", output.err);
    }
    same!("status", container.status()?, "running");
    Ok(())
}

fn restore_without_images_leaves_nothing(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let images = lab.directory("images")?;
    std::fs::write(images.join("descriptors.json"), "[]")?;
    let failed = restore(lab, &container, &bundle, &images, &[]);
    check!(failed.is_err(), "nothing was restored");
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    Ok(())
}

fn restore_makes_no_image_directory(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let images = lab.path("nowhere");
    let failed = restore(lab, &container, &bundle, &images, &[]);
    check!(failed.is_err(), "nothing was restored");
    check!(!images.exists(), "an image directory was made");
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    Ok(())
}

fn without_criu_the_error_says_so(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let mut command = lab.command(&["checkpoint", &container.id]);
    command.env("PATH", "/nowhere").current_dir(&lab.dir);
    let output = lab.finish(&mut command)?.refused("a host without criu")?;
    let why = "exec: \"criu\": executable file not found in $PATH";
    check!(output.err.replace('\\', "").contains(why), "{}", output.err);
    same!("status", container.status()?, "running");
    Ok(())
}
