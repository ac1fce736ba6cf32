//! Names across files: who declares them, who uses them, and whether that fits.

use std::collections::BTreeMap;

use super::columns::{unknown_column, unwritable_column};
use super::{Table, View};
use crate::catalog::{BadRows, TableName};
use crate::connectors::delta::mistakes_of_history;
use crate::sql::names::{Name, meant, relations};
use crate::sql::statement::{CreateView, InsertInto};
use crate::sql::{Location, SourceFiles, SqlError};

/// At most this many names are listed where none is like the one that was written.
const LISTED_NAMES: usize = 12;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    /// The table of that number.
    Table(usize),
    /// The view of that number.
    View(usize),
    /// A declaration with a mistake in it: nothing is known of it but that it is there.
    Broken,
}

/// A view as declared, with the place of its whole statement.
pub(super) struct DeclaredView {
    pub view: CreateView,
    pub location: Location,
}

/// The names of a program.
pub(super) struct Names<'a> {
    files: &'a SourceFiles,
    tables: &'a [Table],
    meanings: BTreeMap<String, (Meaning, Location)>,
    pub errors: Vec<SqlError>,
}

impl<'a> Names<'a> {
    /// Collects what is declared; two declarations of one name are a mistake that shows both.
    pub fn new(files: &'a SourceFiles, tables: &'a [Table], views: &[DeclaredView], broken: &[Name]) -> Names<'a> {
        let of_table = |(at, table): (usize, &Table)| {
            (table.definition.name.clone(), Meaning::Table(at), table.definition.location)
        };
        let of_view = |(at, view): (usize, &DeclaredView)| {
            (view.view.name.text.clone(), Meaning::View(at), view.view.name.location)
        };
        let of_broken = |name: &Name| (name.text.clone(), Meaning::Broken, name.location);
        let mut declared: Vec<(String, Meaning, Location)> = tables.iter().enumerate().map(of_table).collect();
        declared.extend(views.iter().enumerate().map(of_view));
        declared.extend(broken.iter().map(of_broken));
        declared.sort_by_key(|(_, _, location)| *location);
        let mut names = Names { files, tables, meanings: BTreeMap::new(), errors: vec![] };
        for (name, meaning, location) in declared {
            if let Some((_, first)) = names.meanings.get(&name) {
                let error = SqlError::new(location, format!("'{name}' is declared twice"));
                let error = error.related(*first, "first declared here");
                names.errors.push(error.help("give one of them another name: a folder is one program"));
            } else {
                names.meanings.insert(name, (meaning, location));
            }
        }
        names
    }

    /// Checks what a query reads; gives the numbers of the views among it, each with the place of its mention.
    pub fn check_query(
        &mut self,
        query: &datafusion::sql::sqlparser::ast::Query,
        whole: Location,
    ) -> Vec<(usize, Location)> {
        let mut views = vec![];
        for name in relations(query, whole, self.files) {
            match self.meaning(&name) {
                Some(Meaning::View(view)) => views.push((view, name.location)),
                Some(Meaning::Table(table)) => self.check_readable(table, &name),
                Some(Meaning::Broken) | None => {}
            }
        }
        views
    }

    /// Whether everything that a query reads is known and declared without a mistake.
    pub fn is_sound(&self, query: &datafusion::sql::sqlparser::ast::Query, whole: Location) -> bool {
        let sound = |name: &Name| match self.meanings.get(&name.text) {
            Some((meaning, _)) => *meaning != Meaning::Broken,
            None => false,
        };
        relations(query, whole, self.files).iter().all(sound)
    }

    /// Checks the target of an `INSERT` and its columns.
    pub fn check_insert(&mut self, insert: &InsertInto) {
        let Some(target) = &insert.target else { return };
        let Some(table) = self.writable(target, "INSERT INTO") else { return };
        let definition = &self.tables[table].definition;
        for (at, name) in insert.columns.iter().enumerate() {
            match definition.column(&name.text) {
                None => self.errors.push(unknown_column(name, definition)),
                Some(column) => self.errors.extend(unwritable_column(name, column)),
            }
            if let Some(first) = insert.columns[..at].iter().find(|other| other.text == name.text) {
                let message = format!("column '{}' is listed twice", name.text);
                self.errors.push(SqlError::new(name.location, message).related(first.location, "first here"));
            }
        }
    }

    /// Checks the tables that a table's `bad_rows` and `late_rows` name.
    pub fn check_settings(&mut self, table: &Table) {
        let bad = match &table.settings.bad_rows {
            BadRows::Table(name) => Some((name, "bad_rows")),
            BadRows::Count | BadRows::Fail => None,
        };
        let late = table.settings.late_rows.as_ref().map(|name| (name, "late_rows"));
        for (TableName { name, location }, option) in bad.into_iter().chain(late) {
            if *name == table.definition.name {
                let message = format!("'{option}' of table '{name}' is the table itself");
                self.errors.push(SqlError::new(*location, message).help("name another table"));
                continue;
            }
            let unknown_before = self.errors.len();
            self.writable(&Name { text: name.clone(), location: *location }, &format!("'{option}'"));
            if option == "bad_rows" && self.errors.len() > unknown_before && !self.meanings.contains_key(name) {
                let error = &mut self.errors[unknown_before];
                let help = error.help.take().unwrap_or_default();
                error.help = Some(format!("{help}\nbad_rows takes 'count', 'fail' or the name of a table"));
            }
        }
    }

    /// Checks that a table can record what its `history_of` names.
    pub fn check_history(&mut self, table: &Table) {
        let Some(TableName { name, location }) = table.connector.history_of() else { return };
        let source = Name { text: name.clone(), location: *location };
        match self.meaning(&source) {
            Some(Meaning::Table(at)) => {
                let before = self.errors.len();
                self.check_readable(at, &source);
                if self.errors.len() > before {
                    return;
                }
                let definition = &self.tables[at].definition;
                for (message, help) in mistakes_of_history(&table.definition, definition) {
                    let error = SqlError::new(*location, message).related(definition.location, "declared here");
                    self.errors.push(error.help(help));
                }
            }
            Some(Meaning::View(_)) => {
                let error = SqlError::new(*location, format!("'{name}' is a view"));
                let error = error.related(self.meanings[name].1, "declared here");
                self.errors.push(error.help("'history_of' takes a table that is read: what comes in is recorded"));
            }
            Some(Meaning::Broken) | None => {}
        }
    }

    fn check_readable(&mut self, table: usize, name: &Name) {
        let table = &self.tables[table];
        if table.connector.source().is_none() {
            let message = format!("table '{}' can only be written", name.text);
            let error = SqlError::new(name.location, message).related(table.definition.location, "declared here");
            let help = table.connector.to_be_read().unwrap_or_else(|| {
                format!("connector '{}' has no source; read what is written to it instead", table.connector_name)
            });
            self.errors.push(error.help(help));
        }
    }

    fn writable(&mut self, name: &Name, by: &str) -> Option<usize> {
        match self.meaning(name)? {
            Meaning::Table(at) => {
                let table = &self.tables[at];
                if table.connector.sink().is_some() {
                    return Some(at);
                }
                let message = format!("table '{}' can only be read", name.text);
                let error = SqlError::new(name.location, message).related(table.definition.location, "declared here");
                let no_sink = || format!("connector '{}' has no sink", table.connector_name);
                self.errors.push(error.help(table.connector.to_be_written().unwrap_or_else(no_sink)));
                None
            }
            Meaning::View(_) => {
                let declared = self.meanings[&name.text].1;
                let error = SqlError::new(name.location, format!("'{}' is a view", name.text));
                let error = error.related(declared, "declared here");
                self.errors.push(error.help(format!("{by} takes a table that can be written")));
                None
            }
            Meaning::Broken => None,
        }
    }

    /// What a name means; notes an error if it means nothing.
    fn meaning(&mut self, name: &Name) -> Option<Meaning> {
        if let Some((meaning, _)) = self.meanings.get(&name.text) {
            return Some(*meaning);
        }
        let message = format!("there is no table or view '{}'", name.text);
        let help = self.unknown_help(&name.text);
        self.errors.push(SqlError::new(name.location, message).help(help));
        None
    }

    fn unknown_help(&self, name: &str) -> String {
        let last = name.rsplit('.').next().unwrap_or(name);
        if last != name && self.meanings.contains_key(last) {
            return format!("did you mean '{last}'? The names of tables and views have no schema before them");
        }
        let mut names: Vec<&str> = self.meanings.keys().map(String::as_str).collect();
        if let Some(help) = meant(name, names.iter().copied()) {
            return help;
        }
        let more = names.len().saturating_sub(LISTED_NAMES);
        names.truncate(LISTED_NAMES);
        match (names.is_empty(), more) {
            (true, _) => "declare it with CREATE TABLE or CREATE VIEW".into(),
            (false, 0) => format!("there are {}", names.join(", ")),
            (false, more) => format!("there are {} and {more} more", names.join(", ")),
        }
    }
}

/// Puts views in an order in which each stands after those that it uses. `uses` has, for each view, the numbers of
/// the views in its query with the places of their mentions. Beside them a mistake for each circle, which shows every
/// step of it; the views of a circle have no right order.
pub(super) fn sorted(views: Vec<DeclaredView>, uses: &[Vec<(usize, Location)>]) -> (Vec<View>, Vec<SqlError>) {
    let mut search =
        Search { views: &views, uses, seen: vec![false; views.len()], path: vec![], order: vec![], circles: vec![] };
    for view in 0..views.len() {
        search.visit(view);
    }
    let Search { order, circles, .. } = search;
    let mut views: Vec<Option<DeclaredView>> = views.into_iter().map(Some).collect();
    let in_order = order.into_iter().filter_map(|at| views[at].take());
    let views = in_order.map(|DeclaredView { view: CreateView { name, query }, .. }| View {
        name: name.text,
        location: name.location,
        query,
    });
    (views.collect(), circles)
}

/// Which views can be planned: those that are sound themselves and read only such views. A view in a circle can not.
pub(super) fn sound_views(own: &[bool], uses: &[Vec<(usize, Location)>]) -> Vec<bool> {
    let mut sound = vec![false; own.len()];
    // Grows from the views that read tables alone; a circle is never entered.
    loop {
        let grown: Vec<bool> =
            own.iter().zip(uses).map(|(own, uses)| *own && uses.iter().all(|(used, _)| sound[*used])).collect();
        if grown == sound {
            return sound;
        }
        sound = grown;
    }
}

/// A depth-first walk over the views.
struct Search<'a> {
    views: &'a [DeclaredView],
    uses: &'a [Vec<(usize, Location)>],
    seen: Vec<bool>,
    /// The views on the way to the one that is looked at, each with the place where it mentions the next.
    path: Vec<(usize, Location)>,
    order: Vec<usize>,
    circles: Vec<SqlError>,
}

impl Search<'_> {
    fn visit(&mut self, view: usize) {
        if std::mem::replace(&mut self.seen[view], true) {
            return;
        }
        for &(used, mention) in &self.uses[view] {
            self.path.push((view, mention));
            match self.path.iter().position(|(on_path, _)| *on_path == used) {
                Some(start) => self.circles.push(self.circle(&self.path[start..])),
                None => self.visit(used),
            }
            self.path.pop();
        }
        self.order.push(view);
    }

    fn circle(&self, steps: &[(usize, Location)]) -> SqlError {
        let name = |view: usize| self.views[view].view.name.text.as_str();
        let (first, place) = steps[0];
        if steps.len() == 1 {
            let message = format!("view '{}' uses itself", name(first));
            return SqlError::new(place, message).help("name a table or another view here");
        }
        let names: Vec<&str> = steps.iter().map(|(view, _)| name(*view)).chain([name(first)]).collect();
        let error = SqlError::new(place, format!("views use each other in a circle: {}", names.join(" → ")));
        let error = error.label(format!("'{}' uses '{}'", names[0], names[1]));
        let rest = steps.iter().zip(names.windows(2)).skip(1);
        let error = rest.fold(error, |error, ((_, place), pair)| {
            error.related(*place, format!("'{}' uses '{}'", pair[0], pair[1]))
        });
        error.help("one of them must be made from tables alone")
    }
}
