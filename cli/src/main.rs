//! The program `netsys`.

fn main() {}
