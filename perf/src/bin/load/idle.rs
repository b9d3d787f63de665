//! `idle`: opens connections, exchanges one message on each, and holds them
//! until standard input says so or ends. Then every connection must still
//! answer.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use network_system_perf::report::Report;

use crate::outgoing::Scratch;
use crate::peer::{self, Opening};
use crate::shape::Shape;
use crate::window::Window;
use crate::{KEEP_ALIVE, Options, READ_BUFFER};

#[allow(clippy::print_stdout)] // The runner waits for this line.
pub(crate) fn run(options: &Options) -> io::Result<Report> {
    let shape = Shape::new(options.format(), options.size);
    let begin = Instant::now();
    let mut window = Window::open(options.pid)?;
    let Options {
        target,
        connections,
        reliable,
        ..
    } = options;
    let mut peers = peer::open(target, *connections, Opening::Echo, &shape, *reliable)?;
    window.count(peers.len() as u64, begin, Instant::now());
    let report = window.close()?;
    println!("open {}", peers.len());

    let (sender, told) = mpsc::channel();
    thread::spawn(move || {
        // Whether a line came or the input ended is the same.
        let _ = io::stdin().read_line(&mut String::new());
        let _ = sender.send(());
    });
    while let Err(RecvTimeoutError::Timeout) = told.recv_timeout(KEEP_ALIVE) {
        for peer in &mut peers {
            peer.stream.write_all(&shape.keep_alive())?;
        }
    }

    let mut buffer = vec![0; READ_BUFFER];
    let mut scratch = Scratch::default();
    for peer in &mut peers {
        peer.outgoing.queue(1);
        peer.write(&shape, &mut scratch)?;
        peer::wait_for_answer(peer, &shape, &mut buffer)?;
    }
    Ok(report)
}
