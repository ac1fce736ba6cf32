//! The binary at work, watched from outside.
#![allow(dead_code, reason = "no test target uses all of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A data folder of its own for each run: two runs of one pipeline at a time would be one too many.
fn data_folder() -> std::path::PathBuf {
    static RUNS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("data-{}-{run}", std::process::id()))
}

/// The binary in the root of the sources, without what the surroundings of the test may say.
pub fn acequia() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_acequia"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("NO_COLOR", "1").stdin(Stdio::null());
    command.env("ACEQUIA__RUN__DATA_DIR", data_folder());
    for variable in [
        "KAFKA_BROKERS",
        "REDIS_URL",
        "DWH_URL",
        "SHOP_URL",
        "CRM_URL",
        "DEAD_LETTERS",
        "RUST_LOG",
        "ACEQUIA_PAGE_TOKEN",
    ] {
        command.env_remove(variable);
    }
    command
}

/// A running pipeline; ended with the test.
pub struct Pipeline {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Pipeline {
    /// Starts what the command says; its stdout is not looked at.
    pub fn start(mut command: Command) -> Pipeline {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = channel();
        std::thread::spawn(move || said.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Pipeline { child, lines, said: String::new() }
    }

    /// Waits up to a minute for a line on stderr that holds `word`, and gives it. Lines before it are passed over.
    pub fn until(&mut self, word: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { panic!("no '{word}' in\n{}", self.said()) };
            self.keep(&line);
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Everything on stderr so far.
    pub fn said(&mut self) -> &str {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(&line);
        }
        &self.said
    }

    /// The rest of what a process says that has ended: its last lines may still be on their way.
    fn hear_out(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
            self.keep(&line);
        }
    }

    fn keep(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.hear_out();
    }

    /// Waits for its end, up to 40 s.
    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(40);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.hear_out();
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running: {}", self.said())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What the console answers. Its address must have been said.
    pub fn get(&mut self, path: &str) -> String {
        let (_, rest) = self.said().split_once("http://").expect("the console's address");
        let address = rest.split('/').next().unwrap_or_default().to_owned();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A figure of the metrics, such as `acequia_rows_read_total{table="transactions"}`; 0 if it is not there.
    pub fn figure(&mut self, name: &str) -> u64 {
        let metrics = self.get("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
