//! Subscribers that never read cost those that do nothing, and no more memory than is allowed.

use std::process::Command;

#[test]
fn those_that_read_get_everything_whatever_others_do_and_memory_stays_within_its_budget() {
    for policy in ["drop-newest", "disconnect"] {
        let output = Command::new(env!("CARGO_BIN_EXE_slow_subscribers"))
            .args(["--seconds", "3", "--subscribers", "60", "--stalled", "12"])
            .args([
                "--size",
                "4096",
                "--outbox-kib",
                "1024",
                "--budget-mib",
                "8",
            ])
            .args(["--when-full", policy])
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{policy}: {text}{error}");
        let result: serde_json::Value = serde_json::from_str(&text).expect("one line of JSON");
        assert_eq!(result["complete"], 48, "{text}");
    }
}
