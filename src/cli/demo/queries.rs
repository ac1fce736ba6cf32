//! The shop's SQL as the binary has it, so that a demo runs from anywhere.

use std::path::Path;

use crate::sql::{SourceFiles, Variables};

/// Each file of `queries/`, in order.
const FILES: [(&str, &str); 7] = [
    ("05_shop.sql", include_str!("../../../queries/05_shop.sql")),
    ("10_topics.sql", include_str!("../../../queries/10_topics.sql")),
    ("20_items.sql", include_str!("../../../queries/20_items.sql")),
    ("30_warehouse.sql", include_str!("../../../queries/30_warehouse.sql")),
    ("40_metrics.sql", include_str!("../../../queries/40_metrics.sql")),
    ("50_sessions.sql", include_str!("../../../queries/50_sessions.sql")),
    ("60_history.sql", include_str!("../../../queries/60_history.sql")),
];

/// The name of the pipeline that runs these, which is the folder's: a data folder of a demo can be gone on with by
/// `acequia run queries`.
pub const PIPELINE: &str = "queries";

/// The files, named as they are in the repository.
pub fn files() -> SourceFiles {
    let mut files = SourceFiles::default();
    for (name, text) in FILES {
        files.add(Path::new("queries").join(name), text.to_owned());
    }
    files
}

/// The variables of these files, with each part embedded and every file below `data_dir`. What the environment says of
/// them does not count: a demo reaches no server.
pub fn variables(data_dir: &Path) -> Variables {
    let dead_letters = data_dir.join("dead_letters.jsonl").display().to_string();
    let embedded = [
        ("KAFKA_BROKERS", "embedded"),
        ("REDIS_URL", "embedded"),
        ("DWH_URL", "embedded"),
        ("SHOP_URL", "embedded://shop"),
        ("CRM_URL", "embedded://crm"),
        ("DEAD_LETTERS", &dead_letters),
    ];
    Variables::from_environment().with(embedded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_the_folder_are_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
        let (there, unreadable) = crate::sql::folder::read(&folder);
        assert!(unreadable.is_empty());
        let here = files();
        let names = |files: &SourceFiles| -> Vec<String> {
            let name = |file| files.path(file).file_name().unwrap().to_string_lossy().into_owned();
            (0..files.len() as u32).map(name).collect()
        };
        assert_eq!(names(&here), names(&there));
        for file in 0..here.len() as u32 {
            assert_eq!(here.text(file), there.text(file));
        }
    }

    #[test]
    fn every_variable_of_the_files_is_overridden() {
        let variables = variables(Path::new("/data"));
        let names = FILES.iter().flat_map(|(_, text)| text.split("${").skip(1));
        for name in names.map(|rest| rest.split([':', '}']).next().unwrap()) {
            let value = variables.get(name).unwrap_or_else(|| panic!("{name} is what the environment says"));
            assert!(value.starts_with("embedded") || value.starts_with("/data/"), "{name} = {value}");
        }
    }
}
