//! Windowed aggregation in two phases around an exchange.
//!
//! [`PartialAggregate`] runs in the task of the source. It puts each row into its pane, updates the accumulators of
//! the pane's groups, and sends *partial states* on: when the watermark is about to close a window that needs them, at
//! a barrier, on a tick, and when it holds too much. [`FinalAggregate`] runs behind a hash exchange on the groups,
//! merges partial states, and turns a window into rows when the watermark closes it. What crosses the exchange is
//! state and not rows, and a row is aggregated once however many windows it is in.
//!
//! The result is a function of the rows and of the watermark that each carries
//! ([`ROW_WATERMARK`](super::window::ROW_WATERMARK)): batch sizes, parallelism and the moment at which other splits
//! let a window close do not show. That is why a state which is late for some of its windows says from which window
//! on it counts ([`layout::FROM`]), and why a session remembers the watermark of rows that came behind it.
//!
//! | file | idea |
//! |---|---|
//! | `layout` | what partial states look like between the phases, and what can be aggregated at all |
//! | `lateness` | which pane a row belongs to, and which windows it is too late for |
//! | `accumulators` | the accumulators of many groups, as one |
//! | `groups` | a hash table from group values to accumulators; states at rest |
//! | `partial_phase`, `final_phase` | the two operators |
//! | `panes` | windows that do not overlap, in the final phase |
//! | `sliding` | overlapping windows, from panes merged by two stacks |
//! | `fragments`, `sessions` | sessions: pieces of them, and how they merge and close |

mod accumulators;
mod final_phase;
mod fragments;
mod groups;
mod lateness;
pub mod layout;
mod panes;
mod partial_phase;
mod sessions;
mod sliding;

#[cfg(test)]
mod tests;

pub use final_phase::FinalAggregate;
pub use partial_phase::PartialAggregate;
