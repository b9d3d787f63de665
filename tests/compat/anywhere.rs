use super::*;

/// Start, exchange and stop, all blocking.
fn exchange() {
    let server = echo();
    let (client, messages) = client_of(&server);
    client.send_message("from here").expect("it is connected");
    assert_eq!(messages.next(), b"from here");
    server.broadcast_message("to all").expect("it runs");
    assert_eq!(messages.next(), b"to all");
    client.stop_client().expect("it stops");
    server.stop_server().expect("it runs");
    server.wait_for_stop();
}

#[test]
fn on_a_plain_thread() {
    exchange();
}

#[tokio::test]
async fn inside_a_runtime_of_one_thread() {
    exchange();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_runtime_of_several_threads() {
    exchange();
    tokio::task::spawn_blocking(exchange)
        .await
        .expect("it works there too");
}

#[test]
fn on_many_threads_at_once() {
    static SERVER: OnceLock<Arc<messaging_server>> = OnceLock::new();
    let server = SERVER.get_or_init(echo);
    let ids = Arc::new(Mutex::new(HashSet::new()));
    let known = Arc::clone(&ids);
    server.set_connect_handler(move |session| {
        assert!(
            known
                .lock()
                .expect("nobody panics")
                .insert(session.session_id())
        );
    });
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || {
                let (client, messages) = client_of(server);
                for round in 0..20 {
                    let message = format!("{thread} {round}");
                    client.send_message(&message).expect("it is connected");
                    assert_eq!(messages.next(), message.as_bytes());
                }
            });
        }
    });
    assert_eq!(ids.lock().expect("nobody panics").len(), 16);
    server.stop_server().expect("it runs");
}
