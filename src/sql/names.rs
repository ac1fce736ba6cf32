//! How identifiers fold, and which tables a query reads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, Visit, Visitor};

use super::{Location, SourceFiles};

/// An identifier as it is looked up, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The name, folded.
    pub text: String,
    /// Where it stands.
    pub location: Location,
}

/// The name that an identifier means: without quotes it folds to lower case, in quotes it stays, as in DataFusion.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// The same for a name that stands in an option's text, such as `late_rows = 'late'`.
pub fn fold_text(text: &str) -> String {
    let text = text.trim();
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => text.to_ascii_lowercase(),
    }
}

/// The candidate most like `word`, if one is like enough to be meant: few letters differ, and not all of them.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .filter(|(distance, candidate)| *distance < candidate.chars().count().max(word.chars().count()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean ...?" for a name that is not there, if one of the candidates is like it. One that differs only in
/// capital letters must be written in double quotes, which is said.
pub fn meant<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    let mut in_other_case = candidates.clone().into_iter().filter(|known| known.eq_ignore_ascii_case(name));
    if let Some(known) = in_other_case.next() {
        return Some(format!("did you mean \"{known}\"? Names with capital letters need double quotes"));
    }
    closest(name, candidates).map(|known| format!("did you mean '{known}'?"))
}

/// The tables and views that `query` (or a statement around it) reads, by name, each with the place of its first mention. Names of its own CTEs
/// are not among them, nor are table functions. A name with a schema comes as `schema.name`.
pub fn relations(query: &impl Visit, whole: Location, files: &SourceFiles) -> Vec<Name> {
    let mut visitor = Relations { found: BTreeMap::new(), ctes: vec![], whole, files };
    let _ = query.visit(&mut visitor);
    let mut found: Vec<Name> = visitor.found.into_iter().map(|(text, location)| Name { text, location }).collect();
    found.sort_by_key(|name| name.location);
    found
}

struct Relations<'a> {
    found: BTreeMap<String, Location>,
    ctes: Vec<String>,
    whole: Location,
    files: &'a SourceFiles,
}

impl Relations<'_> {
    fn insert(&mut self, name: &ObjectName) {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let text = idents.iter().map(|ident| fold(ident)).collect::<Vec<_>>().join(".");
        if idents.is_empty() || (idents.len() == 1 && self.ctes.contains(&text)) {
            return;
        }
        let first = self.files.location_or(self.whole, idents[0].span);
        let last = self.files.location_or(self.whole, idents[idents.len() - 1].span);
        let location = first.to(last);
        let known = self.found.entry(text).or_insert(location);
        *known = location.min(*known);
    }
}

impl Visitor for Relations<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let Some(with) = &query.with else { return ControlFlow::Continue(()) };
        for cte in &with.cte_tables {
            // A CTE's name is not yet known inside it, so that `WITH t AS (SELECT * FROM t)` reads the table: its
            // query is looked at before the name counts. (It is visited once more below; the map takes that.)
            if !with.recursive {
                let _ = cte.query.visit(self);
            }
            self.ctes.push(fold(&cte.alias.name));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let ctes = query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        self.ctes.truncate(self.ctes.len() - ctes);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::Table { name, args: None, .. } = factor {
            self.insert(name);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{self, StatementKind};

    fn read(sql: &str) -> Vec<String> {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), sql.into());
        let parsed = statement::parse(&files, 0);
        assert_eq!(parsed.errors, []);
        let StatementKind::Insert(insert) = &parsed.statements[0].kind else { panic!("not a query") };
        let names = relations(&insert.query, parsed.statements[0].location, &files);
        names.iter().map(|name| format!("{}@{}", name.text, name.location.start)).collect()
    }

    #[test]
    fn finds_tables_wherever_they_are_read() {
        let sql = "SELECT (SELECT max(x) FROM a) FROM B JOIN \"C\" USING (k) WHERE k IN (SELECT k FROM d, b)";
        assert_eq!(read(sql), ["a@27", "b@35", "C@42", "d@82"]);
    }

    #[test]
    fn the_names_of_ctes_shadow_tables_only_where_they_are_known() {
        assert_eq!(read("WITH t AS (SELECT * FROM t) SELECT * FROM t"), ["t@25"]);
        assert_eq!(read("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b, c"), ["c@62"]);
        assert_eq!(read("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a"), ["a@56"]);
    }

    #[test]
    fn functions_and_aliases_are_no_tables() {
        assert_eq!(read("SELECT * FROM t AS o, UNNEST(o.items), generate_series(1, 3)"), ["t@14"]);
    }

    #[test]
    fn a_schema_is_part_of_the_name() {
        assert_eq!(read("SELECT * FROM shop.Orders"), ["shop.orders@14"]);
    }

    #[test]
    fn a_name_in_other_capital_letters_needs_quotes() {
        let quotes = "did you mean \"Method\"? Names with capital letters need double quotes";
        assert_eq!(meant("method", ["metho", "Method"]).as_deref(), Some(quotes));
        assert_eq!(meant("methd", ["Method", "method"]).as_deref(), Some("did you mean 'method'?"));
        assert_eq!(meant("other", ["method"]), None);
    }

    #[test]
    fn a_word_of_which_every_letter_differs_is_not_meant() {
        assert_eq!(closest("x", ["a", "b"]), None);
        assert_eq!(closest("tz", ["ts", "id"]), Some("ts"));
    }
}
