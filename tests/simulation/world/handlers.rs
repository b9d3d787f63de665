//! What handlers of both sides do.

use super::*;

impl World {
    pub(super) fn opened(self: &Arc<Self>, key: u64, session: Session) {
        self.net.note("server session", &[key]);
        let Ok(index) = session.client_id().parse::<usize>() else {
            return self.fault(format!(
                "session {key:x} has the client id `{}`",
                session.client_id()
            ));
        };
        let pusher = tokio::spawn(Arc::clone(self).push(key, index, session.clone()));
        let mut record = self.record();
        record.server_sessions.push((key, session));
        record.down.insert(key, Flow::default());
        record.asks.insert(key, Requests::default());
        record.pushers.push(pusher);
    }

    pub(super) async fn got_up(&self, key: u64, session: &Session, message: &Message) {
        match self.read(message, UP) {
            Some(tag) if session.client_id() == tag.of.to_string() => {
                self.net.note("up", &[key, tag.number.into()]);
                self.record().up[tag.of as usize].handle(key, tag.number);
                self.dawdle(tag.of as usize, tag.number).await;
            }
            Some(tag) => self.fault(format!(
                "session {key:x} got a message of client {}",
                tag.of
            )),
            None => {}
        }
    }

    pub(super) async fn got_down(&self, index: usize, message: &Message) {
        let Some(tag) = self.read(message, DOWN) else {
            return;
        };
        self.net.note("down", &[tag.of, tag.number.into()]);
        match self.record().down.get_mut(&tag.of) {
            Some(flow) => flow.handle(tag.of, tag.number),
            None => self.fault(format!(
                "a message of session {:x}, which there is not",
                tag.of
            )),
        }
        self.dawdle(index, tag.number).await;
    }

    pub(super) async fn answer_up(
        &self,
        key: u64,
        session: &Session,
        message: Message,
    ) -> Result<Message, RequestError> {
        let Some(tag) = self.read_any(&message) else {
            return Ok(message);
        };
        if tag.kind == REQUEST {
            if session.client_id() != tag.of.to_string() {
                self.fault(format!(
                    "session {key:x} got a request of client {}",
                    tag.of
                ));
            }
            self.net.note("request", &[key, tag.number.into()]);
            self.record().requests[tag.of as usize].execute(tag.number);
            self.dawdle(tag.of as usize, tag.number).await;
        }
        Ok(message)
    }

    pub(super) async fn answer_down(
        &self,
        index: usize,
        message: Message,
    ) -> Result<Message, RequestError> {
        let Some(tag) = self.read_any(&message) else {
            return Ok(message);
        };
        if tag.kind == ASK {
            self.net.note("ask", &[tag.of, tag.number.into()]);
            if let Some(asks) = self.record().asks.get_mut(&tag.of) {
                asks.execute(tag.number);
            }
            self.dawdle(index, tag.number).await;
        }
        Ok(message)
    }

    pub(super) fn read_any(&self, message: &Message) -> Option<Tag> {
        Tag::of(message.payload())
            .map_err(|fault| self.fault(fault))
            .ok()
    }

    pub(super) fn read(&self, message: &Message, kind: u8) -> Option<Tag> {
        let tag = self.read_any(message)?;
        if tag.kind != kind {
            self.fault(format!(
                "a message of the kind {:?} in the wrong place",
                tag.kind as char
            ));
            return None;
        }
        Some(tag)
    }

    /// Some handlers take their time.
    pub(super) async fn dawdle(&self, index: usize, number: u32) {
        let load = &self.plan.clients[index];
        let mut random = Random::new(self.plan.seed ^ u64::from(number) << 8);
        if random.chance(load.slow) {
            sleep(random.millis(1..=load.handling.as_millis() as u64)).await;
        }
    }
}
