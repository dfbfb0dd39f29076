//! `features`: what this runtime can do, for engines to read.
#![forbid(unsafe_code)]

use super::{Entry, args, print, wrong_count};
use crate::features::document;
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<FeaturesArgs>(
    "features",
    "show the enabled features",
    "",
    |matches, globals| {
        let said: FeaturesArgs = args(matches)?;
        if !said.words.is_empty() {
            return Err(wrong_count("features", "exactly 0", globals));
        }
        print(&document()?).map(|()| 0)
    },
);

#[derive(Args)]
struct FeaturesArgs {
    #[arg(hide = true)]
    words: Vec<String>,
}
