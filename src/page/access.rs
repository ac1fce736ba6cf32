//! Who may see the page: everybody on this machine, and from elsewhere those who know a token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use thiserror::Error;

use crate::console::{equal, random_token};

/// The variable that holds the token.
pub const TOKEN_VARIABLE: &str = "ACEQUIA_PAGE_TOKEN";
/// A shorter one could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// Everything comes from this binary, nothing is run from within a text, and no other site may show it in a frame.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The rule for one address.
#[derive(Clone)]
pub struct Access {
    address: SocketAddr,
    token: Option<Arc<str>>,
}

// The token is a secret.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why there is no rule.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The token that was given is none.
    #[error(
        "{TOKEN_VARIABLE} is no token: it takes at least {SHORTEST_TOKEN} letters, digits, '-', '_', '.' or '~', such as \
         openssl rand -hex 24 prints; without the variable a token is made up"
    )]
    BadToken,
    /// The system gives no random bytes.
    #[error("no token can be made up: /dev/urandom: {0}; set {TOKEN_VARIABLE}")]
    NoRandomness(std::io::Error),
}

impl Access {
    /// For those who reach `address`: on loopback everybody, unless a token is `given`; elsewhere those who know the
    /// given token, or one that is made up here.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn new(address: SocketAddr, given: Option<String>) -> Result<Access, AccessError> {
        let token = match given.filter(|given| !given.is_empty()) {
            Some(given) if !is_token(&given) => return Err(AccessError::BadToken),
            Some(given) => Some(given),
            None if address.ip().is_loopback() => None,
            None => Some(random_token().map_err(AccessError::NoRandomness)?),
        };
        Ok(Access { address, token: token.map(Arc::from) })
    }

    /// What to open in a browser; holds the token.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            // Any of the machine's own, such as this one.
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        match &self.token {
            None => format!("http://{address}/"),
            Some(token) => format!("http://{address}/?token={token}"),
        }
    }

    /// Whether only names of loopback may be used: elsewhere those of this machine are not known.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// The cookie's name: cookies are the same for all ports of a host.
    fn cookie(&self) -> String {
        format!("acequia_page_{}", self.address.port())
    }

    fn is_known(&self, token: &str, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let name = self.cookie();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        bearer.is_some_and(|given| equal(given, token)) || pairs.any(|(key, given)| key == name && equal(given, token))
    }
}

/// Lets those through who may see the page, and gives the cookie to who comes with the token.
pub async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let Some(token) = access.token.as_deref() else { return next.run(request).await };
    if access.is_known(token, request.headers()) {
        return next.run(request).await;
    }
    let query = request.uri().query().unwrap_or_default();
    let given = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token");
    match given {
        Some((_, given)) if equal(&given, token) => {
            // The address in the browser's history, and on its screen, is one without the token.
            let cookie = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict", access.cookie());
            let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, "/".to_owned())];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Some(_) => unknown("this token is not the page's"),
        None => unknown("this page needs a token"),
    }
}

fn unknown(why: &str) -> Response {
    let text = format!(
        "{why}: open the address that acequia has printed at its start, or the one with ?token=... and the value of \
         {TOKEN_VARIABLE}. If you came by a link, reload.\n"
    );
    (StatusCode::UNAUTHORIZED, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// Adds what tells a browser to be careful.
pub async fn careful(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn is_token(text: &str) -> bool {
    text.len() >= SHORTEST_TOKEN
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, token: Option<&str>) -> Result<Access, AccessError> {
        Access::new(address.parse().unwrap(), token.map(str::to_owned))
    }

    #[test]
    fn a_token_is_needed_beyond_loopback_and_where_one_is_given() {
        assert_eq!(access("127.0.0.1:8501", None).unwrap().url(), "http://127.0.0.1:8501/");
        assert_eq!(access("[::1]:8501", Some("")).unwrap().url(), "http://[::1]:8501/");
        let given = access("127.0.0.1:8501", Some("0123456789abcdef")).unwrap();
        assert_eq!(given.url(), "http://127.0.0.1:8501/?token=0123456789abcdef");
        let (one, other) = (access("0.0.0.0:80", None).unwrap(), access("0.0.0.0:80", None).unwrap());
        let made_up = |access: &Access| access.url().strip_prefix("http://127.0.0.1:80/?token=").map(str::len);
        assert_eq!((made_up(&one), made_up(&other)), (Some(48), Some(48)));
        assert_ne!(one.url(), other.url());
        assert!(!format!("{one:?}").contains(one.token.as_deref().unwrap()));
    }

    #[test]
    fn a_token_that_could_be_guessed_or_cannot_stand_in_an_address_is_refused() {
        for bad in ["short", "with spaces in it all over", "semicolon;0123456789"] {
            let said = access("0.0.0.0:8501", Some(bad)).unwrap_err().to_string();
            assert!(said.contains("ACEQUIA_PAGE_TOKEN is no token: it takes at least 16 letters"), "{said}");
            assert!(!said.contains(bad), "{said}");
        }
    }
}
