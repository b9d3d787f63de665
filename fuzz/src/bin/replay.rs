//! Runs the fuzz targets without a fuzzer: over their corpora, then over random changes of them.
//!
//! `replay [--seconds N] [--seed N] [TARGET…]`. The changes follow from the seed alone, so a run can be
//! repeated. An input that breaks a promise is written to `artifacts/TARGET/`, where libFuzzer puts its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use targets::{Random, TARGETS, Target};

/// The longest input that is made. Longer ones are slower and reach nothing more.
const LONGEST: usize = 4_096;

struct Options {
    seconds: u64,
    seed: u64,
    targets: Vec<Target>,
}

fn main() -> ExitCode {
    let options = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("replay: {text}");
            return ExitCode::from(2);
        }
    };
    for target in &options.targets {
        if let Err(text) = replay(*target, &options) {
            eprintln!("replay: {}: {text}", target.0);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seconds: 0,
        seed: 1,
        targets: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut number = |name| {
            let value = args.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{name} needs a whole number"))
        };
        match arg.as_str() {
            "--seconds" => options.seconds = number("--seconds")?,
            "--seed" => options.seed = number("--seed")?,
            name => match TARGETS.iter().find(|(known, _)| *known == name) {
                Some(target) => options.targets.push(*target),
                None => {
                    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
                    return Err(format!(
                        "`{name}` is no target, expected {}",
                        names.join(", ")
                    ));
                }
            },
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

fn replay((name, target): Target, options: &Options) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = read_corpus(&root.join("corpus").join(name)).map_err(|error| error.to_string())?;
    if corpus.is_empty() {
        return Err("the corpus is empty".into());
    }
    for (path, input) in &corpus {
        if !holds(target, input) {
            return Err(format!("{} breaks a promise", path.display()));
        }
    }
    let mut random = Random::new(options.seed);
    let (began, mut tried) = (Instant::now(), 0_u64);
    let time = Duration::from_secs(options.seconds);
    while began.elapsed() < time {
        let mut input = pick(&corpus, &mut random).to_vec();
        for _ in 0..=random.next() % 6 {
            change(&mut input, pick(&corpus, &mut random), &mut random);
        }
        input.truncate(LONGEST);
        tried += 1;
        if !holds(target, &input) {
            let folder = root.join("artifacts").join(name);
            let path = folder.join(format!("replay-{}-{tried}", options.seed));
            let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &input));
            saved.map_err(|error| format!("{}: {error}", path.display()))?;
            return Err(format!("{} breaks a promise", path.display()));
        }
    }
    println!(
        "{name}: {} inputs of the corpus and {tried} changed ones",
        corpus.len()
    );
    Ok(())
}

fn holds(target: fn(&[u8]), input: &[u8]) -> bool {
    std::panic::catch_unwind(|| target(input)).is_ok()
}

fn read_corpus(folder: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut corpus = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        corpus.push((path, input));
    }
    // The order of a folder is the file system's; the changes must follow from the seed alone.
    corpus.sort();
    Ok(corpus)
}

fn pick<'a>(corpus: &'a [(PathBuf, Vec<u8>)], random: &mut Random) -> &'a [u8] {
    &corpus[random.next() as usize % corpus.len()].1
}

/// Makes one change: a bit, a byte, a few bytes more or less, or a part of another input.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.next() as usize % (input.len() + 1);
    let len = 1 + random.next() as usize % 16;
    let end = (at + len).min(input.len());
    match random.next() % 7 {
        0 if at < input.len() => input[at] ^= 1 << (random.next() % 8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 if at < input.len() => input[at] = [0, 1, 0x7F, 0x80, 0xFF][random.next() as usize % 5],
        3 => drop(input.drain(at..end)),
        4 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        5 => {
            let from = random.next() as usize % (other.len() + 1);
            let part = &other[from..(from + 4 * len).min(other.len())];
            input.splice(at..at, part.iter().copied());
        }
        _ => input.insert(at, random.next() as u8),
    }
}
