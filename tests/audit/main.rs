//! `acequia audit` on what the binary has written to real servers and files: complete as long as nobody touches it, and
//! every row that is lost, there twice or changed behind its back is told.

#[path = "../servers/kafka.rs"]
mod cluster;
mod damage;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod running;
#[path = "../servers/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

use pipeline::acequia;
use server::Server;

/// The columns of every table here: with what destinations hold each in their own way.
const COLUMNS: &str = "id BIGINT, name TEXT, price DECIMAL(12, 2), share DOUBLE, ts TIMESTAMP, yes BOOLEAN";

/// A folder of SQL and what its runs leave behind.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(sql: impl FnOnce(&Path) -> String) -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("queries")).unwrap();
        let place = Place { folder };
        std::fs::write(place.path("queries/all.sql"), sql(place.folder.path())).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = acequia();
        command.arg(arguments[0]).arg(self.path("queries")).args(&arguments[1..]);
        command.args(["--name", "audited", "--data-dir"]).arg(self.path("data"));
        command
    }

    /// A run to the end of the input.
    fn run(&self) {
        let output = self.command(&["run", "--bounded", "--no-http"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn audit(&self, more: &[&str]) -> Output {
        self.command(&[&["audit"], more].concat()).output().unwrap()
    }

    /// The exit code, and what is found about a sink.
    fn finding(&self, sink: &str) -> (Option<i32>, Value) {
        let output = self.audit(&["--format", "json"]);
        let said = String::from_utf8_lossy(&output.stdout);
        let found: Vec<Value> = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        let finding = found.iter().find(|finding| finding["sink"] == sink);
        (output.status.code(), finding.unwrap_or_else(|| panic!("no {sink} in {said}")).clone())
    }

    /// That a sink is found wrong, in these words, and nothing else is.
    fn assert_told(&self, sink: &str, damage: &str, message: &str) {
        let (code, finding) = self.finding(sink);
        assert_eq!((code, finding["message"].as_str()), (Some(1), Some(message)), "{sink}: {damage}");
    }

    /// That all is as it must be.
    fn assert_right(&self, after: &str) {
        let output = self.audit(&[]);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{after}: {said}");
    }

    async fn sqlite(&self, file: &str, statement: &str) {
        let url = format!("sqlite://{}?mode=rwc", self.path(file).display());
        let mut client = SqliteConnection::connect(&url).await.unwrap();
        client.execute(AssertSqlSafe(statement)).await.unwrap();
        client.close().await.unwrap();
    }
}

/// A PostgreSQL of one's own.
struct Postgres {
    _server: Server,
    url: String,
}

impl Postgres {
    fn start() -> Postgres {
        let server = Server::new("postgres.sh");
        server.start(&[]);
        let url = format!("postgres://postgres:s3cret@127.0.0.1:{}/postgres", server.port);
        Postgres { _server: server, url }
    }

    async fn run(&self, statement: &str) {
        let mut client = PgConnection::connect(&self.url).await.unwrap();
        client.execute(AssertSqlSafe(statement)).await.unwrap();
    }
}

fn table(name: &str, options: &str) -> String {
    format!("CREATE TABLE {name} ({COLUMNS}) WITH ({options});\n")
}
