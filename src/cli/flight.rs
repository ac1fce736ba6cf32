//! The options of the Flight SQL server, and its start, by itself or beside a run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::parse;
use crate::console::FlightFigures;
use crate::flight::access::{Access, User};
use crate::flight::bind::{Guard, bind};
use crate::flight::secrets::Secret;
use crate::flight::tls::TlsFiles;
use crate::flight::{FlightServer, QueryLimits};
use crate::history::History;
use crate::history::live::LiveTables;

/// The variable that holds the password of the only user.
const PASSWORD_VARIABLE: &str = "ACEQUIA_FLIGHT_PASSWORD";
/// The variable that holds a token.
const TOKEN_VARIABLE: &str = "ACEQUIA_FLIGHT_TOKEN";

/// Who may ask by Flight SQL, and what a query may use.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Flight SQL")]
pub struct FlightArguments {
    /// A user who may log in, with the password in --password-file, or in ACEQUIA_FLIGHT_PASSWORD; repeat both for more
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,

    /// The file with the user's password, which only its owner may read
    #[arg(long = "password-file", value_name = "FILE")]
    password_files: Vec<PathBuf>,

    /// A file with a token that lets in without a login, which only its owner may read; or ACEQUIA_FLIGHT_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Encrypt, with the server's certificate and those that it needs, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Let in only clients with a certificate that one of these authorities has signed, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Stop a query after this time, which counts what its client needs to read it
    #[arg(long, value_name = "TIME", env = "ACEQUIA__FLIGHT__QUERY_TIMEOUT", default_value = "10m",
          value_parser = parse::duration)]
    query_timeout: Duration,

    /// Queries at work at a time
    #[arg(long, value_name = "N", env = "ACEQUIA__FLIGHT__MAX_QUERIES", default_value = "32",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_queries: u32,
}

/// Where to listen.
pub struct Listening {
    /// The address.
    pub address: SocketAddr,
    /// The option that names another.
    pub option: &'static str,
    /// Whether the user vouches for the network.
    pub insecure: bool,
}

/// What can be asked.
pub struct Asked {
    /// What is kept, with what is not kept yet.
    pub history: History,
    /// The latter, to list it.
    pub live: Arc<dyn LiveTables>,
    /// Counts.
    pub figures: Arc<FlightFigures>,
}

/// A server that listens and does not answer yet.
pub struct Begun {
    server: FlightServer,
    listener: TcpListener,
}

impl FlightArguments {
    /// Begins to listen, and says where.
    ///
    /// # Errors
    /// Why it cannot, for a person.
    pub async fn begin(&self, listening: Listening, asked: Asked) -> Result<Begun, String> {
        let access = self.access(Arc::clone(&asked.figures))?;
        let files = self.tls_cert.clone().zip(self.tls_key.clone()).map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_authority: self.tls_client_ca.clone(),
        });
        let tls = files.as_ref().map(TlsFiles::read).transpose().map_err(|error| error.to_string())?;
        let asks = access.asks() || self.tls_client_ca.is_some();
        let guard = Guard { asks, encrypts: tls.is_some(), insecure: listening.insecure };
        let listener = bind(listening.address, listening.option, guard).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let scheme = if tls.is_some() { "grpc+tls" } else { "grpc" };
        let open = if asks { "" } else { ", for everybody on this machine" };
        tracing::info!("Flight SQL on {scheme}://{address}{open}");
        let Asked { history, live, figures } = asked;
        let server = FlightServer {
            history: Arc::new(history),
            live: Some(live),
            access: Arc::new(access),
            tls,
            limits: QueryLimits { queries: self.max_queries as usize, patience: self.query_timeout },
            figures,
        };
        Ok(Begun { server, listener })
    }

    fn access(&self, figures: Arc<FlightFigures>) -> Result<Access, String> {
        let passwords = self.passwords(variable(PASSWORD_VARIABLE))?;
        let users = self.users.iter().zip(passwords).map(|(name, password)| User { name: name.clone(), password });
        let mut tokens = vec![];
        if let Some(path) = &self.token_file {
            let token = Secret::from_file(path).and_then(|secret| secret.token(&path.display().to_string()));
            tokens.push(token.map_err(|error| error.to_string())?);
        }
        if let Some(token) = variable(TOKEN_VARIABLE) {
            let token = Secret::from_text(&token, TOKEN_VARIABLE).and_then(|secret| secret.token(TOKEN_VARIABLE));
            tokens.push(token.map_err(|error| error.to_string())?);
        }
        Ok(Access::new(users.collect(), tokens, figures))
    }

    /// The password of each user.
    fn passwords(&self, variable: Option<String>) -> Result<Vec<Secret>, String> {
        if let Some(name) = self.users.iter().find(|name| name.is_empty() || name.contains(':')) {
            return Err(format!("--user {name:?}: a name has at least one character, and no ':'"));
        }
        match (self.users.len(), self.password_files.len(), variable) {
            (0, 0, Some(_)) => Err(format!("{PASSWORD_VARIABLE} is set, and nobody is named who has it: add --user")),
            (1, 0, Some(text)) => {
                Ok(vec![Secret::from_text(&text, PASSWORD_VARIABLE).map_err(|error| error.to_string())?])
            }
            (1, 0, None) => Err(format!("--user needs a password: add --password-file, or set {PASSWORD_VARIABLE}")),
            (users, files, _) if users != files => Err(format!(
                "--user and --password-file go together, one file for each user: there are {users} and {files}"
            )),
            _ => {
                let secrets = self.password_files.iter().map(|path| Secret::from_file(path));
                secrets.collect::<Result<_, _>>().map_err(|error| error.to_string())
            }
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Begun {
    /// Answers until `drain`, after which only queries at work go on, and these until `abort`.
    ///
    /// # Errors
    /// Why it cannot, for a person.
    pub async fn serve(self, drain: CancellationToken, abort: CancellationToken) -> Result<(), String> {
        self.server.serve(self.listener, drain, abort).await.map_err(|error| error.to_string())
    }

    /// Answers on threads of its own, so that queries do not keep a pipeline's tasks from theirs: until `drain`, and for
    /// those at work until what is returned is dropped.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn beside(self, threads: usize, drain: CancellationToken) -> std::io::Result<Beside> {
        let Begun { server, listener } = self;
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("acequia-flight")
            // As the run's own: plans are deep.
            .thread_stack_size(8 << 20)
            .enable_all()
            .build()?;
        let abort = CancellationToken::new();
        let ended = abort.clone();
        let thread = std::thread::Builder::new().name("acequia-flight".into()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
                Begun { server, listener }.serve(drain, ended).await
            });
            if let Err(error) = served {
                tracing::error!("{error}");
            }
            runtime.shutdown_background();
        })?;
        Ok(Beside { abort, thread: Some(thread) })
    }
}

/// A server beside a run. Dropped, it ends.
pub struct Beside {
    abort: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.abort.cancel();
        if let Some(thread) = self.thread.take() {
            // It takes a second at most; a panic in it has been shown already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flight: FlightArguments,
    }

    fn passwords(arguments: &[&str], variable: Option<&str>) -> Result<usize, String> {
        let line = Line::try_parse_from([&["acequia"][..], arguments].concat()).unwrap();
        line.flight.passwords(variable.map(str::to_owned)).map(|all| all.len())
    }

    #[test]
    fn every_user_has_a_password() {
        assert_eq!(passwords(&[], None), Ok(0));
        assert_eq!(passwords(&["--user", "ana"], Some("secret")), Ok(1));
        for (arguments, variable, said) in [
            (&["--user", "ana"][..], None, "add --password-file, or set ACEQUIA_FLIGHT_PASSWORD"),
            (&[], Some("secret"), "nobody is named who has it: add --user"),
            (&["--password-file", "f"], None, "there are 0 and 1"),
            (&["--user", "a", "--user", "b", "--password-file", "f"], None, "there are 2 and 1"),
            (&["--user", "a:b", "--password-file", "f"], None, "no ':'"),
            (&["--user", "a", "--password-file", "/no/such"], None, "cannot read /no/such"),
        ] {
            let refused = passwords(arguments, variable).unwrap_err();
            assert!(refused.contains(said), "{arguments:?}: {refused}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        for arguments in [["--tls-cert", "c"], ["--tls-key", "k"], ["--tls-client-ca", "a"]] {
            assert!(Line::try_parse_from([&["acequia"][..], &arguments].concat()).is_err(), "{arguments:?}");
        }
    }
}
