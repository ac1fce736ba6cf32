//! Which rows may still come below a cursor that is already visible.
//!
//! A sequence gives its numbers in order, but transactions commit in another: 6 may be there and 5 not yet. Who reads on
//! from 6 would miss 5. So a reader that has seen the highest cursor M looks next who holds a `ROW EXCLUSIVE` lock on the
//! table, and reads up to M when all of *those* transactions are over. That is enough:
//!
//! - A number below M was given before M's, and M's before M was seen.
//! - An INSERT takes the lock before it asks for the number (when it is parsed; through a partitioned table on that one,
//!   and on the partition later), and keeps it to the end of its transaction. So a transaction with a lower number
//!   either holds the lock when the reader looks, or is over.
//! - A transaction gives its locks back after it has become visible. When its lock is gone, its rows are there, or it was
//!   rolled back and they never will be.
//!
//! Those who come later have higher numbers and are not waited for; nor are those who only read, such as `pg_dump`, or
//! vacuum. Without writers nobody waits.
//!
//! The rule ends where a number is older than the lock, and then a row can be missed: an application that takes numbers
//! from the sequence ahead of the INSERT, or makes them itself; `setval` backwards; rows that are changed so that a view
//! shows them only later. Three such cases the catalog gives away, and they are refused: a sequence with a CACHE, whose
//! sessions keep blocks of numbers; several sequences for one column; a table that a subscription fills. A server that
//! loses what it had committed (a failover to a standby that lags, a crash with `synchronous_commit = off`) may give
//! numbers again that were read already, as with every reader of this kind.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{Error, PgConnection};
use tokio::time::Instant;

use crate::connectors::sql_table::SqlName;
use crate::faults::{Bug, planted};

/// How long to wait before looking again whether the writers are done: short at first, most transactions are.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A transaction that is open for so long is told, and again each time that long after.
const PATIENCE: Duration = Duration::from_secs(30);

/// The transactions that write to a table, and to what it is a part of, and to its parts.
const WRITERS: &str = "\
    WITH RECURSIVE above (oid) AS ( \
        SELECT $1::oid UNION SELECT i.inhparent FROM pg_inherits i JOIN above ON i.inhrelid = above.oid \
    ), below (oid) AS ( \
        SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid \
    ) \
    SELECT DISTINCT l.virtualtransaction, l.pid FROM pg_locks l \
    WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted \
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
      AND l.relation IN (SELECT oid FROM above UNION SELECT oid FROM below)";

/// The sequences that give a column of a table, or of a part of it, its numbers.
const SEQUENCES: &str = "\
    WITH RECURSIVE below (oid) AS ( \
        SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid \
    ), columns AS ( \
        SELECT a.attrelid, a.attnum FROM pg_attribute a JOIN below ON below.oid = a.attrelid \
        WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attname = $2 \
    ) \
    SELECT s.oid::regclass::text, q.seqcache, q.seqincrement FROM pg_sequence q JOIN pg_class s ON s.oid = q.seqrelid \
    WHERE q.seqrelid IN ( \
        SELECT d.objid FROM pg_depend d JOIN columns c ON d.refobjid = c.attrelid AND d.refobjsubid = c.attnum \
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' \
        UNION \
        SELECT d.refobjid FROM columns c JOIN pg_attrdef f ON f.adrelid = c.attrelid AND f.adnum = c.attnum \
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid \
        WHERE d.refclassid = 'pg_class'::regclass) \
    ORDER BY 1";

/// The table whose writers are waited for.
#[derive(Clone, Debug)]
pub(super) struct Writers {
    table: SqlName,
    oid: i64,
}

/// A transaction that holds the lock. A prepared one has no process, and another number than before.
type Writer = (String, Option<i32>);

impl Writers {
    /// Looks the table up, and checks that the rule holds for its column `cursor`; or says why it does not.
    pub(super) async fn of(
        connection: &mut PgConnection,
        table: &SqlName,
        cursor: &str,
    ) -> Result<Result<Writers, String>, Error> {
        let found: Option<(i64, String)> =
            sqlx::query_as("SELECT oid::bigint, relkind::text FROM pg_class WHERE oid = to_regclass($1)")
                .bind(table.quoted())
                .fetch_optional(&mut *connection)
                .await?;
        let (oid, kind) = match found {
            None => return Ok(Err(format!("there is no table {table}, whose writers are to be waited for"))),
            Some(found) => found,
        };
        if let "v" | "m" = kind.as_str() {
            let below = tables_of_view(connection, oid).await?;
            return Ok(Err(format!(
                "{table} is a view, into which nobody inserts: name the table whose INSERTs give {cursor} in \
                 'cursor_table'; the view reads {}",
                if below.is_empty() { "no table".into() } else { below.join(", ") }
            )));
        }
        if kind != "r" && kind != "p" {
            return Ok(Err(format!("{table} is no table of this database: read it where its rows are inserted")));
        }
        let (is_subscribed,): (bool,) =
            sqlx::query_as("SELECT EXISTS (SELECT 1 FROM pg_subscription_rel WHERE srrelid = $1::oid)")
                .bind(oid)
                .fetch_one(&mut *connection)
                .await?;
        if is_subscribed {
            return Ok(Err(format!(
                "{table} is filled by a subscription, by the order of commits and not of {cursor}: read it where its \
                 rows are inserted"
            )));
        }
        let sequences: Vec<(String, i64, i64)> =
            sqlx::query_as(SEQUENCES).bind(oid).bind(cursor).fetch_all(&mut *connection).await?;
        Ok(disorder(&sequences, cursor).map_or(Ok(Writers { table: table.clone(), oid }), Err))
    }

    /// The number of the table in the catalog.
    pub(super) fn oid(&self) -> i64 {
        self.oid
    }

    /// Returns when all who write now are done. Each answer may take as long as `timeout`; `what` names the reader in
    /// the log.
    pub(super) async fn finish(
        &self,
        connection: &mut PgConnection,
        timeout: Duration,
        what: &str,
    ) -> Result<(), Error> {
        let mut waited_for = self.now(connection, timeout).await?;
        if planted(Bug::WritersNotAwaited) {
            waited_for.clear();
        }
        let (began, mut pause, mut told) = (Instant::now(), FIRST_PAUSE, PATIENCE);
        while !waited_for.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let now = self.now(connection, timeout).await?;
            waited_for = still(&waited_for, &now);
            if began.elapsed() >= told && !waited_for.is_empty() {
                told += PATIENCE;
                tracing::warn!("{}", self.told(&waited_for, what, began.elapsed()));
            }
        }
        Ok(())
    }

    async fn now(&self, connection: &mut PgConnection, timeout: Duration) -> Result<BTreeSet<Writer>, Error> {
        let asked = sqlx::query_as(WRITERS).bind(self.oid).fetch_all(connection);
        let silence = |_| Error::Io(std::io::ErrorKind::TimedOut.into());
        let writers: Vec<Writer> = tokio::time::timeout(timeout, asked).await.map_err(silence)??;
        Ok(writers.into_iter().collect())
    }

    fn told(&self, writers: &BTreeSet<Writer>, what: &str, waited: Duration) -> String {
        let name = |(transaction, process): &Writer| match process {
            Some(process) => format!("process {process}"),
            None => format!("prepared transaction {transaction}"),
        };
        let names: Vec<String> = writers.iter().map(name).collect();
        format!(
            "{what}: its newest rows have waited {} s for transactions that write to {} and do not end: {}",
            waited.as_secs(),
            self.table,
            names.join(", ")
        )
    }
}

/// Who of `before` is still there. One that has been prepared since goes by a new name: so as soon as one is gone, all
/// prepared ones that were not there before are waited for in its place.
fn still(before: &BTreeSet<Writer>, now: &BTreeSet<Writer>) -> BTreeSet<Writer> {
    let one_is_gone = before.iter().any(|writer| writer.1.is_some() && !now.contains(writer));
    now.iter().filter(|writer| before.contains(*writer) || (one_is_gone && writer.1.is_none())).cloned().collect()
}

/// Why numbers of these sequences (name, CACHE, INCREMENT) are not in the order of insertion.
fn disorder(sequences: &[(String, i64, i64)], cursor: &str) -> Option<String> {
    if let Some((name, cache, _)) = sequences.iter().find(|(_, cache, _)| *cache > 1) {
        return Some(format!(
            "sequence {name}, which gives {cursor}, has CACHE {cache}: a session keeps a block of numbers and can insert a \
             lower one long after a higher one is there, so that rows would be missed. Run ALTER SEQUENCE {name} CACHE 1 \
             and let its writers connect anew"
        ));
    }
    if let Some((name, _, _)) = sequences.iter().find(|(_, _, increment)| *increment < 0) {
        return Some(format!("sequence {name}, which gives {cursor}, counts downwards"));
    }
    if sequences.len() > 1 {
        let names: Vec<&str> = sequences.iter().map(|(name, _, _)| name.as_str()).collect();
        return Some(format!(
            "{cursor} is given by several sequences ({}), which know no common order",
            names.join(", ")
        ));
    }
    None
}

async fn tables_of_view(connection: &mut PgConnection, view: i64) -> Result<Vec<String>, Error> {
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT DISTINCT c.oid::regclass::text FROM pg_rewrite r \
         JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
              AND d.refclassid = 'pg_class'::regclass \
         JOIN pg_class c ON c.oid = d.refobjid AND c.oid <> r.ev_class \
         WHERE r.ev_class = $1::oid ORDER BY 1",
    )
    .bind(view)
    .fetch_all(connection)
    .await?;
    Ok(tables.into_iter().map(|(name,)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[(&str, Option<i32>)]) -> BTreeSet<Writer> {
        names.iter().map(|(name, process)| ((*name).to_owned(), *process)).collect()
    }

    #[test]
    fn those_who_come_later_are_not_waited_for() {
        let before = writers(&[("3/1", Some(10)), ("4/7", Some(11))]);
        let now = writers(&[("3/1", Some(10)), ("4/8", Some(11)), ("5/1", Some(12))]);
        assert_eq!(still(&before, &now), writers(&[("3/1", Some(10))]));
        assert_eq!(still(&before, &writers(&[("4/8", Some(11))])), writers(&[]));
    }

    #[test]
    fn one_that_is_prepared_meanwhile_is_still_waited_for() {
        let before = writers(&[("3/1", Some(10)), ("-1/700", None)]);
        let now = writers(&[("-1/700", None), ("-1/701", None), ("3/2", Some(10))]);
        let left = still(&before, &now);
        assert_eq!(left, writers(&[("-1/700", None), ("-1/701", None)]));
        // Nobody of those can be prepared any more.
        assert_eq!(still(&left, &writers(&[("-1/701", None), ("-1/702", None)])), writers(&[("-1/701", None)]));
    }

    #[test]
    fn numbers_out_of_order_are_told() {
        let of = |sequences: &[(&str, i64, i64)]| {
            let sequences: Vec<_> = sequences.iter().map(|(name, a, b)| ((*name).to_owned(), *a, *b)).collect();
            disorder(&sequences, "id").unwrap_or_default()
        };
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[("s", 1, 1)]), "");
        assert_eq!(
            of(&[("s", 20, 1)]),
            "sequence s, which gives id, has CACHE 20: a session keeps a block of numbers and can insert a lower one \
             long after a higher one is there, so that rows would be missed. Run ALTER SEQUENCE s CACHE 1 and let its \
             writers connect anew"
        );
        assert_eq!(of(&[("s", 1, -1)]), "sequence s, which gives id, counts downwards");
        assert_eq!(
            of(&[("s", 1, 1), ("t", 1, 1)]),
            "id is given by several sequences (s, t), which know no common order"
        );
    }

    #[test]
    fn a_writer_that_does_not_end_is_named() {
        let table = SqlName { schema: Some("shop".into()), name: "orders".into() };
        let told = Writers { table, oid: 1 }.told(
            &writers(&[("-1/7", None), ("3/1", Some(10))]),
            "PostgreSQL table orders",
            Duration::from_secs(31),
        );
        assert_eq!(
            told,
            "PostgreSQL table orders: its newest rows have waited 31 s for transactions that write to shop.orders and do \
             not end: prepared transaction -1/7, process 10"
        );
    }
}
