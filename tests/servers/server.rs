//! A PostgreSQL or Redis that a script starts in a temporary folder on a free port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A server that a script started; stopped when dropped.
pub struct Server {
    script: &'static str,
    folder: TempDir,
    pub port: u16,
}

impl Server {
    /// Has a folder and a port, but does not run yet.
    pub fn new(script: &'static str) -> Server {
        let folder = TempDir::new().unwrap();
        // PostgreSQL runs as another user.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Server { script, folder, port }
    }

    /// Starts it and gives its URL.
    pub fn start(&self, more: &[&str]) -> String {
        let port = self.port.to_string();
        let mut arguments = vec!["--port", &port];
        arguments.extend(more);
        self.run("start", &arguments)
    }

    /// Stops it; what it holds on disk stays.
    pub fn stop(&self) {
        self.run("stop", &[]);
    }

    fn run(&self, action: &str, more: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(self.script);
        let mut command = Command::new(script);
        command.arg(action).arg("--dir").arg(self.dir()).args(more);
        // Stops like a crash; what is lost when the machine itself goes down is not tested here.
        command.env("PG_STOP_MODE", "immediate").env("PG_OPTIONS", "-c fsync=off");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.dir().exists() {
            self.stop();
        }
    }
}
