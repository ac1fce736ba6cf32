//! A disk that is full, and one that cannot be written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::trial::{Servers, Trial, assert_clean, exit_code};

const PER_SECOND: u64 = 500;

/// A small file system in memory, unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    pub fn mount(path: &Path, options: &str) -> SmallDisk {
        std::fs::create_dir_all(path).unwrap();
        let disk = SmallDisk { path: path.to_owned() };
        disk.run("mount", &["-t", "tmpfs", "-o", options, "acequia-faults"]);
        disk
    }

    fn remount(&self, options: &str) {
        self.run("mount", &["-o", &format!("remount,{options}")]);
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path.join("filler")).unwrap();
        // Down to the last byte: a small file must not fit either.
        while file.write(&[0; 4096]).is_ok() {}
        while file.write(&[0]).is_ok() {}
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path.join("filler")).unwrap();
    }

    /// Runs a command on it, with sudo if this is not root.
    fn run(&self, program: &str, arguments: &[&str]) {
        let attempt = |mut command: Command| command.args(arguments).arg(&self.path).output().unwrap();
        let output = attempt(Command::new(program));
        if output.status.success() {
            return;
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", program]);
        let again = sudo.args(arguments).arg(&self.path).status();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(again.is_ok_and(|status| status.success()), "this test needs the right to mount a disk: {words}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.run("umount", &["-l"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for_and_loses_nothing() {
    let servers = Servers::shared();
    let trial = Trial::new(&servers, Ledger { seed: 21, partitions: 2 }).await;
    let disk = SmallDisk::mount(&trial.checkpoints(), "size=64m");
    let feed = trial.feed(0..u64::MAX, PER_SECOND);
    let mut pipeline = trial.start();
    trial.until_rows(&mut pipeline, "events", 100).await;
    for _ in 0..2 {
        disk.fill();
        let said = pipeline.said().len();
        until_said_after(&mut pipeline, said, "waiting to write").await;
        let line = pipeline.said()[said..].lines().find(|line| line.contains("waiting to write")).unwrap().to_owned();
        assert!(line.contains("No space left") && line.contains("checkpoints"), "{line}");
        // What is not durable is not delivered either.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rows = trial.rows_in("events").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(trial.rows_in("events").await, rows, "rows of an epoch that is not durable");
        disk.make_room();
        trial.until_rows(&mut pipeline, "events", rows + 100).await;
    }
    // It dies while there is no room, and begins while there is none.
    disk.fill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    pipeline.kill();
    let mut pipeline = trial.start();
    until_said_after(&mut pipeline, 0, "waiting to write").await;
    assert!(pipeline.said().contains("No space left on device"), "{}", pipeline.said());
    disk.make_room();
    let rows = trial.rows_in("events").await;
    trial.until_rows(&mut pipeline, "events", rows + 100).await;
    pipeline.signal("-TERM");
    assert_eq!(exit_code(&mut pipeline).await, Some(0), "{}", pipeline.said());
    let count = feed.stop().await;
    assert_clean("a full disk", &trial.finish(count).await);
}

async fn until_said_after(pipeline: &mut Pipeline, from: usize, words: &str) {
    let before = pipeline.said()[..from].to_owned();
    for _ in 0..600 {
        if pipeline.said()[from..].contains(words) {
            return;
        }
        assert!(!pipeline.has_ended(), "{}", pipeline.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not say '{words}':\n{before}\n-- since then:\n{}", &pipeline.said()[from..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_an_error_and_not_a_wait() {
    let servers = Servers::shared();
    let trial = Trial::new(&servers, Ledger { seed: 22, partitions: 2 }).await;
    let disk = SmallDisk::mount(&trial.checkpoints(), "size=16m");
    disk.remount("ro");
    let mut pipeline = trial.start();
    let code = exit_code(&mut pipeline).await;
    let said = pipeline.said().to_owned();
    assert_eq!(code, Some(3), "{said}");
    let place = trial.checkpoints().display().to_string();
    assert!(said.contains(&place) && said.contains("Read-only file system"), "{said}");

    disk.remount("rw");
    let count = trial.feed(0..1000, 1000).all().await;
    assert_clean("a read-only disk", &trial.finish(count).await);
}
