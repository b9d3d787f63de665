//! `docs/dashboard-api.md` says what the server sends.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::*;

fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboard-api.md");
    fs::read_to_string(path).unwrap()
}

/// Method, path and first JSON block of each section that is about a route.
fn sections() -> Vec<(String, String, Option<Value>)> {
    let text = reference();
    let sections = text.split("\n### ").skip(1).map(|section| {
        let heading = section.lines().next().unwrap();
        let (method, path) = heading.split_once(' ').unwrap();
        // Of a POST, the first block is the request.
        let block = section.split("```json\n").nth(1);
        let example = block.map(|block| {
            let block = block.split("```").next().unwrap();
            serde_json::from_str(block).unwrap_or_else(|error| panic!("{heading}: {error}"))
        });
        (method.to_owned(), path.to_owned(), example)
    });
    sections.collect()
}

/// Whether an answer has exactly the fields of the example, and values of the same kinds.
fn compare(at: &str, example: &Value, answer: &Value) {
    match (example, answer) {
        (Value::Null, _) | (_, Value::Null) => {}
        // Their keys are data.
        (Value::Object(_), Value::Object(_))
            if at.ends_with(".by_code") || at.ends_with(".data") => {}
        (Value::Object(example), Value::Object(answer)) => {
            let keys = |object: &serde_json::Map<String, Value>| {
                object.keys().cloned().collect::<Vec<_>>()
            };
            assert_eq!(keys(example), keys(answer), "{at}");
            for (key, value) in example {
                compare(&format!("{at}.{key}"), value, &answer[key]);
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            for (example, answer) in example.iter().zip(answer) {
                compare(&format!("{at}[]"), example, answer);
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{at}: {answer} is not like {example}"),
    }
}

#[tokio::test]
async fn the_examples_of_the_reference_have_the_fields_that_the_server_sends() {
    let site = site().await;
    let client = site.client("c-7").await;
    client.send("hello").await.unwrap();
    until("a sample was taken", || {
        site.server.stats().messages_sent == 1
    })
    .await;
    let id = site.server.sessions()[0].id();
    let mut compared = 0;
    let mut sections = sections();
    // What ends the session comes last.
    sections.sort_by_key(|(method, path, _)| (method == "POST", path.ends_with("disconnect")));
    for (method, path, example) in sections {
        let Some(example) = example else { continue };
        let path = path
            .replace("{id}", &id.to_string())
            .replace("{name}", "lobby");
        if method == "POST" {
            site.post(&path, Some(TOKEN), &example.to_string())
                .await
                .is(202);
        } else {
            let token = format!("Authorization: Bearer {TOKEN}\r\n");
            let answer = site.ask(&method, &path, &token, "").await.is(200).json();
            compare(&path, &example, &answer);
        }
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
    client.stop().await;
}

#[tokio::test]
async fn the_reference_has_the_error_that_the_server_sends() {
    let text = reference();
    let example = text
        .split("```json\n")
        .find(|block| block.contains("\"error\""))
        .unwrap();
    let example: Value = serde_json::from_str(example.split("```").next().unwrap()).unwrap();
    let site = site().await;
    assert_eq!(site.get("/api/v1/sessions/7").await.is(404).json(), example);
}
