//! The same commands under runc and under the runtime: equal, or listed with a reason.
#![forbid(unsafe_code)]

use crate::case::{Case, Need, Result};
use crate::golden::{compare, differences, matches, sequences};
use crate::golden_table::table;
use crate::lab::Lab;
use crate::same;

/// A case per sequence.
pub fn cases() -> Result<Vec<Case>> {
    let needs = [Need::Creel, Need::Tool("runc")];
    let case = |sequence: String| {
        let name = format!("golden_{sequence}");
        // It looks at what `update` has written, in files of cgroup v1.
        let files: &[Need] = match sequence.as_str() {
            "tend" => &[Need::CgroupV1],
            _ => &[],
        };
        Case::new(&name, move |lab| equal_or_listed(lab, &sequence))
            .needs(&needs)
            .needs(files)
            .limit(300)
    };
    let mut all: Vec<Case> = sequences()?.into_iter().map(case).collect();
    all.push(Case::new("golden_covers_every_flag", covers).needs(&needs));
    Ok(all)
}

/// With `GOLDEN_TABLE` naming a file, the table of what is covered goes there.
fn covers(lab: &Lab) -> Result {
    let (text, missing) = table(lab)?;
    if let Some(path) = std::env::var_os("GOLDEN_TABLE") {
        std::fs::write(path, text)?;
    }
    same!("flags without a step", missing, Vec::<String>::new());
    Ok(())
}

fn equal_or_listed(lab: &Lab, sequence: &str) -> Result {
    let listed = differences()?;
    let found = compare(lab, sequence)?;
    let mut wrong = String::new();
    for (key, [theirs, ours]) in &found {
        if !listed.keys().any(|listed| matches(listed, key)) {
            wrong.push_str(&format!("\n  {key}: runc {theirs:?}\n    ours {ours:?}"));
        }
    }
    for key in listed
        .keys()
        .filter(|key| key.starts_with(&format!("{sequence} / ")))
    {
        if !found.keys().any(|found| matches(key, found)) {
            wrong.push_str(&format!("\n  {key}: is listed, and is equal"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.into()),
    }
}
