//! A small parser for `--name value`, `--name=value` and `--switch`.

use std::str::FromStr;

/// The parsed arguments of one program.
#[derive(Debug, Default)]
pub struct Args {
    positional: Vec<String>,
    flags: Vec<(String, String)>,
}

impl Args {
    /// Sorts `input` into flags that take a value, switches that take none,
    /// and positional arguments.
    ///
    /// # Errors
    ///
    /// Names the first flag that is unknown or lacks its value.
    pub fn parse(
        input: impl IntoIterator<Item = String>,
        valued: &[&str],
        switches: &[&str],
    ) -> Result<Self, String> {
        let mut args = Self::default();
        let mut input = input.into_iter();
        while let Some(word) = input.next() {
            let Some(flag) = word.strip_prefix("--") else {
                args.positional.push(word);
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if valued.contains(&name) {
                let value = value
                    .or_else(|| input.next())
                    .ok_or_else(|| format!("--{name} needs a value"))?;
                args.flags.push((name.to_owned(), value));
            } else if switches.contains(&name) && value.is_none() {
                args.flags.push((name.to_owned(), String::new()));
            } else {
                let known: Vec<String> = valued
                    .iter()
                    .chain(switches)
                    .map(|name| format!("--{name}"))
                    .collect();
                return Err(format!(
                    "unknown flag {word}; valid are {}",
                    known.join(", ")
                ));
            }
        }
        Ok(args)
    }

    /// The positional argument at `index`.
    pub fn positional(&self, index: usize) -> Option<&str> {
        self.positional.get(index).map(String::as_str)
    }

    /// Whether the switch `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, _)| flag == name)
    }

    /// Every value given for `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags
            .iter()
            .filter(move |(flag, _)| flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last value given for `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.flags
            .iter()
            .rev()
            .find(|(flag, _)| flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last value given for `name`, parsed, or `default`.
    ///
    /// # Errors
    ///
    /// Names the flag and the value when it cannot be parsed.
    pub fn parsed<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("--{name}: \"{text}\" is not a valid value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(
            words.iter().map(|word| (*word).to_owned()),
            &["size", "server"],
            &["quick"],
        )
    }

    #[test]
    fn flags_switches_and_positional_arguments_are_told_apart() {
        let args = parse(&[
            "echo",
            "--size=64",
            "--quick",
            "--server",
            "a=b",
            "--server=c",
        ]);
        let args = args.expect("valid arguments");
        assert_eq!(args.positional(0), Some("echo"));
        assert_eq!(args.parsed("size", 1), Ok(64));
        assert!(args.has("quick"));
        assert_eq!(args.all("server").collect::<Vec<_>>(), ["a=b", "c"]);
    }

    #[test]
    fn unknown_flags_and_bad_values_are_named() {
        assert!(parse(&["--speed", "1"]).is_err_and(|text| text.contains("--speed")));
        assert!(parse(&["--size"]).is_err_and(|text| text.contains("--size")));
        let args = parse(&["--size", "big"]).expect("the flag is known");
        assert!(
            args.parsed("size", 1)
                .is_err_and(|text| text.contains("big"))
        );
    }
}
