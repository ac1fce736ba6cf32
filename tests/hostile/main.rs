//! Bad input, through the binary: records, topics, addresses and folders that are not what they should be. Each is
//! met with a message that says so, nothing panics, and good rows before and after bad ones arrive.

#[path = "../servers/kafka.rs"]
mod kafka;
#[path = "../servers/pipeline.rs"]
mod pipeline;

mod folders;
mod records;
mod servers;

use std::path::Path;
use std::process::{Command, Output};

use pipeline::acequia;
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    place
}

/// The binary in `place`, with these arguments.
fn command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = acequia();
    command.current_dir(place).args(arguments);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of a file.
fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}
