//! What a bridge says of itself.

use std::fmt::{self, Write};

use super::config::bridge_config;
use super::shared::{Phase, Shared};

/// One thing a line, each with a name before a colon.
pub(super) fn report(shared: &Shared, config: &bridge_config) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, shared, config);
    text
}

fn write(out: &mut String, shared: &Shared, config: &bridge_config) -> fmt::Result {
    let on_off = |on: bool| if on { "on" } else { "off" };
    writeln!(out, "bridge: \"{}\"", shared.id().escape_debug())?;
    let state = match shared.phase() {
        Phase::New => "not started",
        Phase::Running => "running",
        Phase::Stopped => "stopped",
    };
    writeln!(out, "state: {state}")?;
    let threads = match (shared.is_inline(), shared.pool_size()) {
        (true, _) => "none, inline".to_owned(),
        (false, Some(size)) => format!("pool of {size}"),
        (false, None) => "as needed".to_owned(),
    };
    writeln!(out, "callback threads: {threads}")?;
    match shared.reads_containers() {
        true => writeln!(out, "containers: {}", shared.factory().format())?,
        false => writeln!(out, "containers: off")?,
    }
    let monitoring = on_off(config.enable_performance_monitoring);
    writeln!(out, "performance monitoring: {monitoring}")?;
    let logging = on_off(config.enable_message_logging);
    writeln!(out, "message logging: {logging}")?;
    let most = config.max_connections_per_client;
    match config.enable_connection_pooling {
        true => writeln!(out, "connection pooling: up to {most} connections a pool")?,
        false => writeln!(out, "connection pooling: off")?,
    }
    let timeout = config.connection_timeout.as_millis();
    writeln!(out, "connection timeout: {timeout} ms")?;
    let timeout = config.message_timeout.as_millis();
    writeln!(out, "message timeout: {timeout} ms")?;
    match config.message_buffer_size {
        0 | 8192 => writeln!(out, "message buffers: the system's")?,
        size => writeln!(out, "message buffers: {size} bytes")?,
    }
    writeln!(out, "compression: {}", on_off(config.enable_compression))?;
    writeln!(out, "encryption: {}", on_off(config.enable_encryption))?;

    let metrics = shared.metrics().read();
    writeln!(
        out,
        "connections: {} active, {} in all, {} failed",
        metrics.active_connections, metrics.total_connections, metrics.failed_connections
    )?;
    writeln!(
        out,
        "messages: {} sent, {} received",
        metrics.messages_sent, metrics.messages_received
    )?;
    writeln!(
        out,
        "bytes: {} sent, {} received",
        metrics.bytes_sent, metrics.bytes_received
    )?;
    match metrics.max_latency_us {
        0 => writeln!(out, "latency: not measured yet")?,
        max => writeln!(
            out,
            "latency: {} us on average, {} to {max} us",
            metrics.avg_latency_us, metrics.min_latency_us
        )?,
    }
    writeln!(
        out,
        "errors: {} sending, {} receiving, {} timeouts",
        metrics.send_errors, metrics.receive_errors, metrics.timeout_errors
    )?;

    let made = shared.made();
    let servers = made.iter().filter(|made| made.is_server()).count();
    writeln!(out, "servers: {servers}")?;
    for server in made.iter().filter(|made| made.is_server()) {
        writeln!(out, "  {}", server.line())?;
    }
    writeln!(out, "clients: {}", made.len() - servers)?;
    for client in made.iter().filter(|made| !made.is_server()) {
        writeln!(out, "  {}", client.line())?;
    }
    Ok(())
}
