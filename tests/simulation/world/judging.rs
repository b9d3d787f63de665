//! Whether all is as was promised.

use super::*;

impl World {
    pub(super) fn report_up(&self, index: usize, messages: Vec<Message>) {
        let numbers = messages
            .iter()
            .filter_map(|message| self.read_any(message))
            .filter(|tag| tag.kind == UP)
            .map(|tag| tag.number)
            .collect();
        self.record().up[index].report(numbers);
    }

    pub(super) fn judge(&self) -> Outcome {
        let (client_sessions, server_sessions) = {
            let mut record = self.record();
            (
                std::mem::take(&mut record.client_sessions),
                std::mem::take(&mut record.server_sessions),
            )
        };
        for (index, session) in &client_sessions {
            self.ended("a client's session", session);
            self.report_up(*index, session.take_unacknowledged());
        }
        let mut resumes = 0;
        for (key, session) in &server_sessions {
            resumes += u64::from(session.stats().resumes);
            self.ended("a server's session", session);
            let numbers = session
                .take_unacknowledged()
                .iter()
                .filter_map(|message| self.read_any(message))
                .filter(|tag| tag.kind == DOWN)
                .map(|tag| tag.number)
                .collect();
            self.record().down.entry(*key).or_default().report(numbers);
        }
        let loses_nothing = self.plan.reliable.is_some() || self.plan.is_gentle;
        let record = &mut *self.record();
        let mut outcome = Outcome {
            faults: std::mem::take(&mut record.faults),
            ..Outcome::default()
        };
        let (faults, counts) = (&mut outcome.faults, &mut outcome.counts);
        for (index, (flow, requests)) in record.up.iter().zip(&record.requests).enumerate() {
            flow.check(&format!("client {index}"), loses_nothing, faults);
            requests.check(&format!("client {index}"), faults);
            counts.messages += flow.handled() as u64;
            counts.lost += flow.lost() as u64;
            counts.answers += requests.answered() as u64;
        }
        for (key, flow) in &record.down {
            flow.check(&format!("session {key:x}"), loses_nothing, faults);
            counts.messages += flow.handled() as u64;
            counts.lost += flow.lost() as u64;
        }
        for (key, asks) in &record.asks {
            asks.check(&format!("session {key:x}"), faults);
            counts.answers += asks.answered() as u64;
        }
        counts.sessions = server_sessions.len() as u64;
        counts.resumes = resumes;
        if self.plan.is_gentle {
            let of_server = record.down.values().map(Flow::reported).sum::<usize>();
            let of_clients = record.up.iter().map(Flow::reported).sum::<usize>();
            let (who, reported) = match self.plan.end {
                End::ServerFirst | End::ServerEarly => ("the server", of_server),
                _ => ("the clients", of_clients),
            };
            if reported > 0 {
                faults.push(format!(
                    "{who} stopped in order, and {reported} messages were not acknowledged"
                ));
            }
        }
        if self.plan.keeps_sessions() {
            for index in 0..self.plan.clients.len() {
                let sessions = client_sessions
                    .iter()
                    .filter(|(of, _)| *of == index)
                    .count();
                if sessions != 1 {
                    faults.push(format!(
                        "client {index} had {sessions} sessions, though none was away for long"
                    ));
                }
            }
            // A session whose welcome was lost has a client that never heard of it.
            let known = record.down.values().filter(|flow| flow.handled() > 0);
            let lost: usize = record.up.iter().chain(known).map(Flow::lost).sum();
            if lost > 0 {
                faults.push(format!("{lost} messages lost, though no session was"));
            }
            let unanswered: usize = record.requests.iter().map(Requests::unanswered).sum();
            if unanswered > 0 {
                faults.push(format!(
                    "{unanswered} requests failed, though no session was lost"
                ));
            }
        }
        outcome
    }

    pub(super) fn ended(&self, whose: &str, session: &Session) {
        if !session.state().is_final() {
            let text = format!(
                "{whose} {} is {:?} in the end",
                session.id(),
                session.state()
            );
            self.fault(text);
        }
    }
}
