//! TLS of `netsys serve` and `netsys connect`, with the certificates of `netsys cert`.

use serde_json::Value;

use crate::program::{Folder, Running, Serving, connect, listening, run, text};

/// Certificates in a folder of the test's own.
struct Certificates(Folder);

impl Certificates {
    fn new(test: &str) -> Self {
        let certificates = Certificates(Folder::new(test));
        certificates.make(&[]);
        certificates
    }

    /// Runs `netsys cert` and returns what it has made.
    fn make(&self, options: &[&str]) -> Value {
        let folder = self.0.path("");
        let mut all = vec!["cert", &folder, "--json"];
        all.extend(options);
        let output = run(&all, b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }

    /// Serves with the server's certificate.
    fn serve(&self, listen: &str, options: &[&str]) -> Serving {
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        Serving::at(
            listen,
            &[&["--cert", &cert, "--key", &key], options].concat(),
        )
    }

    /// Connects, trusting the authority.
    fn connect(&self, url: &str, options: &[&str]) -> (Option<i32>, String, String) {
        let ca = self.path("ca.pem");
        let ended = connect(url, &[&["--ca", &ca], options].concat(), b"hello\n");
        (ended.code, ended.stdout, ended.stderr)
    }
}

const SECURE: [&str; 3] = [
    "tls://127.0.0.1:0",
    "wss://127.0.0.1:0/path",
    "tls://127.0.0.1:0?codec=lines",
];

#[test]
fn certificates_of_cert_are_trusted_by_whoever_trusts_their_authority() {
    let certificates = Certificates::new("tls-trust");
    for listen in SECURE {
        let server = certificates.serve(listen, &["--tls-min", "1.3"]);
        let (code, said, error) = certificates.connect(&server.url, &[]);
        assert_eq!((code, said.as_str()), (Some(0), "hello\n"), "{error}");
        let (code, _, error) = certificates.connect(&server.url, &["--json"]);
        assert_eq!(code, Some(0));
        let connected: Value = serde_json::from_str(error.lines().next().unwrap()).unwrap();
        assert_eq!(connected["tls"]["version"], "1.3", "{connected}");
        assert_eq!(connected["tls"]["names"][0], "localhost");
    }
}

#[test]
fn a_wrong_name_and_a_strange_authority_are_refused_with_exit_code_4() {
    let certificates = Certificates::new("tls-refused");
    for listen in SECURE {
        let server = certificates.serve(listen, &[]);
        let wrong = ["--server-name", "other.example"];
        let (code, said, error) = certificates.connect(&server.url, &wrong);
        assert_eq!((code, said.as_str()), (Some(4), ""), "{listen}");
        assert!(error.contains("other.example"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        // The platform's authorities have not issued it.
        let ended = connect(&server.url, &[], b"hello\n");
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        let bench = run(&["bench", &server.url, "--duration", "100ms"], b"");
        assert_eq!(bench.status.code(), Some(4), "{}", text(&bench.stderr));
    }
}

#[test]
fn clients_show_certificates_where_they_are_asked_for() {
    let certificates = Certificates::new("tls-mutual");
    let ca = certificates.path("ca.pem");
    let (cert, key) = (
        certificates.path("client.pem"),
        certificates.path("client.key"),
    );
    let own = ["--cert", &cert, "--key", &key];
    for listen in SECURE {
        let server = certificates.serve(listen, &["--client-ca", &ca]);
        let (code, said, error) = certificates.connect(&server.url, &own);
        assert_eq!((code, said.as_str()), (Some(0), "hello\n"), "{error}");
        let (code, said, error) = certificates.connect(&server.url, &[]);
        assert_eq!((code, said.as_str()), (Some(4), ""), "{listen}: {error}");
        assert!(error.contains("Certificate"), "{error}");

        let server = certificates.serve(listen, &["--client-ca", &ca, "--client-auth", "optional"]);
        for options in [&[][..], &own] {
            let (code, said, error) = certificates.connect(&server.url, options);
            assert_eq!((code, said.as_str()), (Some(0), "hello\n"), "{error}");
        }
    }
}

#[test]
fn each_name_has_its_certificate() {
    let certificates = Certificates::new("tls-names");
    let ca = certificates.path("");
    let other = certificates.path("other");
    let names = ["--only", "server", "--name", "a.test", "--name", "b.test"];
    let made = run(&[&["cert", &other, "--ca", &ca], &names[..]].concat(), b"");
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let (cert, key) = (format!("{other}/server.pem"), format!("{other}/server.key"));
    let server = certificates.serve("tls://127.0.0.1:0", &["--cert", &cert, "--key", &key]);
    for name in ["localhost", "127.0.0.1", "a.test", "b.test"] {
        let (code, _, error) = certificates.connect(&server.url, &["--server-name", name]);
        assert_eq!(code, Some(0), "{name}: {error}");
    }
}

#[test]
#[cfg(unix)]
fn a_hangup_exchanges_certificates_and_keeps_them_when_the_new_ones_are_bad() {
    let certificates = Certificates::new("tls-hangup");
    let pin = |made: &Value| made["certificates"][0]["pin"].as_str().unwrap().to_owned();
    let renew = ["--only", "server", "--force"];
    let old = pin(&certificates.make(&renew));
    let mut server = certificates.serve("tls://127.0.0.1:0", &[]);
    let url = server.url.clone();
    let code = |pin: &str| certificates.connect(&url, &["--pin", pin]).0;
    assert_eq!(code(&old), Some(0));

    let new = pin(&certificates.make(&renew));
    assert_eq!(code(&old), Some(0), "nothing was read again yet");
    server.program.signal(rustix::process::Signal::HUP);
    let said = server.program.error_line();
    assert!(said.contains("read again") && said.contains(&new), "{said}");
    assert_eq!((code(&new), code(&old)), (Some(0), Some(4)));

    let key = certificates.path("server.key");
    let other = std::fs::read(certificates.path("client.key")).unwrap();
    for bad in [&b"not a key"[..], &other] {
        std::fs::write(&key, bad).unwrap();
        server.program.signal(rustix::process::Signal::HUP);
        let said = server.program.error_line();
        assert!(
            said.contains("stay as they are") && said.contains(&key),
            "{said}"
        );
        assert_eq!(code(&new), Some(0), "the old ones are in use");
    }
    assert_eq!(server.program.terminate().code, Some(0));
}

#[test]
#[cfg(unix)]
fn a_hangup_without_files_is_answered_and_ends_nothing() {
    let mut server = Serving::start(&[]);
    server.program.signal(rustix::process::Signal::HUP);
    let said = server.program.error_line();
    assert!(said.contains("SIGHUP"), "{said}");
    assert_eq!(server.program.terminate().code, Some(0));
}

#[test]
fn without_a_certificate_the_server_makes_one_and_says_how_it_is_known() {
    for listen in ["tls://127.0.0.1:0", "wss://127.0.0.1:0"] {
        let mut program = Running::start(&["serve", "--listen", listen]);
        let said = program.error_line();
        assert!(said.contains("ephemeral"), "{said}");
        let pin = said.rsplit(' ').next().unwrap();
        let url = listening(&program.line());
        let ended = connect(&url, &["--insecure", "--pin", pin], b"hello\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello\n"));
        assert_eq!(ended.stderr, "", "the pin vouches for the server");
        let other = format!("sha256/{}", "0".repeat(64));
        let ended = connect(&url, &["--insecure", "--pin", &other], b"hello\n");
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        let ended = connect(&url, &["--insecure"], b"hello\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello\n"));
        assert!(ended.stderr.contains("warning"), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn the_configuration_file_has_the_same_options() {
    let certificates = Certificates::new("tls-file");
    let file = certificates.path("serve.toml");
    let (cert, key) = (
        certificates.path("server.pem"),
        certificates.path("server.key"),
    );
    let content = format!(
        "listen = [\"wss://127.0.0.1:0/x\", \"udp://127.0.0.1:0\"]\ncert = [{cert:?}]\nkey = {key:?}\n\
         client-ca = {:?}\nclient-auth = \"optional\"\ntls-min = \"1.3\"\norigin = [\"https://a.example\"]\n\
         compression = false\ncompression-threshold = \"64\"\nudp-datagram-size = 9000\n\
         udp-sessions = 10\nproxy-protocol = [\"10.0.0.0/8\"]\n",
        certificates.path("ca.pem")
    );
    std::fs::write(&file, content).unwrap();
    let mut program = Running::start(&["serve", "--config", &file]);
    assert!(listening(&program.line()).starts_with("wss://127.0.0.1:"));
    assert!(listening(&program.line()).starts_with("udp://127.0.0.1:"));
}
