//! What tells a table from another one of the same name in a database of the same address: a cursor means something only
//! where it was given.

use std::collections::BTreeMap;
use std::fmt;

/// What is known of the place, such as the number of its database. Prints as `database 5; system 7; table 16390`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origin(BTreeMap<String, String>);

impl Origin {
    /// From names, each one word, and values; those that are not known are left out.
    pub fn new<const N: usize>(parts: [(&str, Option<String>); N]) -> Origin {
        Origin(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// What was printed.
    pub fn parse(text: &str) -> Origin {
        let parts = text.split("; ").filter_map(|part| part.split_once(' '));
        Origin(parts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// What speaks against going on here at `next`, which was noted in `before`; `None` if nothing is known.
    pub(super) fn mismatch(&self, before: &Origin, next: Option<i64>) -> Option<String> {
        let (name, here) =
            self.0.iter().find(|(name, here)| before.0.get(*name).is_some_and(|there| there != *here))?;
        let there = &before.0[name];
        let next = next.unwrap_or(i64::MIN);
        Some(format!(
            "the checkpoint was made with another {name} ({there}; here it is {here}), whose rows may have other \
             cursors. Go back to that one or begin anew with --fresh; if the same rows are here, as after a restore or \
             an upgrade, go on at cursor {next} with --accept-lost-input"
        ))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(system: Option<&str>, table: &str) -> Origin {
        Origin::new([("system", system.map(str::to_owned)), ("table", Some(table.to_owned()))])
    }

    #[test]
    fn it_survives_being_written() {
        let origin = origin(Some("7"), "16390");
        assert_eq!(origin.to_string(), "system 7; table 16390");
        assert_eq!(Origin::parse(&origin.to_string()), origin);
        assert_eq!(Origin::parse(""), Origin::default());
    }

    #[test]
    fn what_differs_is_told_with_the_ways_out() {
        let here = origin(Some("7"), "2");
        assert_eq!(here.mismatch(&here, Some(5)), None);
        assert_eq!(here.mismatch(&origin(None, "2"), Some(5)), None);
        assert_eq!(
            here.mismatch(&origin(Some("7"), "1"), Some(5)).unwrap(),
            "the checkpoint was made with another table (1; here it is 2), whose rows may have other cursors. Go back to \
             that one or begin anew with --fresh; if the same rows are here, as after a restore or an upgrade, go on at \
             cursor 5 with --accept-lost-input"
        );
    }
}
