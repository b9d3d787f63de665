//! The dashboard of a server, in a thread of its own: a page of ten thousand sessions that has to be sorted does
//! not hold up the messages of others.

use std::net::SocketAddr;
use std::time::Duration;

use network_system::Server;
use network_system::metrics::PerformanceMonitor;
use network_system_dashboard::{Dashboard as Pages, DashboardServer};
use serde_json::json;
use tokio::sync::oneshot;

use crate::exit::{ExitStatus, Failure, chain};
use crate::output::Output;
use crate::settings::DashboardSettings;

/// For how long a stop waits for the thread. The pages end within a second by themselves.
const STOP_TIME: Duration = Duration::from_millis(1_200);

/// A dashboard that is to come. What is wrong with its options is found before the server begins.
pub(super) struct Plan {
    pages: Pages,
    at: SocketAddr,
    is_wanted: bool,
}

impl Plan {
    pub(super) fn new(
        settings: &DashboardSettings,
        server: &Server,
        monitor: &PerformanceMonitor,
    ) -> Result<Self, Failure> {
        let mut builder = Pages::builder(server, monitor);
        if let Some(token) = &settings.token {
            builder = builder.token(token.reveal());
        }
        for host in &settings.hosts {
            builder = builder.allowed_host(host.as_str());
        }
        let pages = builder
            .build()
            .map_err(|error| Failure::usage(chain(&error)))?;
        Ok(Plan {
            pages,
            at: settings.at,
            is_wanted: settings.is_wanted,
        })
    }

    /// Starts it. `None`, and a word about it, when nobody asked for its address and that is taken.
    pub(super) async fn start(self, output: Output) -> Result<Option<Dashboard>, Failure> {
        let Plan {
            pages,
            at,
            is_wanted,
        } = self;
        let (started, start) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("dashboard".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let bound = pages.bind(at).await;
                    let told = match &bound {
                        Ok(running) => Ok(running.url()),
                        Err(error) => Err(chain(error)),
                    };
                    let _ = started.send(told);
                    if let Ok(running) = bound {
                        until(stopped, running).await;
                    }
                });
                let _ = end.send(());
            })?;
        let told = start
            .await
            .unwrap_or_else(|_| Err("the thread of the dashboard ended".to_owned()));
        match told {
            Ok(url) => Ok(Some(Dashboard {
                url,
                is_wanted,
                stop,
                ended,
            })),
            Err(text) if is_wanted => Err(Failure::new(ExitStatus::Failed, text)),
            Err(text) => {
                let text = format!(
                    "no dashboard: {text} (--dashboard ADDR for another address, --dashboard off for none)"
                );
                output.note(&json!({ "event": "no_dashboard", "text": text }), &text);
                Ok(None)
            }
        }
    }
}

/// A dashboard that runs. Dropping it ends it too, a little later.
pub(super) struct Dashboard {
    url: String,
    is_wanted: bool,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Dashboard {
    /// Says where it is: as data to whoever asked for it, and may have asked for any port. Programs that start a
    /// server without knowing of dashboards find on stdout a line for each listener and nothing else.
    pub(super) fn tell(&self, output: Output) {
        let url = &self.url;
        let event = json!({ "event": "dashboard", "url": url });
        let text = format!("dashboard {url}");
        if self.is_wanted {
            // Whoever has read where the listeners are may read no more.
            let _ = output.event(&event, &text);
        } else {
            output.note(&event, &text);
        }
    }

    /// Ends it. Its clients are given a moment.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(STOP_TIME, self.ended).await;
    }
}

async fn until(stopped: oneshot::Receiver<()>, running: DashboardServer) {
    // Dropped, it stops as well.
    let _ = stopped.await;
    running.shutdown().await;
}
