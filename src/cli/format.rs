//! How a command prints what it has found.

/// For people or for programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}
