//! Fuzzing: mount options, one a line.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use super::*;

/// Mount options, one a line. Whatever is understood can be said in words again, and means the same then.
pub fn mount_options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let Ok(options) = Options::parse(&words) else {
        return assert!(text.contains('\0'), "only a NUL is no option");
    };
    for attr in [&options.attr, &options.recursive] {
        let both = attr.set & attr.clear;
        assert_eq!(both & !ATTR_ATIME, 0, "both set and cleared");
        assert!(attr.set & ATTR_ATIME == 0 || attr.clear & ATTR_ATIME == ATTR_ATIME);
        assert!([0, ATTR_NOATIME, ATTR_STRICTATIME].contains(&(attr.set & ATTR_ATIME)));
    }
    assert_eq!(Options::parse(&said(&options)), Ok(options));
}

/// The words that mean this.
fn said(options: &Options) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(recursive) = options.bind {
        words.push(if recursive { "rbind" } else { "bind" }.to_owned());
    }
    for (yes, word) in [(options.remount, "remount"), (options.copy_up, "tmpcopyup")] {
        words.extend(yes.then(|| word.to_owned()));
    }
    for (attr, r) in [(&options.attr, ""), (&options.recursive, "r")] {
        for (name, effect) in &ATTRIBUTES {
            let holds = match *effect {
                Set(bits) => bits != 0 && attr.set & bits != 0,
                Clear(bits) => attr.clear & bits != 0,
                Atime(mode) => attr.clear & ATTR_ATIME != 0 && attr.set & ATTR_ATIME == mode,
            };
            words.extend(holds.then(|| format!("{r}{name}")));
        }
    }
    for change in &options.propagation {
        let names = PROPAGATION
            .iter()
            .flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
        words.extend(
            names
                .into_iter()
                .find(|name| propagation(name) == Some(*change)),
        );
    }
    for flag in &options.superblock {
        let named = SUPERBLOCK.iter().find(|(_, one)| one == &Some(*flag));
        words.extend(named.map(|(name, _)| (*name).to_owned()));
    }
    for (key, value) in &options.data {
        let key = key.to_str().unwrap();
        words.push(match value {
            Some(value) => format!("{key}={}", value.to_str().unwrap()),
            None => key.to_owned(),
        });
    }
    words
}
