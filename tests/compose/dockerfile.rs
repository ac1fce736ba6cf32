//! The Dockerfile, step by step as far as that goes without an engine: what it copies is there and is sent to it, and all
//! that the build reads is copied.

use std::path::{Component, Path, PathBuf};

const DOCKERFILE: &str = include_str!("../../Dockerfile");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An instruction with its lines joined and comments left out, such as `COPY` and `src ./src`.
fn instructions() -> Vec<(String, String)> {
    let mut joined = String::new();
    for line in DOCKERFILE.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(line) => joined.push_str(line),
            None => joined.extend([line, "\n"]),
        }
    }
    let split = |line: &str| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()));
    joined.lines().filter_map(split).collect()
}

/// What each `COPY` takes from the repository, for the stage that compiles and for the one that runs.
fn copied() -> [Vec<String>; 2] {
    let mut stages = vec![];
    for (word, rest) in instructions() {
        match word.as_str() {
            "FROM" => stages.push(vec![]),
            "COPY" if !rest.starts_with("--from") => {
                let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
                let (_, sources) = words.split_last().expect("a destination");
                stages.last_mut().expect("a stage").extend_from_slice(sources);
            }
            _ => {}
        }
    }
    stages.try_into().expect("two stages")
}

/// Paths of the repository that the sources are compiled with, from all macros that read files.
fn compiled_in() -> Vec<(PathBuf, PathBuf)> {
    let mut found = vec![];
    let sources = walkdir::WalkDir::new(root().join("src")).into_iter().map(Result::unwrap);
    for file in sources.filter(|entry| entry.path().extension() == Some("rs".as_ref())) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let folder = file.path().parent().unwrap();
        for (macro_, base) in [
            ("include_str!(\"", folder),
            ("include_bytes!(\"", folder),
            // A macro of ours puts the file's name behind it.
            ("include_str!(concat!(\"", folder),
            ("include_bytes!(concat!(\"", folder),
            ("migrate!(\"", root()),
        ] {
            for path in text.split(macro_).skip(1).filter_map(|rest| rest.split('"').next()) {
                found.push((file.path().to_owned(), resolved(&base.join(path))));
            }
        }
    }
    found
}

/// The path without `..`, below the repository.
fn resolved(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.strip_prefix(root()).expect("a path within the repository").to_owned()
}

#[test]
fn what_is_copied_is_there_and_sent_to_the_build() {
    let ignored: Vec<String> = std::fs::read_to_string(root().join(".dockerignore"))
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert!(ignored.contains(&".env".to_owned()), "passwords are not sent");
    for path in copied().iter().flatten() {
        assert!(root().join(path).exists(), "there is no {path}");
        assert!(!ignored.contains(path), ".dockerignore keeps {path} away");
    }
}

#[test]
fn all_that_the_build_reads_is_copied() {
    let [build, _] = copied();
    let is_copied = |path: &Path| build.iter().any(|copied| path.starts_with(copied));
    for file in ["Cargo.toml", "Cargo.lock", "src/main.rs"] {
        assert!(is_copied(Path::new(file)), "{file}");
    }
    let manifest = include_str!("../../Cargo.toml");
    for (target, folder) in [("bench", "benches"), ("test", "tests"), ("example", "examples")] {
        assert!(!manifest.contains(&format!("[[{target}]]")) || is_copied(Path::new(folder)), "{folder}");
    }
    assert!(!manifest.contains("build = ") && !root().join("build.rs").exists(), "a build script reads more");
    let found = compiled_in();
    let has = |path: &str| found.iter().any(|(_, found)| found.starts_with(path));
    assert!(has("migrations") && has("src/page/assets") && has("README.md"), "{found:?}");
    for (file, path) in found {
        assert!(
            root().join(&path).exists(),
            "{} is compiled with {}, which is not there",
            file.display(),
            path.display()
        );
        assert!(is_copied(&path), "{} is compiled with {}, which is not copied", file.display(), path.display());
    }
}

#[test]
fn the_compiler_is_the_one_that_the_manifest_asks_for_or_newer() {
    let number = |text: &str| -> (u32, u32) {
        let mut parts = text.split(['.', '-', '"']).map(|part| part.parse().unwrap());
        (parts.next().unwrap(), parts.next().unwrap())
    };
    let images: Vec<String> =
        instructions().into_iter().filter(|(word, _)| word == "FROM").map(|(_, image)| image).collect();
    let image = images[0].strip_prefix("rust:").expect("Rust's own image");
    let asked = include_str!("../../Cargo.toml").split("rust-version = \"").nth(1).unwrap();
    assert!(number(image) >= number(asked), "{image}");
    // glibc of the image that compiles must not be newer than that of the image that runs.
    assert!(images[0].contains("-bookworm") && images[1].contains("bookworm-"), "{images:?}");
}

#[test]
fn it_runs_as_nobody_in_particular_with_the_shops_queries() {
    let instructions = instructions();
    let last = |wanted: &str| {
        let found = instructions.iter().rev().find(|(word, _)| word == wanted);
        found.map(|(_, rest)| rest.as_str()).unwrap_or_default()
    };
    assert!(last("USER").parse::<u32>().is_ok_and(|user| user > 0), "a number: Kubernetes asks for it");
    assert!(instructions.iter().any(|(_, rest)| rest.contains(&format!("--uid {}", last("USER")))));
    assert_eq!(last("ENTRYPOINT"), r#"["/usr/local/bin/acequia"]"#);
    assert_eq!(last("CMD"), r#"["run", "/etc/acequia/queries"]"#);
    let to = |place: &str| instructions.iter().any(|(word, rest)| word == "COPY" && rest.ends_with(place));
    assert!(to(" /usr/local/bin/acequia") && to("queries /etc/acequia/queries"));
    assert!(instructions.iter().any(|(_, rest)| rest.contains("--profile dist --locked")));
    assert_eq!(last("EXPOSE"), "8501 9464");
    let compose = include_str!("../../docker-compose.yml");
    assert!(compose.contains("/etc/acequia/queries") && compose.contains("acequia:/var/lib/acequia"));
    assert_eq!(last("VOLUME"), "/var/lib/acequia");
}
