//! `docker-compose.yml` against the schema of the Compose specification, and against what README promises of it.
//!
//! `compose_spec.json` is the specification's schema as the PyPI package docker-compose 1.29.2 ships it, unchanged,
//! under the Apache License 2.0 in `compose_spec.LICENSE`.

use serde_json::Value;

fn compose() -> Value {
    let mut yaml: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(include_str!("../../docker-compose.yml")).expect("docker-compose.yml is YAML");
    yaml.apply_merge().expect("its anchors resolve");
    serde_json::to_value(yaml).expect("it is JSON but for its syntax")
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().expect("services").iter()
}

#[test]
fn it_follows_the_specification() {
    let mut schema: Value = serde_json::from_str(include_str!("compose_spec.json")).unwrap();
    // The file names its draft by an address that nobody publishes; what it uses is in every draft since 7.
    schema.as_object_mut().unwrap().remove("$schema");
    let validator = jsonschema::options().with_draft(jsonschema::Draft::Draft7).build(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&compose()).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let broken = serde_json::json!({"services": {"a": {"image": "b", "prots": ["1:1"]}}});
    assert!(!validator.is_valid(&broken), "the schema finds a misspelt key");
}

#[test]
fn every_service_has_a_health_check_and_only_loopback_ports() {
    let compose = compose();
    for (name, service) in services(&compose) {
        assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        for port in service["ports"].as_array().unwrap() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn it_has_the_parts_and_the_ports_of_the_contract() {
    let compose = compose();
    let names: Vec<&String> = services(&compose).map(|(name, _)| name).collect();
    assert_eq!(names, ["kafka-1", "kafka-2", "kafka-3", "warehouse", "redis", "acequia"]);
    assert_eq!(compose["services"]["warehouse"]["ports"][0], "127.0.0.1:5436:5432");
    assert_eq!(compose["services"]["warehouse"]["environment"]["POSTGRES_DB"], "dwh_db");
}

#[test]
fn no_password_stands_in_the_file() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if variable.contains("PASSWORD") {
                assert!(value.starts_with("${") && value.contains(":?"), "{name}: {variable} is written out");
            }
            if let Some((before, _)) = value.split_once('@').filter(|_| value.contains("://")) {
                assert!(before.contains("_PASSWORD:?"), "{name}: {variable} holds a password");
            }
        }
    }
}

#[test]
fn the_image_is_built_from_all_that_the_manifest_and_the_sources_name() {
    let dockerfile = include_str!("../../Dockerfile");
    let manifest = include_str!("../../Cargo.toml");
    let copied = |folder: &str| dockerfile.contains(&format!("COPY {folder} ./{folder}"));
    let mut wanted = vec!["src".to_owned()];
    for target in ["bench", "test", "example"] {
        if manifest.contains(&format!("[[{target}]]")) {
            wanted.push(if target == "bench" { "benches".into() } else { format!("{target}s") });
        }
    }
    let sources = walkdir::WalkDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    for file in
        sources.into_iter().filter_map(Result::ok).filter(|entry| entry.path().extension() == Some("rs".as_ref()))
    {
        let text = std::fs::read_to_string(file.path()).unwrap();
        // Whatever is included from outside `src` climbs out of it and enters a folder of the root.
        for included in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let depth = file.depth() - 1;
            let climbs = included.matches("../").count();
            if climbs > depth {
                wanted.push(included.trim_start_matches("../").split('/').next().unwrap_or_default().to_owned());
            }
        }
    }
    assert!(wanted.contains(&"migrations".to_owned()), "{wanted:?}");
    let missing: Vec<&String> = wanted.iter().filter(|folder| !copied(folder)).collect();
    assert!(missing.is_empty(), "the Dockerfile does not copy {missing:?}");
}
