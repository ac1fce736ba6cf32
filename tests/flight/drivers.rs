//! Other people's clients: ADBC in Python, JDBC in Java; and the programs that docs/flight.md shows.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::access::{CANARY, secret};
use crate::certificates::Authority;
use crate::serving::{Serving, said};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a script has installed.
fn installed(script: &str) -> String {
    let output = Command::new(file(script)).arg("install").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn python(script: &Path, arguments: &[&str]) -> String {
    succeeded(Command::new(installed("scripts/python.sh")).arg("-B").arg(script).args(arguments).output().unwrap())
}

fn java(script: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("java");
    command.args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    command.args(["-cp", &installed("scripts/flight-jdbc.sh")]).arg(script).args(arguments);
    succeeded(command.env("TZ", "UTC").output().unwrap())
}

fn succeeded(output: Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", said(&output));
    printed
}

/// A server by TLS that asks for a login; the authority's file is in the folder.
fn guarded(folder: &Path) -> Serving {
    let authority = Authority::new();
    authority.file(folder, "ca.pem");
    let server = authority.sign(folder, "server");
    let password = secret(folder, "ana", CANARY);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (certificate, key, password) = (path(&server.certificate), path(&server.key), path(&password));
    Serving::start(&[
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--user",
        "ana",
        "--password-file",
        &password,
        "--max-queries",
        "1",
    ])
}

#[test]
fn adbc_finds_all_that_it_wants() {
    let open = Serving::start(&["--max-queries", "1"]);
    let printed = python(&file("tests/flight/adbc.py"), &[&open.grpc()]);
    assert!(printed.contains("adbc: all is well"), "{printed}");

    let folder = tempfile::tempdir().unwrap();
    let guarded = guarded(folder.path());
    let authority = folder.path().join("ca.pem");
    let uri = format!("grpc+tls://{}", guarded.address);
    let arguments = [uri.as_str(), "ana", CANARY, authority.to_str().unwrap()];
    let printed = python(&file("tests/flight/adbc.py"), &arguments);
    assert!(printed.contains("adbc: all is well"), "{printed}");
}

#[test]
fn jdbc_finds_all_that_it_wants() {
    let open = Serving::start(&["--max-queries", "1"]);
    // With a name and a password that nobody asks for; the program of the page does without.
    let url = format!("jdbc:arrow-flight-sql://{}?useEncryption=false&user=any&password=any", open.address);
    let printed = java(&file("tests/flight/Jdbc.java"), &[&url]);
    assert!(printed.contains("jdbc: all is well"), "{printed}");

    let folder = tempfile::tempdir().unwrap();
    let guarded = guarded(folder.path());
    let authority = folder.path().join("ca.pem");
    let url = format!(
        "jdbc:arrow-flight-sql://{}?useEncryption=true&tlsRootCerts={}&user=ana&password={}",
        guarded.address,
        authority.display(),
        CANARY.replace('á', "%C3%A1")
    );
    let printed = java(&file("tests/flight/Jdbc.java"), &[&url]);
    assert!(printed.contains("jdbc: all is well"), "{printed}");
}

/// The programs of the page in one language.
fn programs(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(file("docs/flight.md")).unwrap();
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_programs_of_the_page_run() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, program: &str, address: &str| {
        let path = folder.path().join(name);
        let authority = folder.path().join("ca.pem");
        let program = program.replace("127.0.0.1:32010", address).replace("ca.pem", authority.to_str().unwrap());
        std::fs::write(&path, program.replace("água fresca", CANARY)).unwrap();
        path
    };
    let (open, guarded) = (Serving::start(&[]), guarded(folder.path()));
    let pythons = programs("python");
    let [plain, encrypted] = pythons.as_slice() else { panic!("{} programs in Python", pythons.len()) };
    let printed = python(&written("plain.py", plain, &open.address), &[]);
    let rows = "[{'n': 1000, 'total': Decimal('500000.00')}]\n51 51.50\n53 53.50\n55 55.50\n";
    assert_eq!(printed, rows);
    assert_eq!(python(&written("encrypted.py", encrypted, &guarded.address), &[]), "999.50\n");
    let javas = programs("java");
    let [example] = javas.as_slice() else { panic!("{} programs in Java", javas.len()) };
    let printed = java(&written("Example.java", example, &open.address), &[]);
    assert_eq!(printed, "paid 475\npending 475\n");
}
