//! The tables that Acequia knows how to make, made and brought up to date by the files in `migrations/`.
//!
//! What has been applied is written down in `_acequia_migrations`, so that an application's own sqlx migrations in
//! the same database are left alone. Running them again, or from two processes at once, changes nothing. The sets may
//! stand in one database, in any order: each has its own range of versions.

use std::borrow::Cow;
use std::ops::Range;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlSafeStr, SqliteConnection};

use super::create::Dialect;

/// Where the versions are written down.
const TABLE: &str = "_acequia_migrations";

/// How many versions a set has room for.
const ROOM: i64 = 10_000;

/// A set of tables that Acequia knows how to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Migrations {
    /// `realtime_events` and `customer_sessions`.
    Warehouse,
    /// Customers, buyers, products, transactions and behaviour, with the views `transaction_events` and
    /// `behavior_events`.
    Shop,
    /// Interactions and segments.
    Crm,
}

/// A file of `migrations/`.
struct File {
    /// As its name has it, from 1.
    number: i64,
    description: &'static str,
    sql: &'static str,
}

macro_rules! file {
    ($number:literal, $description:literal, $path:literal) => {
        File { number: $number, description: $description, sql: include_str!(concat!("../../../migrations/", $path)) }
    };
}

impl Migrations {
    /// What `migrate` takes.
    pub const NAMES: [(&'static str, Migrations); 3] =
        [("warehouse", Migrations::Warehouse), ("shop", Migrations::Shop), ("crm", Migrations::Crm)];

    /// Its name in `migrate`, which is also that of the embedded database it belongs to.
    pub fn name(self) -> &'static str {
        match self {
            Migrations::Warehouse => "warehouse",
            Migrations::Shop => "shop",
            Migrations::Crm => "crm",
        }
    }

    /// The set of that name.
    pub fn named(name: &str) -> Option<Migrations> {
        Migrations::NAMES.iter().find(|(known, _)| *known == name).map(|(_, set)| *set)
    }

    /// Its versions. The warehouse's are the oldest and equal to its files' numbers.
    fn versions(self) -> Range<i64> {
        let from = match self {
            Migrations::Warehouse => 0,
            Migrations::Shop => ROOM,
            Migrations::Crm => 2 * ROOM,
        };
        from..from + ROOM
    }

    fn files(self, dialect: Dialect) -> Vec<File> {
        match (self, dialect) {
            (Migrations::Warehouse, Dialect::Postgres) => {
                vec![file!(1, "warehouse", "warehouse/postgres/0001_warehouse.sql")]
            }
            (Migrations::Warehouse, Dialect::Sqlite) => {
                vec![file!(1, "warehouse", "warehouse/sqlite/0001_warehouse.sql")]
            }
            (Migrations::Shop, Dialect::Postgres) => vec![file!(1, "shop", "shop/postgres/0001_shop.sql")],
            (Migrations::Shop, Dialect::Sqlite) => vec![file!(1, "shop", "shop/sqlite/0001_shop.sql")],
            (Migrations::Crm, Dialect::Postgres) => vec![file!(1, "crm", "crm/postgres/0001_crm.sql")],
            (Migrations::Crm, Dialect::Sqlite) => vec![file!(1, "crm", "crm/sqlite/0001_crm.sql")],
        }
    }

    fn migrator(self, dialect: Dialect) -> Migrator {
        let migration = |file: File| {
            let version = self.versions().start + file.number;
            let (description, sql) = (Cow::Borrowed(file.description), file.sql.into_sql_str());
            Migration::new(version, description, MigrationType::Simple, sql, false)
        };
        let mut migrator = Migrator::with_migrations(self.files(dialect).into_iter().map(migration).collect());
        migrator.dangerous_set_table_name(TABLE);
        // Those of the other sets stand beside them.
        migrator.set_ignore_missing(true);
        migrator
    }

    async fn run(self, dialect: Dialect, connection: &mut impl Migrate) -> Result<(), MigrateError> {
        let migrator = self.migrator(dialect);
        migrator.run_direct(None, connection, false).await?;
        let applied = connection.list_applied_migrations(TABLE).await?;
        let newer = applied.iter().map(|migration| migration.version);
        match newer.into_iter().find(|version| self.versions().contains(version) && !migrator.version_exists(*version))
        {
            Some(version) => Err(MigrateError::VersionMissing(version)),
            None => Ok(()),
        }
    }

    /// Brings its tables in PostgreSQL up to date. Other processes wait for their turn at an advisory lock.
    ///
    /// # Errors
    /// When the database does not let us, or was migrated by another version.
    pub async fn migrate_postgres(self, connection: &mut PgConnection) -> Result<(), MigrateError> {
        self.run(Dialect::Postgres, connection).await
    }

    /// Brings its tables in SQLite up to date. Other processes wait at the file's write lock.
    ///
    /// # Errors
    /// As for [`Migrations::migrate_postgres`].
    pub async fn migrate_sqlite(self, connection: &mut SqliteConnection) -> Result<(), MigrateError> {
        // sqlx has no lock of its own for SQLite.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        self.run(Dialect::Sqlite, &mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What to say of an error that is none of the database's.
    pub fn refusal(self, error: &MigrateError) -> String {
        format!("the {}'s migrations: {error}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(connection: &mut SqliteConnection, statement: &'static str) -> i64 {
        let (count,): (i64,) = sqlx::query_as(statement).fetch_one(connection).await.unwrap();
        count
    }

    #[tokio::test]
    async fn the_sets_stand_side_by_side_in_any_order_and_run_twice() {
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
            for place in order.into_iter().chain(order) {
                Migrations::NAMES[place].1.migrate_sqlite(&mut connection).await.unwrap();
            }
            assert_eq!(count(&mut connection, "SELECT count(*) FROM _acequia_migrations").await, 3);
            for (name, set) in Migrations::NAMES {
                assert_eq!((set.name(), Migrations::named(name)), (name, Some(set)));
            }
            let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('realtime_events', 'customer_sessions', \
                          'customer', 'buyer', 'product', 'transaction', 'transactiondetail', 'userbehavior', \
                          'transaction_events', 'behavior_events', 'interaction', 'segment', 'customersegment')";
            assert_eq!(count(&mut connection, tables).await, 13);
        }
    }

    #[tokio::test]
    async fn a_newer_version_is_told_and_one_of_another_set_is_not() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        Migrations::Shop.migrate_sqlite(&mut connection).await.unwrap();
        sqlx::query("UPDATE _acequia_migrations SET version = version + 1").execute(&mut connection).await.unwrap();
        Migrations::Crm.migrate_sqlite(&mut connection).await.unwrap();
        let error = Migrations::Shop.migrate_sqlite(&mut connection).await.unwrap_err();
        assert_eq!(
            Migrations::Shop.refusal(&error),
            "the shop's migrations: migration 10002 was previously applied but is missing in the resolved migrations"
        );
    }

    /// A transaction's items, in order and with the digits of PostgreSQL.
    #[tokio::test]
    async fn the_view_assembles_a_transaction_with_its_items() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        Migrations::Shop.migrate_sqlite(&mut connection).await.unwrap();
        for statement in [
            "INSERT INTO customer (name, subscription_plan) VALUES ('Ana', 'free')",
            "INSERT INTO buyer (name, email) VALUES ('Bruno', 'b@mail.example')",
            "INSERT INTO product (customer_id, name, category, price) VALUES (1, 'Lamp', 'home', 20), \
             (1, '6\" Pan', 'home', 1234567890.1)",
            "INSERT INTO \"transaction\" (buyer_id, customer_id, transaction_date, total_amount) VALUES \
             (1, 1, '2026-01-31 12:00:00.500', 20.05), (1, 1, '2026-01-31 12:00:01.000', 0)",
            "INSERT INTO transactiondetail (transaction_id, product_id, quantity, unit_price) VALUES (1, 2, 1, 0.05), \
             (1, 1, 2, 10)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
        let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
            "SELECT transaction_id, customer_name, buyer_email, items FROM transaction_events ORDER BY transaction_id",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let items = "[{\"product_id\":2,\"product_name\":\"6\\\" Pan\",\"category\":\"home\",\"quantity\":1,\
                     \"unit_price\":0.05,\"product_price\":1234567890.10},{\"product_id\":1,\"product_name\":\"Lamp\",\
                     \"category\":\"home\",\"quantity\":2,\"unit_price\":10.00,\"product_price\":20.00}]";
        let row = |id, items: &str| (id, "Ana".to_owned(), "b@mail.example".to_owned(), items.to_owned());
        assert_eq!(rows, [row(1, items), row(2, "[]")]);
    }
}
