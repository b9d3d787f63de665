//! The formats of containers against vectors: bytes that other programs wrote or that follow from the description of a
//! format, and what they mean.

mod golden;
mod golden_parse;
mod golden_ports;
mod own;
mod vectors;
