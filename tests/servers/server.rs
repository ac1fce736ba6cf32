//! A PostgreSQL or Redis that a script starts in a temporary folder on a free port.
#![allow(dead_code, reason = "no test target uses all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

#[allow(clippy::duplicate_mod, reason = "a test target may use one kind of server without the other")]
#[path = "ports.rs"]
mod ports;

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
        let port = ports::free_ports(1);
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

    /// Ends all its processes at once, as when the machine runs out of memory.
    pub fn kill(&self) {
        let file = if self.script.starts_with("postgres") { "data/postmaster.pid" } else { "redis.pid" };
        let pid_file = self.dir().join(file);
        let text = std::fs::read_to_string(&pid_file).unwrap();
        let server = text.lines().next().unwrap().trim();
        // Stopped first, so that none of its children is started meanwhile.
        signal("-STOP", &[server]);
        let children = Command::new("pgrep").args(["-P", server]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        signal("-KILL", &[children.lines().collect::<Vec<_>>().as_slice(), &[server]].concat());
        while Path::new("/proc").join(server).join("cwd").exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Until its parent has heard of its end, its number is taken, and a new server would think that it is alive.
        std::fs::remove_file(pid_file).unwrap();
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

fn signal(name: &str, pids: &[&str]) {
    // A process may be gone by itself in the meantime.
    let _ = Command::new("kill").arg(name).args(pids).status().unwrap();
}
