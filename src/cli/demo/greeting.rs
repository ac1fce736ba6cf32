//! What a demo prints when it is up: where to look, and what to try.

use std::path::PathBuf;

use super::folder::DataFolder;
use crate::cli::run::Served;
use crate::connectors::sqlite::embedded_file;

/// The text for a data folder.
pub struct Greeting {
    data_dir: PathBuf,
    stays: bool,
}

impl Greeting {
    /// For that folder.
    pub fn new(folder: &DataFolder) -> Greeting {
        Greeting { data_dir: folder.path().to_owned(), stays: matches!(folder, DataFolder::Given(_)) }
    }

    /// Where everything is, and three commands for another terminal.
    pub fn text(&self, served: &Served) -> String {
        let warehouse = self.data_dir.join(embedded_file("warehouse")).display().to_string();
        let fate = if self.stays { "stays" } else { "removed at the end; --data-dir FOLDER keeps it" };
        let mut text = String::from("\nInstaShop is open. Everything runs in this process.\n\n");
        if let Some(page) = &served.page {
            text += &format!("  page       {page}\n");
        }
        if let Some(console) = served.console {
            text += &format!("  metrics    http://{console}/metrics\n");
        }
        text += &format!("  warehouse  {warehouse}\n");
        text += &format!("  data       {} ({fate})\n", self.data_dir.display());
        text += "\nTo try in another terminal:\n\n";
        if let Some(console) = served.console {
            text += &format!("  curl 'http://{console}/api/v1/redis/get?key=metrics:transactions'\n");
            text += &format!("  curl 'http://{console}/api/v1/kafka/messages?topic=transactions&count=3'\n");
        }
        let count = "SELECT event_type, COUNT(*) FROM realtime_events GROUP BY event_type";
        text += &format!("  sqlite3 {} '{count}'\n\nCtrl-C stops.\n\n", quoted(&warehouse));
        text
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn text(folder: &DataFolder, page: Option<&str>) -> String {
        let served = Served { console: Some("127.0.0.1:9464".parse().unwrap()), page: page.map(str::to_owned) };
        Greeting::new(folder).text(&served)
    }

    #[test]
    fn it_says_what_to_open_and_what_to_try() {
        let text = text(&DataFolder::Temporary("/tmp/a b".into()), Some("http://127.0.0.1:8501/"));
        for word in [
            "page       http://127.0.0.1:8501/\n",
            "metrics    http://127.0.0.1:9464/metrics\n",
            "warehouse  /tmp/a b/warehouse.sqlite\n",
            "data       /tmp/a b (removed at the end; --data-dir FOLDER keeps it)\n",
            "curl 'http://127.0.0.1:9464/api/v1/redis/get?key=metrics:transactions'\n",
            "sqlite3 '/tmp/a b/warehouse.sqlite' 'SELECT event_type, COUNT(*)",
            "Ctrl-C stops.\n",
        ] {
            assert!(text.contains(word), "no {word} in\n{text}");
        }
    }

    #[test]
    fn what_is_not_served_is_not_named() {
        let folder = DataFolder::Given(Path::new("shop").into());
        assert!(text(&folder, None).contains("data       shop (stays)\n"));
        let nothing = Greeting::new(&folder).text(&Served::default());
        assert!(!nothing.contains("page") && !nothing.contains("http"), "{nothing}");
    }
}
