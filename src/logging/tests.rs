use super::*;

/// Keeps what it is given.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<String>>>, Level);

impl Lines {
    fn up_to(level: Level) -> Self {
        Lines(Arc::default(), level)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl Logger for Lines {
    fn enabled(&self, level: Level) -> bool {
        level <= self.1
    }

    fn log(&self, level: Level, target: &str, message: &str) {
        lock(&self.0).push(format!("{level} {target}: {message}"));
    }
}

fn with(logger: impl Logger, call: impl FnOnce()) {
    tracing::subscriber::with_default(LoggerSubscriber::new(logger), call);
}

#[test]
fn a_logger_gets_a_line_with_the_fields() {
    let lines = Lines::up_to(Level::Info);
    with(lines.clone(), || {
        crate::events::server_stopped {
            drained: 3,
            aborted: 0,
        }
        .emit();
        crate::events::tls_reload_failed {
            error: crate::events::shown("no \"key\"\nhere"),
        }
        .emit();
        crate::events::server_task_panicked {}.emit();
    });
    let expected = [
        "info network_system::server: stopped drained=3 aborted=0",
        r#"warn network_system::tls: TLS certificates not exchanged error="no \"key\"\\nhere""#,
        "error network_system::server: a task of the server panicked",
    ];
    assert_eq!(lines.take(), expected);
}

#[test]
fn a_value_cannot_pass_for_other_fields() {
    let lines = Lines::up_to(Level::Info);
    with(lines.clone(), || {
        for error in [r#"x\" code=0 y="#, "two words\\"] {
            let error = crate::events::shown(error);
            crate::events::tls_reload_failed { error }.emit();
        }
    });
    let lines = lines.take();
    assert!(
        lines[0].ends_with(r#"error="x\\\" code=0 y=""#),
        "{}",
        lines[0]
    );
    assert!(lines[1].ends_with(r#"error="two words\\""#), "{}", lines[1]);
}

#[test]
fn a_logger_gets_neither_levels_that_it_does_not_want_nor_events_of_others() {
    let lines = Lines::up_to(Level::Warn);
    with(lines.clone(), || {
        crate::events::listener_closed { url: "tcp://x" }.emit();
        tracing::event!(target: "application", tracing::Level::ERROR, "not ours");
        tracing::event!(target: "network_systems", tracing::Level::ERROR, "not ours");
        crate::events::tls_unverified {}.emit();
    });
    assert_eq!(lines.take().len(), 1);
}

#[test]
fn nothing_is_formatted_for_a_logger_that_does_not_want_it() {
    struct Never;
    impl fmt::Display for Never {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("formatted")
        }
    }
    let lines = Lines::up_to(Level::Warn);
    with(lines.clone(), || {
        crate::events::connection_aborted {
            url: "tcp://x",
            error: crate::events::shown(Never),
        }
        .emit();
    });
    assert!(lines.take().is_empty());
}

#[test]
fn a_logger_that_panics_or_logs_itself_does_no_harm() {
    struct Bad(Lines);
    impl Logger for Bad {
        fn log(&self, level: Level, target: &str, message: &str) {
            crate::events::tls_unverified {}.emit();
            self.0.log(level, target, message);
            panic!("a bad logger");
        }
    }
    let lines = Lines::up_to(Level::Info);
    with(Bad(lines.clone()), || {
        crate::events::listener_closed { url: "tcp://x" }.emit();
        crate::events::listener_closed { url: "tcp://y" }.emit();
    });
    assert_eq!(lines.take().len(), 2);
}

#[test]
fn levels_are_those_of_tracing() {
    for level in Level::ALL {
        assert_eq!(Level::from(tracing::Level::from(level)), level);
    }
    assert!(Level::Error < Level::Trace);
}
