//! `${NAME}` in option values: where the values come from.

use std::collections::HashMap;

/// The variables that option values may name.
#[derive(Clone, Default)]
pub struct Variables {
    values: HashMap<String, String>,
}

impl Variables {
    /// The environment of this process.
    pub fn from_environment() -> Variables {
        std::env::vars().collect()
    }

    /// The value of a variable; one that is set to nothing counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Variables {
        Variables { values: pairs.into_iter().collect() }
    }
}
