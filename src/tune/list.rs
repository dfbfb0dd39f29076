//! Lists of cpus and of memory nodes: `0-3,7`, the kernel's "List format" (cpuset(7)).
#![forbid(unsafe_code)]

/// The numbers of `parts`, each `7` or `0-3` and below `most`, as a bit mask in words.
pub(crate) fn parse<'a>(parts: impl Iterator<Item = &'a str>, most: usize) -> Option<Vec<u64>> {
    let mut words = vec![0u64; 16];
    for part in parts.map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= most {
            return None;
        }
        words.resize(words.len().max(last / 64 + 1), 0);
        for number in first..=last {
            *words.get_mut(number / 64)? |= 1 << (number % 64);
        }
    }
    Some(words)
}
