//! How much memory the process may use.

/// Where that is not known.
const ASSUMED: u64 = 1024 * 1024 * 1024;

/// Bytes of memory that the process can have: those of the machine, or those of its control group if that allows
/// less.
pub(super) fn memory() -> u64 {
    known().unwrap_or(ASSUMED)
}

#[cfg(not(target_os = "linux"))]
fn known() -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
fn known() -> Option<u64> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let machine = text("/proc/meminfo").and_then(|text| parse::machine(&text));
    let group = text("/proc/self/cgroup").and_then(|groups| parse::group(&groups, text));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

#[cfg(any(target_os = "linux", test))]
mod parse {
    /// The machine's memory, from `/proc/meminfo`.
    pub(super) fn machine(text: &str) -> Option<u64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// The least that the control groups above the process allow; they are in `/proc/self/cgroup`, and `read` reads
    /// a file.
    pub(super) fn group(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
        let limits = groups.lines().flat_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, kind, path) = (fields.next(), fields.next(), fields.next());
            let (root, file) = match kind {
                Some("") => ("/sys/fs/cgroup", "memory.max"),
                Some(kind) if kind.split(',').any(|kind| kind == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => return Vec::new(),
            };
            let mut limits = Vec::new();
            let mut path = path.unwrap_or_default().trim_end_matches('/');
            loop {
                let limit = read(&format!("{root}{path}/{file}"));
                // Without a limit it says `max`, or a number beyond all memory.
                limits.extend(limit.and_then(|text| text.trim().parse::<u64>().ok()));
                match path.rsplit_once('/') {
                    Some((above, _)) => path = above,
                    None => return limits,
                }
            }
        });
        limits.filter(|&limit| limit > 0).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read() {
        let text = "MemTotal:       24500000 kB\nMemFree:         1000 kB\n";
        assert_eq!(parse::machine(text), Some(24_500_000 * 1024));
        assert_eq!(parse::machine("MemTotal: x kB"), None);
        assert_eq!(parse::machine(""), None);
    }

    #[test]
    fn the_tightest_control_group_above_counts() {
        let read = |path: &str| {
            let limit = match path {
                "/sys/fs/cgroup/a/b/memory.max" => "max\n",
                "/sys/fs/cgroup/a/memory.max" => "1000000\n",
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes" => "9223372036854771712\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "2000000\n",
                _ => return None,
            };
            Some(limit.to_owned())
        };
        assert_eq!(parse::group("0::/a/b\n", read), Some(1_000_000));
        assert_eq!(parse::group("0::/\n", read), None);
        let old = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(parse::group(old, read), Some(2_000_000));
        assert_eq!(parse::group("nonsense", read), None);
    }

    #[test]
    fn a_process_has_memory() {
        assert!(memory() > 1024 * 1024);
    }
}
