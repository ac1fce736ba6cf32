//! The warehouse's tables, made and brought up to date by the migrations in `migrations/warehouse/`.
//!
//! What has been applied is written down in `_acequia_migrations`, so that an application's own sqlx migrations in
//! the same database are left alone. Running them again, or from two processes at once, changes nothing.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlSafeStr, SqliteConnection};

fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = migrations
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name("_acequia_migrations");
    migrator
}

/// Brings the warehouse in PostgreSQL up to date. Other processes wait for their turn at an advisory lock.
///
/// # Errors
/// When the database does not let us, or was migrated by another version.
pub async fn migrate_postgres(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let sql = include_str!("../../../migrations/warehouse/postgres/0001_warehouse.sql");
    migrator(&[(1, "warehouse", sql)]).run_direct(None, connection, false).await
}

/// Brings the warehouse in SQLite up to date. Other processes wait at the file's write lock.
///
/// # Errors
/// As for [`migrate_postgres`].
pub async fn migrate_sqlite(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let sql = include_str!("../../../migrations/warehouse/sqlite/0001_warehouse.sql");
    // sqlx has no lock of its own for SQLite.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrator(&[(1, "warehouse", sql)]).run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(())
}
