//! What the caller asked of the witness, and the host facts it cannot see from inside.
#![forbid(unsafe_code)]

use std::path::PathBuf;

/// The command line.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Asked {
    /// `--config PATH`, else `/config.json`.
    pub config: PathBuf,
    /// `--process PATH`: judge an exec'd process by this process.json instead of `process`.
    pub process: Option<PathBuf>,
    /// `--host-ns`: the caller's own namespaces, as `readlink /proc/self/ns/*` prints them.
    pub host_ns: Vec<(String, u64)>,
    /// `--host-caps`: the caller's bounding set, beyond which no runtime can grant.
    pub host_caps: Option<u64>,
    /// `--preserve-fds`: how many descriptors after stderr the runtime was told to keep.
    pub preserve_fds: i32,
    /// `--image PATH`: where the image can be seen as it is below all mounts.
    pub image: Option<PathBuf>,
    /// `--agent-errno N`: what the caller's seccomp agent answers to each call.
    pub agent_errno: Option<i32>,
    /// `--list`: name the parts.
    pub list: bool,
    /// The parts to judge; none means all.
    pub parts: Vec<String>,
}

impl Asked {
    /// Reads the arguments after the program's name.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut asked = Asked {
            config: PathBuf::from("/config.json"),
            ..Asked::default()
        };
        // A caller who cannot change process.args can still say it in process.env.
        if let Ok(list) = std::env::var("RUNTIMETEST_HOST_NS") {
            asked.host_ns = host_ns(&list)?;
        }
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--config" => asked.config = value()?.into(),
                "--process" => asked.process = Some(value()?.into()),
                "--host-ns" => asked.host_ns = host_ns(&value()?)?,
                "--host-caps" => {
                    let text = value()?;
                    let mask = u64::from_str_radix(text.trim_start_matches("0x"), 16);
                    asked.host_caps = Some(mask.map_err(|e| format!("--host-caps {text}: {e}"))?);
                }
                "--preserve-fds" => {
                    let text = value()?;
                    asked.preserve_fds = text
                        .parse()
                        .map_err(|e| format!("--preserve-fds {text}: {e}"))?;
                }
                "--image" => asked.image = Some(value()?.into()),
                "--agent-errno" => {
                    let text = value()?;
                    let errno = text.parse();
                    asked.agent_errno =
                        Some(errno.map_err(|e| format!("--agent-errno {text}: {e}"))?);
                }
                "--list" => asked.list = true,
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}"));
                }
                part => asked.parts.push(part.to_owned()),
            }
        }
        Ok(asked)
    }
}

/// Reads `pid:[4026531836]` or `pid=4026531836`, separated by commas or white space.
fn host_ns(list: &str) -> Result<Vec<(String, u64)>, String> {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|item| !item.is_empty())
        .map(|item| namespace(item).ok_or_else(|| format!("--host-ns: {item:?} is no namespace")))
        .collect()
}

/// Splits a namespace link into its kind and inode.
pub fn namespace(link: &str) -> Option<(String, u64)> {
    let (kind, inode) = link.split_once([':', '='])?;
    let inode = inode
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()?;
    Some((kind.to_owned(), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Asked, String> {
        Asked::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn options_and_parts_mix() {
        let asked = parse(&["caps", "--config", "/c", "--host-caps", "0x1f", "user"]).unwrap();
        assert_eq!(asked.config, PathBuf::from("/c"));
        assert_eq!(asked.host_caps, Some(0x1f));
        assert_eq!(asked.parts, ["caps", "user"]);
    }

    #[test]
    fn namespaces_are_read_as_links_or_pairs() {
        let asked = parse(&["--host-ns", "pid:[12],net=34 mnt:[5]"]).unwrap();
        let want = [
            ("pid".to_owned(), 12),
            ("net".to_owned(), 34),
            ("mnt".to_owned(), 5),
        ];
        assert_eq!(asked.host_ns, want);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse(&["--what"]).is_err());
        assert!(parse(&["--config"]).is_err());
        assert!(parse(&["--host-ns", "pid"]).is_err());
        assert!(parse(&["--preserve-fds", "x"]).is_err());
    }
}
