//! `list`: all containers of a state root.
#![forbid(unsafe_code)]

use super::{Container, Status, Store};
use crate::error::{Doing, Error, Result};
use crate::log::as_go_writes;
use std::fmt::Write;

/// A container in the list.
#[derive(Debug)]
pub struct Listed {
    container: Container,
    status: Status,
    owner: String,
}

/// The containers below a root, by id, and what went wrong with the others.
///
/// # Errors
/// The root cannot be read.
pub fn list(store: &Store) -> Result<(Vec<Listed>, Vec<Error>)> {
    let ids = store.ids()?;
    if ids.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for id in ids {
        let found = store.find(&id).and_then(|container| {
            let status = container.status()?;
            let owner = owner(container.state().owner, &passwd);
            Ok(Listed {
                container,
                status,
                owner,
            })
        });
        match found {
            Ok(listed) => good.push(listed),
            Err(error) => bad.push(error),
        }
    }
    Ok((good, bad))
}

/// A user's name, or `#uid`. By hand: a static program has no name service.
fn owner(uid: u32, passwd: &str) -> String {
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
        .unwrap_or_else(|| format!("#{uid}"))
}

/// `--quiet`: an id per line.
#[must_use]
pub fn quiet(list: &[Listed]) -> String {
    list.iter().fold(String::new(), |out, listed| {
        out + listed.container.id() + "\n"
    })
}

/// `--format json`: an array on one line, `null` without containers (it is a nil slice in Go).
///
/// # Errors
/// A path is not UTF-8.
pub fn json(list: &[Listed]) -> Result<String> {
    if list.is_empty() {
        return Ok("null\n".into());
    }
    let reports: Vec<_> = list
        .iter()
        .map(|l| l.container.state().report(l.status, l.owner.clone()))
        .collect();
    serde_json::to_string(&reports)
        .map(|json| as_go_writes(json) + "\n")
        .map_err(|error| Error::rule(Doing::ReadState, error.to_string()))
}

/// `--format table`, with columns as Go's tabwriter makes them.
#[must_use]
pub fn table(list: &[Listed]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = list.iter().map(|listed| {
        let report = listed
            .container
            .state()
            .report(listed.status, listed.owner.clone());
        [
            report.id.to_owned(),
            report.pid.to_string(),
            report.status.to_string(),
            report.bundle.display().to_string(),
            report.created.to_owned(),
            report.owner,
        ]
    });
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// Columns at least 12 wide with at least 3 blanks between; the last one is not padded.
fn columns(rows: &[[String; 6]]) -> String {
    let mut widths = [12; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut out = String::new();
    for row in rows {
        let Some((last, padded)) = row.split_last() else {
            continue;
        };
        for (cell, width) in padded.iter().zip(widths) {
            write!(out, "{cell:<width$}").unwrap_or_default();
        }
        out.push_str(last);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_name_from_passwd_or_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad line\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(owner(0, passwd), "root");
        assert_eq!(owner(1000, passwd), "ann");
        assert_eq!(owner(1, passwd), "#1");
    }

    #[test]
    fn without_containers_the_table_is_a_head_and_json_is_null() {
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
        assert_eq!(json(&[]), Ok("null\n".to_owned()));
        assert_eq!(quiet(&[]), "");
    }

    #[test]
    fn a_long_cell_widens_its_column_for_all_rows() {
        let row = |id: &str| [id, "0", "stopped", "/b", "now", "root"].map(str::to_owned);
        let text = columns(&[row("short"), row("a-rather-long-id")]);
        assert_eq!(
            text,
            "short              0           stopped     /b          now         root\n\
             a-rather-long-id   0           stopped     /b          now         root\n"
        );
    }
}
