//! The signals that ask the program to stop, or to read its files again.

use std::io;

/// Notices SIGINT and SIGTERM from the moment it is made; on other systems, Ctrl-C.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(windows)]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Signals {
            interrupt: tokio::signal::windows::ctrl_c()?,
        })
    }

    /// Waits for the next one. Dropping the future loses none.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(windows)]
        let _ = self.interrupt.recv().await;
    }
}

/// Notices SIGHUP; on other systems there is none.
pub(crate) struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    /// Without files to read, a server that someone has started in a terminal ends with it, as programs do;
    /// one that something has started does not, so that a unit may always send the signal.
    #[cfg(unix)]
    pub(crate) fn new(has_files: bool) -> io::Result<Self> {
        use io::IsTerminal;
        use tokio::signal::unix::{SignalKind, signal};
        let wanted = has_files || !io::stdin().is_terminal();
        let signal = wanted.then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Hangup { signal })
    }

    #[cfg(not(unix))]
    pub(crate) fn new(_: bool) -> io::Result<Self> {
        Ok(Hangup {})
    }

    /// Waits for the next one. Dropping the future loses none.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal {
            signal.recv().await;
            return;
        }
        std::future::pending().await
    }
}
