//! One `CREATE TABLE` to a [`Table`]: options with their variables, settings, columns, and its connector.

use super::Table;
use super::columns::{EventTimeOptions, define};
use crate::catalog::options::{OptionError, OptionValue, Options, closest, is_secret, list};
use crate::catalog::{BadRows, FutureLimit, Percent, TableDefinition, TableName, TableSettings};
use crate::connectors::{Connector, ConnectorTable, SinkMode};
use crate::sql::names::fold_text;
use crate::sql::table::CreateTable;
use crate::sql::{Location, SourceFiles, SqlError, Variables};

/// Values shorter than this are not looked for in messages: they would be found everywhere.
const SHORTEST_SECRET: usize = 4;

/// The surroundings in which a table is read.
pub(super) struct TableReader<'a> {
    pub files: &'a SourceFiles,
    pub variables: &'a Variables,
    pub connectors: &'a [Box<dyn Connector>],
}

impl TableReader<'_> {
    /// The table, or `None` if it has no connector; and what is wrong with it.
    pub fn read(&self, create: &CreateTable) -> (Option<Table>, Vec<SqlError>) {
        let mut errors = vec![];
        let filled = self.fill(create, &mut errors);
        let all_filled = filled.values.len() == create.options.len();
        let mut options = Options::new(create.name.location, filled.values.clone());
        let event_time = EventTimeOptions {
            event_time: take_name(&mut options, &["event_time_field"]),
            watermark: take_name(&mut options, &["watermark_field"]),
        };
        let (definition, mistakes) = define(create, &event_time, self.files);
        errors.extend(mistakes);
        let connector = self.connector(&definition, &mut options, create, &mut errors);
        let (settings, emit_early) = settings(&mut options);
        let Some(connector) = connector else { return (None, errors) };
        let connected = connector.table(&definition, &mut options);
        let mut option_errors = options.finish(connector.name());
        if !all_filled {
            // An option whose variable is not set is there, though it has no value.
            option_errors.retain(|error| error.location != create.name.location);
        }
        let usable = option_errors.is_empty() && errors.is_empty();
        errors.extend(option_errors.into_iter().map(|error| filled.shown(error)));
        if usable {
            errors.extend(emit_early.and_then(|location| check_emit_early(&definition, &*connected, location)));
        }
        let variable = connected.embedded().and_then(|_| filled.variable());
        let connector_name = connector.name();
        (Some(Table { definition, settings, connector: connected, connector_name, variable }), errors)
    }

    fn fill(&self, create: &CreateTable, errors: &mut Vec<SqlError>) -> FilledOptions {
        let mut filled = FilledOptions { values: vec![], secrets: vec![] };
        for option in &create.options {
            match self.variables.fill(&option.value, option.location, self.files) {
                Err(mistakes) => errors.extend(mistakes),
                Ok(value) => {
                    filled.secrets.extend(value.values);
                    if is_secret(&option.key.text) {
                        filled.secrets.push(value.text.clone());
                    }
                    filled.values.push(OptionValue {
                        key: option.key.text.clone(),
                        text: value.text,
                        key_location: option.key.location,
                        location: option.location,
                        variables: value.variables,
                    });
                }
            }
        }
        filled
    }

    fn connector(
        &self,
        table: &TableDefinition,
        options: &mut Options,
        create: &CreateTable,
        errors: &mut Vec<SqlError>,
    ) -> Option<&dyn Connector> {
        let mut names: Vec<&str> = self.connectors.iter().map(|connector| connector.name()).collect();
        names.sort_unstable();
        let Some(option) = options.take(&["connector"]) else {
            // If it is there and its variable is not set, that has been said already.
            if create.options.iter().all(|option| option.key.text != "connector") {
                let message = format!("table '{}' has no connector", table.name);
                let help = format!("add WITH ('connector' = ...): it takes {}", list(&names));
                errors.push(SqlError::new(table.location, message).help(help));
            }
            return None;
        };
        let found = self.connectors.iter().find(|connector| connector.name() == option.text);
        if found.is_none() {
            let message = format!("there is no connector {}", option.shown());
            let help = match closest(&option.text, names.iter().copied()) {
                Some(meant) => format!("did you mean '{meant}'? It takes {}", list(&names)),
                None => format!("it takes {}", list(&names)),
            };
            errors.push(SqlError::new(option.location, message).help(help));
        }
        found.map(|connector| &**connector)
    }
}

/// A table's options with their variables put in.
struct FilledOptions {
    values: Vec<OptionValue>,
    /// What no message may hold.
    secrets: Vec<String>,
}

impl FilledOptions {
    /// The mistake as it is shown: a connector's message could quote a value that came from outside.
    fn shown(&self, error: OptionError) -> SqlError {
        let cover = |text: String| {
            let secrets = self.secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
            secrets.fold(text, |text, secret| text.replace(secret.as_str(), "***"))
        };
        SqlError::new(error.location, cover(error.message)).maybe_help(error.help.map(cover))
    }

    /// The variable that would connect the real part: the one in the option that says `embedded`, or else the only
    /// one there is.
    fn variable(&self) -> Option<String> {
        let name = |option: &OptionValue| option.variables.iter().find(|name| !name.starts_with("file:")).cloned();
        let embedded = self.values.iter().filter(|option| option.text.starts_with("embedded")).find_map(name);
        embedded.or_else(|| {
            let mut names = self.values.iter().filter(|option| option.key != "connector").filter_map(name);
            names.next().filter(|_| names.next().is_none())
        })
    }
}

fn take_name(options: &mut Options, names: &[&'static str]) -> Option<TableName> {
    let option = options.take(names)?;
    Some(TableName { name: fold_text(&option.text), location: option.location })
}

/// What every connector's tables take, and where `emit_early` stands.
fn settings(options: &mut Options) -> (TableSettings, Option<Location>) {
    let mut settings = TableSettings::default();
    if let Some(option) = options.take(&["bad_rows"]) {
        settings.bad_rows = match option.text.trim() {
            "count" => BadRows::Count,
            "fail" => BadRows::Fail,
            table => BadRows::Table(TableName { name: fold_text(table), location: option.location }),
        };
    }
    settings.bad_rows_limit = bad_rows_limit(options, settings.bad_rows_limit);
    settings.future_limit = future_limit(options);
    settings.late_rows = late_rows(options);
    if let Some(timeout) = options.duration(&["idle_timeout"]) {
        settings.idle_timeout = timeout;
    }
    let location = options.location(&["emit_early"]);
    settings.emit_early = options.duration(&["emit_early"]);
    (settings, location)
}

fn bad_rows_limit(options: &mut Options, usual: Option<Percent>) -> Option<Percent> {
    let Some(option) = options.take(&["bad_rows_limit"]) else { return usual };
    let text = option.text.trim();
    if text == "none" {
        return None;
    }
    let number = text.strip_suffix("percent").or(text.strip_suffix('%')).and_then(|number| number.trim().parse().ok());
    if let Some(share) = number.filter(|share| (0.0..100.0).contains(share)) {
        return Some(Percent(share));
    }
    let message = format!("option '{}' does not take {}", option.key, option.shown());
    let help = "it takes a share below 100 such as '5 percent' or '0.5 %', or 'none'";
    options.error(option.location, message, Some(help.into()));
    usual
}

fn future_limit(options: &mut Options) -> FutureLimit {
    if options.peek("future_limit").is_some_and(|text| text.trim() == "none") {
        options.take(&["future_limit"]);
        return FutureLimit::None;
    }
    options.duration(&["future_limit"]).map_or(FutureLimit::Usual, FutureLimit::Ahead)
}

/// The table of late rows. `'drop'` says what happens anyway.
fn late_rows(options: &mut Options) -> Option<TableName> {
    let name = take_name(options, &["late_rows"])?;
    match name.name.trim() {
        "drop" => None,
        "update" => {
            let message = "'late_rows' does not take 'update': a window that is closed is not opened again".into();
            let help = "let windows wait longer, WATERMARK FOR ts AS ts - INTERVAL '1 hour', and publish them meanwhile \
                        with 'emit_early' on a table with a PRIMARY KEY; or name a table that keeps the late rows, or \
                        'drop'";
            options.error(name.location, message, Some(help.into()));
            None
        }
        _ => Some(name),
    }
}

fn check_emit_early(table: &TableDefinition, connected: &dyn ConnectorTable, location: Location) -> Option<SqlError> {
    let Some(sink) = connected.sink() else {
        let message = format!("'emit_early' has no meaning for table '{}': it can only be read", table.name);
        return Some(SqlError::new(location, message).help("leave it out"));
    };
    if !table.primary_key.is_empty() || matches!(sink.mode(), SinkMode::Upsert(_)) {
        return None;
    }
    let message = format!("'emit_early' needs a key: table '{}' would keep every early result", table.name);
    Some(SqlError::new(location, message).help("declare a PRIMARY KEY, so that a later result replaces an earlier one"))
}
