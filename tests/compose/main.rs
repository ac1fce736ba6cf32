//! `docker-compose.yml` against the schema of the Compose specification, and against what README promises of it.
//!
//! `compose_spec.json` is the specification's schema as the PyPI package docker-compose 1.29.2 ships it, unchanged,
//! under the Apache License 2.0 in `compose_spec.LICENSE`.

mod dockerfile;

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
fn every_server_has_a_health_check_and_ports_on_loopback_only() {
    let compose = compose();
    let ports = |service: &Value| service["ports"].as_array().cloned().unwrap_or_default();
    for (name, service) in services(&compose) {
        // The generator serves nothing: it is well for as long as it runs.
        assert_eq!(service["healthcheck"]["test"].is_array(), name != "generate", "{name}");
        assert_eq!(ports(service).is_empty(), name == "generate", "{name}");
        for port in ports(service) {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        assert!(service["mem_limit"].is_string(), "{name} may take all memory");
    }
}

/// What the contract fixes: the services, the ports by which the host reaches them, and the databases' names.
const CONTRACT: [(&str, &[&str], Option<&str>); 9] = [
    ("kafka-1", &["9092"], None),
    ("kafka-2", &["9093"], None),
    ("kafka-3", &["9094"], None),
    ("shop", &["5432"], Some("instashop")),
    ("crm", &["5433"], Some("crm_db")),
    ("warehouse", &["5436"], Some("dwh_db")),
    ("redis", &["6379"], None),
    ("acequia", &["8501", "9464"], None),
    ("generate", &[], None),
];

#[test]
fn it_has_the_parts_and_the_ports_of_the_contract() {
    let compose = compose();
    let names: Vec<&String> = services(&compose).map(|(name, _)| name).collect();
    assert_eq!(names, CONTRACT.map(|(name, ..)| name));
    for (name, ports, database) in CONTRACT {
        let service = &compose["services"][name];
        let mapped = service["ports"].as_array().into_iter().flatten();
        let on_host: Vec<&str> = mapped.map(|port| port.as_str().unwrap().split(':').nth(1).unwrap()).collect();
        assert_eq!(on_host, ports, "{name}");
        assert_eq!(service["environment"]["POSTGRES_DB"].as_str(), database, "{name}");
    }
}

#[test]
fn what_a_service_keeps_is_in_a_volume_with_a_name() {
    let compose = compose();
    let mut used: Vec<&str> = vec![];
    for (name, service) in services(&compose) {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert_eq!(volume, name, "a service's volume has the service's name");
            used.push(volume);
        }
    }
    let declared: Vec<&String> = compose["volumes"].as_object().unwrap().keys().collect();
    assert_eq!(used, declared, "volumes that are used, and those that are declared");
}

/// `host:port` of each server that the values of a service's environment name.
fn servers(service: &Value) -> Vec<String> {
    let mut servers = vec![];
    for value in service["environment"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()) {
        let after_login = value.rsplit('@').next().unwrap();
        for server in after_login.split(',').map(|server| server.split('/').next().unwrap()) {
            if server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                servers.push(server.to_owned());
            }
        }
    }
    servers
}

#[test]
fn acequia_waits_for_the_servers_that_its_urls_name() {
    let compose = compose();
    for (name, count) in [("acequia", 7), ("generate", 2)] {
        let service = &compose["services"][name];
        let servers = servers(service);
        assert_eq!(servers.len(), count, "{name}: {servers:?}");
        for server in servers {
            let (host, port) = server.split_once(':').unwrap();
            assert_eq!(service["depends_on"][host]["condition"], "service_healthy", "{name} needs {host}");
            let other = &compose["services"][host];
            let inside = match other["ports"][0].as_str().unwrap().rsplit(':').next().unwrap() {
                // Brokers tell their clients where to go on: other containers by their names, the host by its own.
                "9092" => other["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str().unwrap().to_owned(),
                inside => inside.to_owned(),
            };
            assert!(inside.contains(port), "{name}: {server} does not listen there but on {inside}");
        }
    }
}

#[test]
fn the_variables_of_the_queries_are_set() {
    let compose = compose();
    let environment = compose["services"]["acequia"]["environment"].as_object().unwrap();
    let mut wanted = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/queries")).unwrap() {
        let path = file.unwrap().path();
        if path.extension() != Some("sql".as_ref()) {
            continue;
        }
        let sql = std::fs::read_to_string(&path).unwrap();
        for variable in sql.split("${").skip(1).filter_map(|rest| rest.split([':', '}']).next()) {
            wanted += 1;
            // Dead letters are a file in the data folder, here as everywhere.
            let is_set = environment.contains_key(variable) || variable == "DEAD_LETTERS";
            assert!(is_set, "{}: {variable} is not set for acequia", path.display());
        }
    }
    assert!(wanted > 5);
}

#[test]
fn the_command_in_the_readme_sets_each_secret_that_the_file_asks_for() {
    let compose = include_str!("../../docker-compose.yml");
    let readme = include_str!("../../README.md");
    let mut asked: Vec<&str> = compose
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split('}').next()?.split_once(":?"))
        .map(|ask| ask.0)
        .collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, ["CRM_PASSWORD", "DWH_PASSWORD", "PAGE_TOKEN", "REDIS_PASSWORD", "SHOP_PASSWORD"]);
    let line = readme.lines().find(|line| line.ends_with("> .env")).expect("a command that makes .env");
    let place = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("bash").args(["-c", line]).current_dir(place.path()).status().unwrap();
    assert!(made.success(), "{line}");
    let made = std::fs::read_to_string(place.path().join(".env")).unwrap();
    let mut names: Vec<&str> = vec![];
    for line in made.lines() {
        let (name, secret) = line.split_once('=').unwrap();
        assert!(secret.len() == 32 && secret.chars().all(|c| c.is_ascii_hexdigit()), "{line} is no secret");
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(names, asked);
}

#[test]
fn no_password_stands_in_the_file() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if variable.contains("PASSWORD") || variable.contains("TOKEN") {
                assert!(value.starts_with("${") && value.contains(":?"), "{name}: {variable} is written out");
            }
            if let Some((before, _)) = value.split_once('@').filter(|_| value.contains("://")) {
                assert!(before.contains("_PASSWORD:?"), "{name}: {variable} holds a password");
            }
        }
    }
}
