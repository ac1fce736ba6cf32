//! Where `generate` writes to: `--to`, or what the environment says.

use std::path::Path;

use crate::connectors::postgres::URL_EXAMPLE;
use crate::generator::{DatabasePlace, Destinations};

/// What a `--to` says. Its text may hold a password and is in no message.
#[derive(Clone, Debug)]
pub struct Target {
    tables: Tables,
    url: String,
}

/// Whose tables a database is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tables {
    Shop,
    Crm,
    Both,
}

const KAFKA: &str = "kafka://";

/// Reads a `--to`. What is wrong follows `--to ` in a message.
pub fn target(text: &str) -> Result<Target, String> {
    let (tables, url) = match (text.strip_prefix("shop="), text.strip_prefix("crm=")) {
        (Some(url), _) => (Tables::Shop, url),
        (None, Some(url)) => (Tables::Crm, url),
        (None, None) => (Tables::Both, text),
    };
    match url.strip_prefix(KAFKA) {
        Some("") => return Err(format!("names no broker, such as {KAFKA}localhost:9092")),
        Some(_) if tables != Tables::Both => {
            return Err(format!("takes {KAFKA}... without shop= or crm=: topics hold all events"));
        }
        Some(_) => {}
        None => drop(place(url, Path::new(""))?),
    }
    Ok(Target { tables, url: url.into() })
}

fn place(url: &str, data_dir: &Path) -> Result<DatabasePlace, String> {
    DatabasePlace::parse(url, data_dir).map_err(|problem| {
        format!("{problem}; it takes {KAFKA}localhost:9092, {URL_EXAMPLE}, sqlite://FILE or embedded://NAME")
    })
}

/// The destinations of these targets; without any, those that the environment names by SHOP_URL and CRM_URL.
pub fn of(
    targets: &[Target],
    environment: impl Fn(&str) -> Option<String>,
    data_dir: &Path,
) -> Result<Destinations, String> {
    if targets.is_empty() {
        return of_environment(environment, data_dir);
    }
    let brokers: Vec<&str> = targets.iter().filter_map(|target| target.url.strip_prefix(KAFKA)).collect();
    match (brokers.as_slice(), targets.len()) {
        ([], _) => {}
        (["embedded"], 1) => return Ok(Destinations::EmbeddedTopics { data_dir: data_dir.into() }),
        ([brokers], 1) => return Ok(Destinations::Topics { bootstrap_servers: (*brokers).into() }),
        _ => {
            return Err("--to kafka://... goes with no other --to: several brokers stand in one, with commas; for \
                        databases as well start a second 'acequia generate'"
                .into());
        }
    }
    let of_tables = |tables: Tables| {
        let mut of_tables = targets.iter().filter(|target| target.tables == tables || target.tables == Tables::Both);
        match (of_tables.next(), of_tables.next()) {
            (_, Some(_)) => {
                Err("--to names two databases for the same tables; tell them apart by shop=URL and crm=URL".to_owned())
            }
            (Some(target), None) => place(&target.url, data_dir).map(Some).map_err(|problem| format!("--to {problem}")),
            (None, None) => Ok(None),
        }
    };
    let (shop, crm) = (of_tables(Tables::Shop)?, of_tables(Tables::Crm)?);
    let shop = shop.ok_or("--to names a CRM and no shop; add --to shop=URL: the CRM's customers are the shop's")?;
    Ok(Destinations::Databases { shop, crm })
}

fn of_environment(environment: impl Fn(&str) -> Option<String>, data_dir: &Path) -> Result<Destinations, String> {
    let named = |name: &str, default: &str| {
        let url = environment(name).unwrap_or_else(|| default.into());
        if url == "none" {
            return Ok(None);
        }
        let place = DatabasePlace::parse(&url, data_dir);
        place.map(Some).map_err(|problem| {
            format!("{name} {problem}; it takes {URL_EXAMPLE}, sqlite://FILE, embedded://NAME or none")
        })
    };
    let shop = named("SHOP_URL", "embedded://shop")?;
    let shop = shop.ok_or("SHOP_URL is none, so there is no shop to write to; unset it, or say --to URL")?;
    Ok(Destinations::Databases { shop, crm: named("CRM_URL", "embedded://crm")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(targets: &[&str], environment: &[(&str, &str)]) -> String {
        let targets: Vec<Target> = targets.iter().map(|text| target(text).unwrap()).collect();
        let value = |name: &str| environment.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        match of(&targets, value, Path::new("data")) {
            Ok(destinations) => destinations.describe(),
            Err(message) => message,
        }
    }

    #[test]
    fn targets_and_surroundings_name_destinations() {
        let environment = [("SHOP_URL", "postgres://shop:s3cret@db:5432/instashop"), ("CRM_URL", "none")];
        for (targets, environment, expected) in [
            (&[][..], &[][..], "data/shop.sqlite and data/crm.sqlite"),
            (&[], &environment[..1], "PostgreSQL at db:5432/instashop and data/crm.sqlite"),
            (&[], &environment[..], "PostgreSQL at db:5432/instashop"),
            (&["kafka://a:9092,b:9092"], &environment[..], "Kafka at a:9092,b:9092"),
            (&["kafka://embedded"], &[], "the embedded Kafka"),
            (&["sqlite://t.sqlite"], &[], "t.sqlite"),
            (&["crm=embedded://c", "shop=embedded://s"], &[], "data/s.sqlite and data/c.sqlite"),
            (&["shop=embedded://s"], &environment[..], "data/s.sqlite"),
        ] {
            assert_eq!(told(targets, environment), expected);
        }
    }

    #[test]
    fn what_does_not_fit_says_what_would_be_right() {
        for (targets, expected) in [
            (&["kafka://a:9092", "sqlite://t"][..], "--to kafka://... goes with no other --to"),
            (&["kafka://a:9092", "kafka://b:9092"], "several brokers stand in one, with commas"),
            (&["sqlite://a", "sqlite://b"], "tell them apart by shop=URL and crm=URL"),
            (&["sqlite://a", "crm=sqlite://b"], "tell them apart by shop=URL and crm=URL"),
            (&["crm=sqlite://b"], "add --to shop=URL"),
        ] {
            let said = told(targets, &[]);
            assert!(said.contains(expected), "{said}");
        }
        assert_eq!(
            told(&[], &[("SHOP_URL", "none")]),
            "SHOP_URL is none, so there is no shop to write to; unset it, or say --to URL"
        );
        assert_eq!(
            told(&[], &[("CRM_URL", "mysql://root:s3cret@db/crm")]),
            "CRM_URL does not begin with postgres://; it takes postgres://user:password@localhost:5432/database, \
             sqlite://FILE, embedded://NAME or none"
        );
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for (text, expected) in [
            ("mysql://root:s3cret@db/shop", "does not begin with postgres://"),
            ("postgres://shop:s3cret@local host/shop", "cannot be read"),
            ("embedded://", "names no embedded database"),
            ("shop=sqlite://", "names no file"),
        ] {
            let said = target(text).unwrap_err();
            assert_eq!(
                said,
                format!(
                    "{expected}; it takes kafka://localhost:9092, postgres://user:password@localhost:5432/database, \
                     sqlite://FILE or embedded://NAME"
                )
            );
        }
        assert_eq!(target("kafka://").unwrap_err(), "names no broker, such as kafka://localhost:9092");
        assert_eq!(
            target("crm=kafka://a:1").unwrap_err(),
            "takes kafka://... without shop= or crm=: topics hold all events"
        );
    }
}
