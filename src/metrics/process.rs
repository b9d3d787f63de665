//! What the system says of the process.

/// Resources of the process; what the system does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    /// Seconds since 1970.
    pub(super) start_time: Option<f64>,
}

/// Reads `/proc/self`.
#[cfg(target_os = "linux")]
pub(super) fn read() -> Process {
    let text = |path: &str| text(path).unwrap_or_default();
    let entries = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    Process {
        // One of them is the directory that is being read.
        open_fds: entries.map(|count| count.saturating_sub(1) as u64),
        max_fds: parse::max_fds(&text("/proc/self/limits")),
        ..parse::stat(
            &text("/proc/self/stat"),
            parse::boot_time(&text("/proc/stat")),
            rustix::param::clock_ticks_per_second(),
            rustix::param::page_size() as u64,
        )
    }
}

/// What a file says. The system cuts the name of a program after 15 bytes, in the middle of a character too.
#[cfg(target_os = "linux")]
fn text(path: &str) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes of the process that are in memory.
#[cfg(target_os = "linux")]
pub(super) fn resident() -> Option<u64> {
    let stat = text("/proc/self/stat")?;
    parse::stat(&stat, None, 1, rustix::param::page_size() as u64).resident_bytes
}

/// There is no such thing.
#[cfg(not(target_os = "linux"))]
pub(super) fn resident() -> Option<u64> {
    None
}

/// There is no such thing.
#[cfg(not(target_os = "linux"))]
pub(super) fn read() -> Process {
    Process::default()
}

#[cfg(any(target_os = "linux", test))]
mod parse {
    use super::Process;

    /// What `/proc/self/stat` has.
    pub(super) fn stat(text: &str, boot: Option<u64>, ticks: u64, page: u64) -> Process {
        // The name of the program stands in brackets, and may have any character in it.
        let fields: Vec<&str> = match text.rsplit_once(')') {
            Some((_, rest)) => rest.split_ascii_whitespace().collect(),
            None => return Process::default(),
        };
        // Fields are counted from 1 in proc(5), and these begin with the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |value: u64| value as f64 / ticks.max(1) as f64;
        let cpu = field(14).zip(field(15));
        let start = boot.zip(field(22));
        Process {
            cpu_seconds: cpu.map(|(user, system)| seconds(user + system)),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * page),
            start_time: start.map(|(boot, ticks)| boot as f64 + seconds(ticks)),
            ..Process::default()
        }
    }

    /// The second in which the system was started, from `/proc/stat`.
    pub(super) fn boot_time(text: &str) -> Option<u64> {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix("btime "))?;
        value.trim().parse().ok()
    }

    /// The soft limit of open files, from `/proc/self/limits`. `None` when there is no limit.
    pub(super) fn max_fds(text: &str) -> Option<u64> {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix("Max open files"))?;
        value.split_ascii_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on fails, and says where"
    )]

    use super::*;

    #[test]
    fn the_files_of_linux_are_read() {
        let stat = "7 (a) b ) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 4 0 1000 8192 3 1844 1";
        let process = parse::stat(stat, Some(1_000), 100, 4_096);
        assert_eq!(process.cpu_seconds, Some(2.0));
        assert_eq!(process.virtual_bytes, Some(8_192));
        assert_eq!(process.resident_bytes, Some(12_288));
        assert_eq!(process.start_time, Some(1_010.0));
        assert_eq!(parse::boot_time("cpu 1\nbtime 1700\n"), Some(1_700));
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024     4096    files\n";
        assert_eq!(parse::max_fds(limits), Some(1_024));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for text in ["", "7 (a", "7 (a) S 1", "x) \u{0}", "7 (a) S -1 - - -"] {
            assert_eq!(parse::stat(text, None, 0, 4_096), Process::default());
        }
        assert_eq!(parse::boot_time("btime x"), None);
        assert_eq!(parse::max_fds("Max open files  unlimited  unlimited"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_cut_within_a_character_is_no_obstacle() {
        let name = std::fs::read("/proc/self/comm").unwrap();
        std::fs::write("/proc/self/comm", "0123456789abcd\u{fc}").unwrap();
        let resident = resident();
        std::fs::write("/proc/self/comm", name).unwrap();
        assert!(resident.is_some());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_says_everything() {
        let process = read();
        assert!(process.open_fds.is_some_and(|open| open > 0));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.cpu_seconds.is_some());
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .expect("it is after 1970");
        assert!(
            process
                .start_time
                .is_some_and(|start| { (now.as_secs_f64() - start).abs() < 86_400.0 })
        );
    }
}
