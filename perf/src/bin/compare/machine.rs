//! What a reader must know about a run to repeat it.

use std::env;

use network_system_perf::machine::{commit, cores, cpu_model, kernel};

use crate::Plan;

/// Names and values.
pub(crate) fn describe(plan: &Plan) -> Vec<(&'static str, String)> {
    let pinned = match plan.cores {
        Some(cores) => format!(
            "server on core {}, load on core {}",
            cores.server, cores.load
        ),
        None => "not pinned: there is only one core".to_owned(),
    };
    let rounds = format!(
        "{} rounds, windows of {} s after {} s",
        plan.rounds, plan.seconds, plan.warmup
    );
    vec![
        ("CPU", format!("{} ({} cores)", cpu_model(), cores())),
        ("kernel", kernel()),
        ("pinned", pinned),
        ("rounds", rounds),
        ("commit", commit()),
        ("command", command_line()),
    ]
}

/// The arguments as they could be typed again.
fn command_line() -> String {
    let mut words = vec!["compare".to_owned()];
    for word in env::args().skip(1) {
        match word.split_once('=') {
            _ if !word.contains(char::is_whitespace) => words.push(word),
            Some((name, value)) => words.push(format!("{name}='{value}'")),
            None => words.push(format!("'{word}'")),
        }
    }
    words.join(" ")
}
