use std::sync::Arc;

use super::*;

#[test]
fn a_global_logger_hears_of_servers_and_can_be_replaced() {
    let (sender, first) = std::sync::mpsc::channel();
    let adapter = logger_system_adapter::new(move |level, message: &str| {
        let _ = sender.send(format!("{level} {message}"));
    });
    set_global_logger(Arc::new(adapter)).expect("no other subscriber in this program");
    let server = messaging_server::new("logged");
    server.start_server(("127.0.0.1", 0)).expect("a free port");
    let expected = format!("INFO listening url=tcp://127.0.0.1:{}", server.port());
    assert!(first.iter().any(|line| line == expected));

    set_global_logger(Arc::new(basic_logger::new(log_level::error))).expect("one is replaced");
    // This ends because the first one is gone, with what it has captured.
    first.iter().for_each(drop);
    server.stop_server().expect("it runs");
}
