//! Servers built on the library, to be measured against the baselines: one for each form of a handler and each
//! kind of runtime.
//!
//! `sessions [lent|closure|broadcast] [current|multi] [EXECUTOR] [--metrics] [--reliable] [--listen URL]` prints `listening URL` and runs until it is
//! killed. `lent` and `closure` echo with the two forms of a handler, `broadcast` sends each message to every
//! other session. `current` is a current-thread runtime; `multi` is a multi-thread one with one worker, so that
//! both use one core. EXECUTOR is where handlers run: `inline`, `runtime`, `single-thread`, `threads` (two of
//! them); without it, on the worker. With `--metrics` a monitor watches the server;
//! with `--reliable` it has reliable sessions for those that ask for them, as `load --reliable` does.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the runner reads what is printed"
)]

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use network_system::metrics::PerformanceMonitor;
use network_system::tls::TlsServer;
use network_system::{
    Handler, Limits, Message, Reliability, Server, ServerBuilder, Session, Timeouts, executor,
};

const USAGE: &str = "usage: sessions [lent|closure|broadcast] [current|multi] \
    [inline|runtime|single-thread|threads] [--metrics] [--reliable] [--listen URL]";

/// Sends messages back, from the buffer in which they were read.
struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, message: &Message) {
        let _ = session.send(message).await;
    }
}

/// Sends messages to all other sessions. The server is known once it is built.
struct Broadcast(Arc<OnceLock<Server>>);

impl Handler for Broadcast {
    async fn on_message(&self, session: &Session, message: &Message) {
        if let Some(server) = self.0.get() {
            let _ = server.broadcast_except(message, &[session.id()]).await;
        }
    }
}

#[derive(Clone, Copy)]
enum Form {
    Lent,
    Closure,
    Broadcast,
}

#[derive(Clone, Copy)]
enum On {
    Worker,
    Inline,
    Runtime,
    Threads(usize),
}

struct Options {
    form: Form,
    on: On,
    multi: bool,
    metrics: bool,
    reliable: bool,
    listen: String,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let listen = "tcp://127.0.0.1:0".to_owned();
    let mut options = Options {
        form: Form::Lent,
        on: On::Worker,
        multi: false,
        metrics: false,
        reliable: false,
        listen,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "lent" => options.form = Form::Lent,
            "closure" => options.form = Form::Closure,
            "broadcast" => options.form = Form::Broadcast,
            "current" => options.multi = false,
            "multi" => options.multi = true,
            "inline" => options.on = On::Inline,
            "runtime" => options.on = On::Runtime,
            "single-thread" => options.on = On::Threads(1),
            "threads" => options.on = On::Threads(2),
            "--metrics" => options.metrics = true,
            "--reliable" => options.reliable = true,
            "--listen" => options.listen = args.next()?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sessions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut runtime = match options.multi {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let server = build(options)?;
        server.start().await?;
        for url in server.urls() {
            println!("listening {url}");
        }
        server.wait_for_stop().await;
        Ok(())
    })
}

fn build(options: &Options) -> Result<Server, Box<dyn std::error::Error>> {
    let mut limits = Limits::default();
    limits.max_connections = 0;
    // Connections that only wait are a case of their own; they must not be closed.
    let mut timeouts = Timeouts::default();
    timeouts.idle = std::time::Duration::ZERO;
    let builder = Server::builder()
        .listen(&options.listen)
        .limits(limits)
        .timeouts(timeouts);
    let builder = match options.listen.starts_with("tls:") || options.listen.starts_with("wss:") {
        true => builder.tls(certificate()?),
        false => builder,
    };
    let builder = match options.on {
        On::Worker => builder,
        On::Inline => builder.executor(executor::Inline),
        On::Runtime => builder.executor(executor::Runtime::current()),
        On::Threads(threads) => builder.executor(executor::ThreadPool::new(threads, 1_024)?),
    };
    let builder = match options.metrics {
        true => builder.monitor(&PerformanceMonitor::new()),
        false => builder,
    };
    let builder = match options.reliable {
        true => builder.reliable(Reliability::default()),
        false => builder,
    };
    let own = Arc::new(OnceLock::new());
    let server = with_handler(builder, options.form, &own).build()?;
    let _ = own.set(server.clone());
    Ok(server)
}

/// A certificate that is made now.
fn certificate() -> Result<TlsServer, Box<dyn std::error::Error>> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = certified.signing_key.serialize_pem();
    Ok(TlsServer::from_pem(certified.cert.pem(), key)?)
}

fn with_handler(builder: ServerBuilder, form: Form, own: &Arc<OnceLock<Server>>) -> ServerBuilder {
    match form {
        Form::Lent => builder.handler(Echo),
        Form::Closure => builder.on_message(|session: Session, message: Message| async move {
            let _ = session.send(message).await;
        }),
        Form::Broadcast => builder.handler(Broadcast(Arc::clone(own))),
    }
}
