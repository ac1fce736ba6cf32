//! A PostgreSQL or Redis that a script starts in a temporary folder on a free port.
#![allow(dead_code, reason = "no test target uses all of it")]

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

    /// Ends a PostgreSQL with all its processes by SIGKILL; it can be started again.
    pub fn kill_postgres(&self) {
        let pid_file = self.dir().join("data/postmaster.pid");
        let pid = std::fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        // First the parent, which would otherwise start to recover. A child may have ended with it.
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        let _ = Command::new("kill").arg("-9").args(children.split_whitespace()).output().unwrap();
        // Where nobody reaps the dead, the next one would take it for alive.
        std::fs::remove_file(pid_file).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
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
        if std::thread::panicking() {
            // A second panic would end the process, and all other servers would be left running.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop()));
        } else if self.dir().exists() {
            self.stop();
        }
    }
}
