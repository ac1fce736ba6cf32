//! Who may ask: those who log in by name and password and get a token for it, and those who were given a token.
//!
//! Without users and tokens everybody may, which [`bind`](super::bind) allows on loopback only.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use tonic::metadata::MetadataMap;

use super::handles::Handles;
use super::secrets::Secret;
use crate::console::{FlightFigures, equal, random_token};

/// A token that a login has given is good until it has not been used for so long: drivers keep one for a whole pool of
/// connections and do not log in again.
const TOKEN_REST: Duration = Duration::from_secs(3600);
/// Logins that are remembered at a time.
const MOST_TOKENS: usize = 10_000;
/// So many wrong passwords of an address cost no time.
const FREE_FAILURES: u32 = 3;
/// What the next one costs; each further one twice that.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(8);
/// Failures are forgotten after so long without another.
const FAILURE_REST: Duration = Duration::from_secs(600);
const MOST_ADDRESSES: usize = 10_000;
/// So many logins may wait for their turn at a time.
const MOST_WAITING: usize = 32;

/// A user, by name and password.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// Who may ask, and who has logged in.
pub struct Access {
    users: Vec<User>,
    tokens: Vec<Secret>,
    logins: Mutex<Handles<String, ()>>,
    failures: Mutex<Handles<IpAddr, u32>>,
    waiting: Semaphore,
    figures: Arc<FlightFigures>,
}

/// What somebody has shown who may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// Nothing was asked, or a good token was shown.
    Known,
    /// Name and password were right: the token to show from now on.
    LoggedIn(Arc<str>),
}

impl Access {
    /// For those users and the holders of those tokens; for everybody when there are none.
    pub fn new(users: Vec<User>, tokens: Vec<Secret>, figures: Arc<FlightFigures>) -> Access {
        Access {
            users,
            tokens,
            logins: Mutex::new(Handles::new(MOST_TOKENS, TOKEN_REST)),
            failures: Mutex::new(Handles::new(MOST_ADDRESSES, FAILURE_REST)),
            waiting: Semaphore::new(MOST_WAITING),
            figures,
        }
    }

    /// Whether one has to log in or to show a token.
    pub fn asks(&self) -> bool {
        !self.users.is_empty() || !self.tokens.is_empty()
    }

    /// Whether a request with these headers from `peer` may be answered. Passwords are looked at the more slowly, the
    /// more of them were wrong.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn admit(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Admitted, Status> {
        let shown = headers.get(AUTHORIZATION);
        if !self.asks() {
            // A driver that was given a name and a password wants a token for them, whether it is needed or not.
            let wants = shown.is_some_and(|shown| scheme(shown, "Basic").is_some());
            return if wants { Ok(Admitted::LoggedIn(made_up()?)) } else { Ok(Admitted::Known) };
        }
        let Some(shown) = shown else {
            return Err(Status::unauthenticated("log in: this server asks for a user and a password, or a token"));
        };
        if let Some(token) = scheme(shown, "Bearer") {
            return self.admit_token(token);
        }
        match scheme(shown, "Basic").and_then(name_and_password) {
            Some((name, password)) => self.log_in(&name, &password, peer).await,
            None => Err(Status::unauthenticated("the authorization header is neither 'Basic ...' nor 'Bearer ...'")),
        }
    }

    fn admit_token(&self, token: &str) -> Result<Admitted, Status> {
        let given = self.tokens.iter().fold(false, |known, given| known | equal(given.reveal(), token));
        if given || self.logins.lock().get(&token.to_owned(), Instant::now()).is_some() {
            return Ok(Admitted::Known);
        }
        Err(Status::unauthenticated("this token is unknown, or was not used for an hour: log in again"))
    }

    async fn log_in(&self, name: &str, password: &str, peer: Option<IpAddr>) -> Result<Admitted, Status> {
        let peer = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let before = self.failures.lock().get(&peer, Instant::now()).copied().unwrap_or_default();
        let delay = delay_after(before);
        if !delay.is_zero() {
            let Ok(_turn) = self.waiting.try_acquire() else {
                return Err(Status::resource_exhausted("too many logins have failed: try again in a minute"));
            };
            tokio::time::sleep(delay).await;
        }
        // All are compared, so that the time does not tell which names there are.
        let right = self
            .users
            .iter()
            .fold(false, |right, user| right | (equal(&user.name, name) & equal(user.password.reveal(), password)));
        if !right {
            self.count_failure(peer);
            return Err(Status::unauthenticated("user or password is wrong"));
        }
        self.failures.lock().take(&peer, Instant::now());
        let token = made_up()?;
        self.logins.lock().insert(token.to_string(), (), Instant::now());
        Ok(Admitted::LoggedIn(token))
    }

    fn count_failure(&self, peer: IpAddr) {
        self.figures.refused_logins.fetch_add(1, Relaxed);
        let now = Instant::now();
        let mut failures = self.failures.lock();
        let count = failures.get(&peer, now).copied().unwrap_or_default().saturating_add(1);
        failures.insert(peer, count, now);
        // A name may be a password that was typed into the wrong field: it is not logged.
        if count.is_power_of_two() {
            tracing::warn!("a login by Flight SQL from {peer} was refused, {count} in a row");
        }
    }
}

fn made_up() -> Result<Arc<str>, Status> {
    random_token().map(Arc::from).map_err(|error| Status::internal(format!("no token can be made up: {error}")))
}

/// How long the next login of an address takes after so many wrong ones.
fn delay_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(more) => FIRST_DELAY.saturating_mul(2_u32.saturating_pow(more)).min(LONGEST_DELAY),
    }
}

/// What follows the name of a scheme, which is written in any case.
fn scheme<'a>(header: &'a HeaderValue, name: &str) -> Option<&'a str> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(name).then(|| rest.trim())
}

/// Decodes what a Basic header says.
fn name_and_password(encoded: &str) -> Option<(String, String)> {
    // gRPC's binary headers are in base64, and tonic reads them.
    let mut headers = HeaderMap::new();
    headers.insert("basic-bin", HeaderValue::from_str(encoded).ok()?);
    let decoded = MetadataMap::from_headers(headers).get_bin("basic-bin")?.to_bytes().ok()?;
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded() -> Access {
        let secret = |text| Secret::from_text(text, "").unwrap();
        let user = |name: &str, password| User { name: name.into(), password: secret(password) };
        Access::new(
            vec![user("ana", "água fresca"), user("ben", "b:b")],
            vec![secret("0123456789abcdef")],
            Arc::default(),
        )
    }

    async fn shows(access: &Access, header: &str) -> Result<Admitted, String> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(header).unwrap())]);
        let outcome = access.admit(&headers, Some("10.1.1.1".parse().unwrap())).await;
        outcome.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
    }

    #[tokio::test]
    async fn a_login_gives_a_token_that_lets_in() {
        let access = guarded();
        // ana:água fresca, and ben:b:b, whose password has a colon; with padding and without.
        for basic in ["Basic YW5hOsOhZ3VhIGZyZXNjYQ==", "basic YW5hOsOhZ3VhIGZyZXNjYQ", "Basic YmVuOmI6Yg=="] {
            let Ok(Admitted::LoggedIn(token)) = shows(&access, basic).await else { panic!("{basic}") };
            assert_eq!(shows(&access, &format!("Bearer {token}")).await, Ok(Admitted::Known));
        }
        assert_eq!(shows(&access, "Bearer 0123456789abcdef").await, Ok(Admitted::Known));
        assert_eq!(access.figures.refused_logins.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_shows_nothing_good_is_told_what_to_do() {
        let access = guarded();
        let nothing = access.admit(&HeaderMap::new(), None).await.unwrap_err();
        assert!(nothing.message().starts_with("log in: "), "{nothing}");
        for (header, said) in [
            ("Bearer 0123456789abcdee", "log in again"),
            ("Bearer ", "log in again"),
            ("Digest x", "neither 'Basic ...' nor 'Bearer ...'"),
            ("Basic ***", "neither"),
            // ana:wrong, and nobody:b:b.
            ("Basic YW5hOndyb25n", "user or password is wrong"),
            ("Basic bm9ib2R5OmI6Yg==", "user or password is wrong"),
        ] {
            let refused = shows(&access, header).await.unwrap_err();
            assert!(refused.starts_with("Unauthenticated: ") && refused.contains(said), "{header}: {refused}");
        }
        assert_eq!(access.figures.refused_logins.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_cost_time_until_a_right_one() {
        let access = guarded();
        let (right, wrong) = ("Basic YmVuOmI6Yg==", "Basic YW5hOndyb25n");
        let begin = tokio::time::Instant::now();
        for _ in 0..FREE_FAILURES {
            shows(&access, wrong).await.unwrap_err();
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        shows(&access, wrong).await.unwrap_err();
        assert!(begin.elapsed() >= FIRST_DELAY, "{:?}", begin.elapsed());
        let before = begin.elapsed();
        shows(&access, right).await.unwrap();
        assert!(begin.elapsed() >= before + 2 * FIRST_DELAY);
        let before = begin.elapsed();
        shows(&access, right).await.unwrap();
        assert_eq!(begin.elapsed(), before, "all is forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn only_some_logins_wait() {
        let access = guarded();
        for _ in 0..FREE_FAILURES {
            shows(&access, "Basic YW5hOndyb25n").await.unwrap_err();
        }
        let guesses = (0..MOST_WAITING + 5).map(|_| shows(&access, "Basic YW5hOndyb25n"));
        let outcomes = futures::future::join_all(guesses).await;
        let turned_away = outcomes.iter().filter(|said| said.as_ref().unwrap_err().contains("too many logins"));
        assert_eq!(turned_away.count(), 5);
    }

    #[test]
    fn delays_double_up_to_a_limit() {
        let delays = [0, 2, 3, 4, 7, 8, 9, u32::MAX].map(|failures| delay_after(failures).as_millis());
        assert_eq!(delays, [0, 0, 250, 500, 4000, 8000, 8000, 8000]);
    }

    #[tokio::test]
    async fn an_open_server_takes_everybody() {
        let access = Access::new(vec![], vec![], Arc::default());
        assert_eq!(access.admit(&HeaderMap::new(), None).await.unwrap(), Admitted::Known);
        assert_eq!(shows(&access, "Bearer anything").await, Ok(Admitted::Known));
        assert!(matches!(shows(&access, "Basic YmVuOmI6Yg==").await, Ok(Admitted::LoggedIn(_))));
    }
}
