//! The formats of containers: against vectors, which are bytes that other programs wrote or that follow from the
//! description of a format, and what they mean; against arbitrary containers; and against hostile input.

#![allow(clippy::print_stdout, reason = "a line for each vector")]

mod golden;
mod golden_binary;
mod golden_parse;
mod golden_ports;
mod hostile;
mod own;
mod properties;
mod vectors;
