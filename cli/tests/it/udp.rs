//! UDP: messages that may be lost, and peers without connections.

use std::net::UdpSocket;

use serde_json::Value;

use crate::bench::run_for;
use crate::peer::PATIENCE;
use crate::program::{Running, Serving, address, connect, listening, run, text};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn lines_are_datagrams_and_the_end_of_stdin_waits_for_answers() {
    for codec in ["", "?codec=msgi"] {
        let server = Serving::at(&format!("udp://127.0.0.1:0{codec}"), &[]);
        let ended = connect(&server.url, &[], b"one\ntwo\n");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), "one\ntwo\n"),
            "{codec}: {}",
            ended.stderr
        );
        assert_eq!(ended.stderr, "", "{codec}");
    }
    let answers = socket();
    let url = format!("udp://{}", answers.local_addr().unwrap());
    let mut client = Running::start(&["connect", &url, "--wait", "4s"]);
    std::io::Write::write_all(client.stdin.as_mut().unwrap(), b"question\n").unwrap();
    drop(client.stdin.take());
    let mut buffer = [0; 100];
    let (length, peer) = answers.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    answers.send_to(b"answer", peer).unwrap();
    assert_eq!(client.line(), "answer");
    assert_eq!(client.end().code, Some(0));
}

#[test]
fn a_message_that_fits_into_no_datagram_is_refused() {
    let server = Serving::at("udp://127.0.0.1:0", &["--udp-datagram-size", "9000"]);
    let line = format!("{}\n", "x".repeat(5_000));
    let ended = connect(&server.url, &[], format!("{line}short\n").as_bytes());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "short\n"));
    assert!(ended.stderr.contains("1452"), "{}", ended.stderr);
    let options = ["--udp-datagram-size", "9000"];
    let ended = connect(&server.url, &options, line.as_bytes());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout == line);
}

#[test]
fn lost_messages_are_counted_and_do_not_end_the_load() {
    let server = socket();
    let url = format!("udp://{}", server.local_addr().unwrap());
    // Answers two of three.
    std::thread::spawn(move || {
        let mut buffer = [0; 2_000];
        let mut number = 0;
        while let Ok((length, peer)) = server.recv_from(&mut buffer) {
            number += 1;
            if number % 3 != 0 {
                let _ = server.send_to(&buffer[..length], peer);
            }
        }
    });
    for options in [&["--window", "4"][..], &["--rate", "500"]] {
        let all = [
            "bench",
            &url,
            "--duration",
            "1200ms",
            "--warmup",
            "0",
            "--json",
            "-",
        ];
        let output = run(&[&all[..], options].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(result["lost"].as_u64() > Some(20), "{result}");
        assert!(result["messages"].as_u64() > Some(40), "{result}");
        assert_eq!(result["errors"], 0, "{result}");
        // What was lost made room for others, and delays nobody's answer.
        assert!(
            result["latency_us"]["p50"].as_f64() < Some(400_000.0),
            "{result}"
        );
    }
}

#[test]
fn a_chat_reaches_people_on_every_transport() {
    let mut server = Running::start(&[
        "serve",
        "--handler",
        "chat",
        "--listen",
        "udp://127.0.0.1:0",
        "--listen",
        "ws://127.0.0.1:0",
    ]);
    let (udp, ws) = (listening(&server.line()), listening(&server.line()));
    let mut browser = Running::start(&["connect", &ws, "--plain", "--stay"]);
    assert!(browser.line().contains("in lobby"));
    let person = socket();
    person.connect(address(&udp)).unwrap();
    let receive = || {
        let mut buffer = [0; 2_000];
        let length = person.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    };
    person.send(b"hello").unwrap();
    assert!(browser.line().ends_with("joined lobby"));
    assert!(browser.line().ends_with(": hello"));
    // So much may be sent to an address that has not shown that it receives.
    assert_eq!(receive(), "*");
    person.send(b"/nick Anna").unwrap();
    assert!(receive().contains("in lobby"));
    assert_eq!(receive(), "you are now Anna");
    assert!(browser.line().ends_with("is now Anna"));
    std::io::Write::write_all(browser.stdin.as_mut().unwrap(), b"welcome, Anna\n").unwrap();
    assert!(receive().ends_with(": welcome, Anna"));
}

#[test]
fn bench_knows_every_transport() {
    let mut arguments = vec!["serve".to_owned()];
    for url in [
        "tls://127.0.0.1:0",
        "ws://127.0.0.1:0/x",
        "wss://127.0.0.1:0",
        "udp://127.0.0.1:0",
        "udp://127.0.0.1:0?codec=msgi",
    ] {
        arguments.extend(["--listen".to_owned(), url.to_owned()]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut server = Running::start(&arguments);
    assert!(server.error_line().contains("ephemeral"));
    for _ in 0..5 {
        let url = listening(&server.line());
        let insecure = url.starts_with("tls") || url.starts_with("wss");
        let plain_udp = url.starts_with("udp") && !url.contains("msgi");
        for mode in ["echo", "oneway", "connect", "idle"] {
            if plain_udp && matches!(mode, "connect" | "idle") {
                continue;
            }
            let mut all = vec!["bench", &url, "--mode", mode, "--connections", "3"];
            all.extend(["--warmup", "0", "--json", "-"]);
            all.extend(insecure.then_some("--insecure"));
            let output = run_for("100ms", &all);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{url} {mode}: {said}");
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(result["errors"], 0, "{url} {mode}: {result}");
            assert_eq!(said.lines().count(), usize::from(insecure), "{said}");
        }
    }
    for url in ["ws://127.0.0.1:0", "wss://127.0.0.1:0"] {
        let server = Serving::at(url, &["--handler", "broadcast"]);
        let mut all = vec!["bench", &server.url, "--mode", "broadcast"];
        all.extend(["--warmup", "0"]);
        all.extend(url.starts_with("wss").then_some("--insecure"));
        let output = run_for("100ms", &all);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}
