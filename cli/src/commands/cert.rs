//! `netsys cert`: certificates for development.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::{CertArgs, CertKind};
use crate::certificates::{Authority, Pair, is_server_name, names, pin};
use crate::exit::{ExitStatus, Failure};
use crate::output::Output;

/// A longer name of a client has no place in a certificate (X.520).
const COMMON_NAME_MAX: usize = 64;

/// A certificate with its key, and the files that they are written to.
struct Made {
    kind: &'static str,
    pair: Pair,
    certificate: PathBuf,
    key: PathBuf,
}

pub(crate) fn run(args: &CertArgs, output: Output) -> Result<ExitStatus, Failure> {
    let wanted = |kind| args.only.is_empty() || args.only.contains(&kind);
    let server_names = server_names(args)?;
    check_client_name(&args.client_name)?;
    let folder = &args.folder;
    let at = |kind: &'static str, pair| Made {
        kind,
        pair,
        certificate: folder.join(kind).with_extension("pem"),
        key: folder.join(kind).with_extension("key"),
    };

    let mut made = Vec::new();
    let authority = match existing_authority(args)? {
        Some(authority) => authority,
        None if !wanted(CertKind::Ca) => {
            return Err(Failure::usage(format_args!(
                "there is no authority in {}: make one with netsys cert, or name its folder with --ca",
                authority_folder(args).display()
            )));
        }
        None => {
            let mut authority = Authority::new(args.days.saturating_mul(10))?;
            let pair = Pair {
                certificate: authority.pair.certificate.clone(),
                key: std::mem::take(&mut authority.pair.key),
            };
            made.push(at("ca", pair));
            authority
        }
    };
    if wanted(CertKind::Server) {
        made.push(at("server", authority.server(&server_names, args.days)?));
    }
    if wanted(CertKind::Client) {
        let pair = authority.client(&args.client_name, args.days)?;
        made.push(at("client", pair));
    }
    write_all(&made, args)?;
    tell(&made, args, output)?;
    Ok(ExitStatus::Done)
}

fn server_names(args: &CertArgs) -> Result<Vec<String>, Failure> {
    if args.name.is_empty() {
        return Ok(["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec());
    }
    match args.name.iter().find(|name| !is_server_name(name)) {
        Some(name) => Err(Failure::usage(format_args!(
            "invalid value `{}` for --name: expected a DNS name or an IP address",
            name.escape_debug()
        ))),
        None => Ok(args.name.clone()),
    }
}

fn check_client_name(name: &str) -> Result<(), Failure> {
    let chars = name.chars().count();
    if !(1..=COMMON_NAME_MAX).contains(&chars) || name.chars().any(char::is_control) {
        return Err(Failure::usage(format_args!(
            "invalid value for --client-name: expected 1 to {COMMON_NAME_MAX} characters"
        )));
    }
    Ok(())
}

fn authority_folder(args: &CertArgs) -> &Path {
    args.ca.as_deref().unwrap_or(&args.folder)
}

/// The authority that is there, unless it is to be replaced.
fn existing_authority(args: &CertArgs) -> Result<Option<Authority>, Failure> {
    if args.ca.is_some() && args.only.contains(&CertKind::Ca) {
        let text = "--ca names an authority that is there: --only ca makes a new one";
        return Err(Failure::usage(text));
    }
    let folder = authority_folder(args);
    let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    let is_there = certificate.exists() || key.exists();
    // Asked for by name, it is made, or refused because it is there.
    let makes_one = args.only.contains(&CertKind::Ca) || (args.only.is_empty() && args.force);
    if args.ca.is_none() && (!is_there || makes_one) {
        return Ok(None);
    }
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            Failure::usage(format_args!("cannot read {}: {error}", path.display()))
        })
    };
    let pair = Pair {
        certificate: read(&certificate)?,
        key: read(&key)?,
    };
    Authority::load(pair).map(Some).map_err(|failure| Failure {
        text: format!("{}: {}", certificate.display(), failure.text),
        ..failure
    })
}

/// Writes everything, or nothing when a file is there that must stay.
fn write_all(made: &[Made], args: &CertArgs) -> Result<(), Failure> {
    let files = || {
        made.iter().flat_map(|made| {
            [
                (&made.key, &made.pair.key, 0o600),
                (&made.certificate, &made.pair.certificate, 0o644),
            ]
        })
    };
    if !args.force
        && let Some((path, ..)) = files().find(|(path, ..)| path.symlink_metadata().is_ok())
    {
        return Err(there_already(path));
    }
    let failed = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => there_already(path),
        _ => Failure::new(
            ExitStatus::Failed,
            format_args!("cannot write {}: {error}", path.display()),
        ),
    };
    fs::create_dir_all(&args.folder).map_err(|error| failed(&args.folder, error))?;
    for (path, text, mode) in files() {
        write(path, text, mode, args.force).map_err(|error| failed(path, error))?;
    }
    Ok(())
}

fn there_already(path: &Path) -> Failure {
    let text = format!("{} is there already; --force replaces it", path.display());
    Failure::new(ExitStatus::Failed, text)
}

fn write(path: &Path, text: &str, mode: u32, force: bool) -> io::Result<()> {
    if !force {
        return create(path, mode)?.write_all(text.as_bytes());
    }
    // A server that reads it meanwhile finds the old file or the new one.
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create(&new, mode)?.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

/// Makes a file that was not there, with its final mode from the beginning.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)
}

fn tell(made: &[Made], args: &CertArgs, output: Output) -> Result<(), Failure> {
    let mut objects = Vec::new();
    let mut text = String::new();
    for made in made {
        let info = made.pair.info()?;
        let mut object = json!({
            "kind": made.kind,
            "certificate": made.certificate.display().to_string(),
            "key": made.key.display().to_string(),
            "common_name": info.common_name(),
            "pin": pin(&info),
            "days": if made.kind == "ca" { args.days.saturating_mul(10) } else { args.days },
        });
        let whom = match made.kind {
            "server" => {
                let names = names(&info);
                object["names"] = json!(names);
                names.join(", ")
            }
            _ => info.common_name().unwrap_or_default(),
        };
        text += &format!("{:<7} {}\n", made.kind, made.certificate.display());
        text += &format!("        {}\n        {whom}\n", made.key.display());
        objects.push(object);
    }
    if output.json {
        return Ok(output.line(json!({ "event": "made", "certificates": objects }).to_string())?);
    }
    output.line(text.trim_end())?;
    output.hint(&usage(made, args));
    Ok(())
}

/// How what was made is used.
fn usage(made: &[Made], args: &CertArgs) -> String {
    let folder = &args.folder;
    let authority = authority_folder(args).join("ca.pem");
    let has = |kind| made.iter().any(|made| made.kind == kind);
    let shown = |name: &str| folder.join(name).display().to_string();
    let mut text = String::new();
    if has("server") {
        text += &format!(
            "\nnetsys serve --listen tls://127.0.0.1:7643 --cert {} --key {}\n\
             netsys connect tls://127.0.0.1:7643 --ca {}\n",
            shown("server.pem"),
            shown("server.key"),
            authority.display()
        );
    }
    if has("client") {
        text += &format!(
            "\nWith clients that have to show a certificate:\n\
             netsys serve … --client-ca {}\n\
             netsys connect … --cert {} --key {}\n",
            authority.display(),
            shown("client.pem"),
            shown("client.key")
        );
    }
    text
}
