//! `netsys cert`: what it makes, and what it leaves alone.

use std::fs;

use crate::program::{Folder, run, text};

/// Runs `netsys cert` on the folder; exit code and stderr.
fn cert(folder: &str, options: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["cert", folder], options].concat(), b"");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn everything_that_is_needed_is_made_and_only_the_user_reads_keys() {
    let folder = Folder::new("cert-new");
    let path = folder.path("certs");
    let (code, said) = cert(&path, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("netsys serve --listen tls://") && said.contains("--ca"),
        "{said}"
    );
    for kind in ["ca", "server", "client"] {
        let certificate = fs::read_to_string(format!("{path}/{kind}.pem")).unwrap();
        assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        let key = format!("{path}/{kind}.key");
        assert!(fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }
}

#[test]
fn nothing_is_replaced_unless_it_is_asked_for() {
    let folder = Folder::new("cert-again");
    let path = folder.path("");
    assert_eq!(cert(&path, &[]).0, Some(0));
    let all = || {
        let names = ["ca.pem", "ca.key", "server.pem", "server.key", "client.key"];
        names.map(|name| fs::read(folder.path(name)).unwrap())
    };
    let before = all();
    for options in [&[][..], &["--only", "ca"], &["--only", "client"]] {
        let (code, said) = cert(&path, options);
        assert_eq!(code, Some(1), "{options:?}");
        assert!(said.contains("--force"), "{said}");
    }
    assert!(before == all());
    assert_eq!(cert(&path, &["--only", "server", "--force"]).0, Some(0));
    let after = all();
    assert!(before[..2] == after[..2] && before[4] == after[4]);
    assert!(before[2] != after[2] && before[3] != after[3]);
    assert_eq!(cert(&path, &["--force"]).0, Some(0));
    assert!(after[0] != all()[0]);
}

#[test]
fn an_authority_that_is_there_is_used_and_must_be_whole() {
    let folder = Folder::new("cert-ca");
    let (first, second) = (folder.path("first"), folder.path("second"));
    assert_eq!(cert(&first, &["--only", "ca"]).0, Some(0));
    let options = ["--ca", &first, "--client-name", "alice@example.org"];
    let output = run(&[&["cert", &second, "--json"], &options[..]].concat(), b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<_> = made["certificates"].as_array().unwrap().iter().collect();
    assert_eq!(kinds.len(), 2, "{made}");
    assert_eq!(kinds[1]["common_name"], "alice@example.org");
    assert!(!fs::exists(format!("{second}/ca.pem")).unwrap());

    fs::remove_file(format!("{first}/ca.key")).unwrap();
    let (code, said) = cert(&folder.path("third"), &["--ca", &first]);
    assert_eq!(code, Some(2));
    assert!(said.contains("ca.key"), "{said}");
    // Names of issuers are made anew, which only works for authorities of this program.
    let foreign = ["server.pem", "server.key"].map(|name| format!("{second}/{name}"));
    fs::copy(&foreign[0], format!("{first}/ca.pem")).unwrap();
    fs::copy(&foreign[1], format!("{first}/ca.key")).unwrap();
    let (code, said) = cert(&folder.path("third"), &["--ca", &first]);
    assert_eq!(code, Some(2));
    assert!(said.contains("not made by netsys cert"), "{said}");
}
