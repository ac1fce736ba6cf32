//! Acequia turns a folder of SQL files into a running streaming pipeline.

pub mod cases;
pub mod catalog;
pub mod checkpoint;
pub mod cli;
pub mod connectors;
pub mod console;
pub mod dataflow;
pub mod faults;
pub mod flight;
pub mod formats;
pub mod generator;
pub mod history;
pub mod operators;
pub mod page;
pub mod planner;
pub mod program;
pub mod shop;
pub mod sql;
pub mod time;
