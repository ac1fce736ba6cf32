//! Who may ask: logins, tokens, certificates, and where the server does not start.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::certificates::{Authority, Signed};
use crate::pipeline::acequia;
use crate::serving::{Client, Serving, ask, cells, said, serve_arguments};

/// A word that must not be found in anything that the server says.
pub const CANARY: &str = "água-fresca-canary";
const TOKEN: &str = "canary-token-0123456789";

pub fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server with two users and a token.
fn guarded(folder: &TempDir) -> Serving {
    let password = secret(folder.path(), "ana", CANARY);
    let other = secret(folder.path(), "ben", "b:b");
    let token = secret(folder.path(), "token", TOKEN);
    Serving::start(&[
        "--user",
        "ana",
        "--password-file",
        text(&password),
        "--user",
        "ben",
        "--password-file",
        text(&other),
        "--token-file",
        text(&token),
    ])
}

async fn one(client: &mut Client) -> Result<(), String> {
    ask(client, "SELECT 1").await.map(|found| assert_eq!(cells(&found), [["1"]]))
}

#[tokio::test]
async fn a_login_gives_a_token_for_all_that_follows() {
    let folder = tempfile::tempdir().unwrap();
    let mut serving = guarded(&folder);
    for (name, password) in [("ana", CANARY), ("ben", "b:b")] {
        let mut client = serving.client().await;
        let payload = client.handshake(name, password).await.unwrap();
        let token = client.token().unwrap().clone();
        assert_eq!((payload.as_ref(), token.len()), (token.as_bytes(), 48));
        one(&mut client).await.unwrap();
        // Another connection with the same token.
        let mut other = serving.client().await;
        other.set_token(token);
        one(&mut other).await.unwrap();
    }
    let mut given = serving.client().await;
    given.set_token(TOKEN.into());
    one(&mut given).await.unwrap();
    serving.process.signal("-TERM");
    assert_eq!(serving.process.exit_code(), Some(0));
    let said = serving.process.said();
    assert!(!said.contains(CANARY) && !said.contains(TOKEN) && !said.contains("everybody"), "{said}");
}

#[tokio::test]
async fn whoever_shows_nothing_good_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut serving = guarded(&folder);
    let mut client = serving.client().await;
    let nothing = one(&mut client).await.unwrap_err();
    assert!(nothing.contains("log in: this server asks for a user and a password"), "{nothing}");
    for call in [
        client.get_catalogs().await.err(),
        client.get_sql_info(vec![]).await.err(),
        client.prepare("SELECT 1".into(), None).await.err(),
        client.do_get(arrow_flight::Ticket::new("any")).await.err(),
    ] {
        let refused = call.expect("a refusal").to_string();
        assert!(refused.contains("log in: "), "{refused}");
    }
    client.set_token("made-up-token".into());
    let unknown = one(&mut client).await.unwrap_err();
    assert!(unknown.contains("this token is unknown, or was not used for an hour"), "{unknown}");
    client.clear_token();
    for (name, password) in [("ana", "wrong"), ("nobody", CANARY)] {
        let wrong = client.handshake(name, password).await.unwrap_err().to_string();
        assert!(wrong.contains("user or password is wrong") && !wrong.contains(CANARY), "{wrong}");
    }
    serving.process.until("a login by Flight SQL from 127.0.0.1 was refused, 2 in a row");
}

#[tokio::test]
async fn an_open_server_says_that_it_is_and_takes_any_login() {
    let mut serving = Serving::start(&[]);
    assert!(serving.process.said().contains("for everybody on this machine"), "{}", serving.process.said());
    let mut client = serving.client().await;
    client.handshake("anybody", "anything").await.unwrap();
    one(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_password_and_a_token_may_come_from_variables() {
    let variables = [("ACEQUIA_FLIGHT_PASSWORD", CANARY), ("ACEQUIA_FLIGHT_TOKEN", TOKEN)];
    let serving = Serving::with(&["--bind", "127.0.0.1:0", "--user", "ana"], &variables);
    let mut client = serving.client().await;
    client.handshake("ana", CANARY).await.unwrap();
    one(&mut client).await.unwrap();
    client.set_token(TOKEN.into());
    one(&mut client).await.unwrap();
}

/// A client by TLS that trusts `authority` and shows `identity`.
async fn encrypted(serving: &Serving, authority: &Authority, identity: Option<&Signed>) -> Result<Client, String> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("localhost");
    if let Some(signed) = identity {
        let (certificate, key) = (std::fs::read(&signed.certificate).unwrap(), std::fs::read(&signed.key).unwrap());
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    acequia::connectors::choose_cryptography();
    let endpoint = Endpoint::from_shared(format!("https://{}", serving.address)).unwrap().tls_config(tls).unwrap();
    let channel: Channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    Ok(Client::new(channel))
}

#[tokio::test]
async fn connections_are_encrypted_and_both_sides_may_have_to_show_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.sign(folder.path(), "server");
    let (certificate, key) = (text(&server.certificate), text(&server.key));
    let mut serving = Serving::start(&["--tls-cert", certificate, "--tls-key", key]);
    assert!(serving.process.said().contains("grpc+tls://"), "{}", serving.process.said());
    one(&mut encrypted(&serving, &authority, None).await.unwrap()).await.unwrap();
    assert!(encrypted(&serving, &stranger, None).await.is_err(), "a client has to know who it talks to");
    let plain = Endpoint::from_shared(format!("http://{}", serving.address)).unwrap().connect().await;
    if let Ok(channel) = plain {
        one(&mut Client::new(channel)).await.unwrap_err();
    }

    let clients = Authority::new();
    let file = clients.file(folder.path(), "clients.pem");
    let password = secret(folder.path(), "ana", CANARY);
    // Beyond loopback, with all that it needs.
    let serving = Serving::with(
        &[
            "--bind",
            "0.0.0.0:0",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
            "--tls-client-ca",
            text(&file),
            "--user",
            "ana",
            "--password-file",
            text(&password),
        ],
        &[],
    );
    let serving = Serving { address: serving.address.replace("0.0.0.0", "127.0.0.1"), ..serving };
    let known = clients.sign(folder.path(), "client");
    let mut client = encrypted(&serving, &authority, Some(&known)).await.unwrap();
    assert!(one(&mut client).await.unwrap_err().contains("log in: "));
    client.handshake("ana", CANARY).await.unwrap();
    one(&mut client).await.unwrap();
    for identity in [None, Some(stranger.sign(folder.path(), "stranger"))] {
        // Refused when it connects, or at its first call.
        if let Ok(mut client) = encrypted(&serving, &authority, identity.as_ref()).await {
            let refused = one(&mut client).await.unwrap_err();
            assert!(!refused.contains("log in"), "{refused}");
        }
    }
}

/// What is said when the server does not start, which must be wrong usage.
fn refusal(more: &[&str], variables: &[(&str, &str)]) -> String {
    let output = acequia().args(serve_arguments(more)).envs(variables.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{more:?}: {}", said(&output));
    said(&output)
}

#[test]
fn beyond_loopback_the_server_needs_a_login_and_encryption() {
    let folder = tempfile::tempdir().unwrap();
    let password = secret(folder.path(), "ana", CANARY);
    let user = ["--user", "ana", "--password-file", text(&password)];
    let open = refusal(&["--bind", "0.0.0.0:0"], &[]);
    assert!(open.contains("0.0.0.0:0 can be reached from other machines, and nobody would be asked"), "{open}");
    let waived = refusal(&["--bind", "0.0.0.0:0", "--insecure-bind"], &[]);
    assert!(waived.contains("name a user with --user and --password-file"), "{waived}");
    let plain = refusal(&[&["--bind", "0.0.0.0:0"][..], &user].concat(), &[]);
    assert!(plain.contains("passwords would travel unencrypted: give --tls-cert and --tls-key"), "{plain}");
    let guarded = Serving::with(&[&["--bind", "0.0.0.0:0", "--insecure-bind"][..], &user].concat(), &[]);
    assert!(guarded.address.starts_with("0.0.0.0:"));
}

#[test]
fn what_cannot_be_used_is_told_before_the_server_starts() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.sign(folder.path(), "one"), authority.sign(folder.path(), "other"));
    let open = secret(folder.path(), "open", CANARY);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let empty = secret(folder.path(), "empty", "");
    let short = secret(folder.path(), "short", "tiny-canary");
    let nonsense = folder.path().join("nonsense.pem");
    std::fs::write(&nonsense, "nonsense").unwrap();
    let (certificate, key) = (text(&one.certificate), text(&one.key));
    for (arguments, words) in [
        (vec!["--user", "ana", "--password-file", text(&open)], "holds a secret and others can read it (mode 0644)"),
        (vec!["--user", "ana", "--password-file", text(&empty)], "is empty: it takes the secret"),
        (vec!["--token-file", text(&short)], "holds no token: it takes at least 16"),
        (vec!["--tls-cert", certificate, "--tls-key", text(&other.key)], "do not make a pair"),
        (vec!["--tls-cert", text(&nonsense), "--tls-key", key], "holds no certificate in PEM"),
        (vec!["--tls-cert", certificate, "--tls-key", text(&nonsense)], "holds no private key in PEM"),
        (vec!["--tls-cert", "/no/such.pem", "--tls-key", key], "cannot read /no/such.pem"),
        (
            vec!["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", text(&nonsense)],
            "nonsense.pem holds no certificate in PEM",
        ),
        (vec!["--tls-cert", certificate], "--tls-key"),
        (vec!["--max-queries", "0"], "1..=10000"),
        (vec!["--query-timeout", "0s"], "250ms, 1s or 2m"),
        (vec!["--memory-limit", "much"], "512MB or 2GB"),
        (vec!["--bind", "nowhere"], "ADDRESS:PORT"),
    ] {
        let said = refusal(&arguments, &[]);
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
    let unnamed = refusal(&[], &[("ACEQUIA_FLIGHT_PASSWORD", CANARY)]);
    assert!(unnamed.contains("nobody is named who has it: add --user") && !unnamed.contains(CANARY), "{unnamed}");
    let token = refusal(&[], &[("ACEQUIA_FLIGHT_TOKEN", "tiny-canary")]);
    assert!(token.contains("ACEQUIA_FLIGHT_TOKEN holds no token") && !token.contains("canary"), "{token}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal(&["--bind", &address], &[]);
    assert!(said.contains(&format!("cannot listen on {address} for Flight SQL")), "{said}");
    assert!(said.contains("choose another address with --bind"), "{said}");
}
