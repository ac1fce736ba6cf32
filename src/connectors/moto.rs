//! For tests: moto, a server that speaks S3, which `scripts/moto.sh install` brings.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server of its own, ended with the test.
pub(crate) struct Moto {
    server: Child,
    port: u16,
}

impl Moto {
    /// One that looks at keys after so many requests; before, anyone may do anything.
    pub(crate) fn start(unchecked: Option<u32>) -> Moto {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/moto.sh");
        let installed = Command::new(script).arg("install").stderr(Stdio::inherit()).output().unwrap();
        assert!(installed.status.success(), "moto cannot be installed");
        let program = String::from_utf8(installed.stdout).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program.trim());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(unchecked) = unchecked {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked.to_string());
        }
        let moto = Moto { server: command.spawn().unwrap(), port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "moto does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        moto
    }

    /// Makes `bucket`.
    pub(crate) fn make_bucket(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = "PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The access to it, by object_store's names.
    pub(crate) fn access(&self) -> [(String, String); 5] {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let settings = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "key-of-the-test"),
            ("aws_secret_access_key", "secret-of-the-test"),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned()))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
