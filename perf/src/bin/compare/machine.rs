//! What a reader must know about a run to repeat it.

use std::process::Command;
use std::{env, fs, thread};

use crate::Plan;

/// Names and values.
pub(crate) fn describe(plan: &Plan) -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
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
        ("CPU", format!("{} ({cores} cores)", cpu_model())),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("pinned", pinned),
        ("rounds", rounds),
        ("commit", commit()),
        ("command", command_line()),
    ]
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || "unknown".to_owned(),
            |(_, model)| model.trim().to_owned(),
        )
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn commit() -> String {
    Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(
            || "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
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
