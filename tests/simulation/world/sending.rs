//! What both sides send.

use super::*;

impl World {
    /// What the server sends on a session.
    pub(super) async fn push(self: Arc<Self>, key: u64, index: usize, session: Session) {
        let load = &self.plan.clients[index];
        let mut random = Random::new(self.plan.seed ^ key.rotate_left(40));
        let mut asking = Vec::new();
        for (number, is_message) in mixed(load.down, load.asks, &mut random) {
            pause(load, &mut random).await;
            let len = random.scaled(load.longest);
            if !is_message {
                let tag = Tag {
                    kind: ASK,
                    of: key,
                    number,
                };
                asking.push(tokio::spawn(Arc::clone(&self).ask(
                    session.clone(),
                    tag,
                    len,
                )));
                continue;
            }
            let message = Tag {
                kind: DOWN,
                of: key,
                number,
            }
            .message(len);
            let sent = session.send(message).await.is_ok();
            let mut record = self.record();
            let flow = record.down.entry(key).or_default();
            match sent {
                true => flow.accept(number),
                false => {
                    flow.refuse(number);
                    break;
                }
            }
        }
        for task in asking {
            let _ = task.await;
        }
        self.until_calm().await;
        while !session.state().is_final() {
            let message = Tag {
                kind: FLUSH,
                of: key,
                number: 0,
            }
            .message(0);
            self.record().flushes[index] += 1;
            match session.request(message, Duration::from_secs(10)).await {
                Ok(_) => break,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        self.net.note("pushed", &[key]);
    }

    pub(super) async fn ask(self: Arc<Self>, session: Session, tag: Tag, len: u64) {
        let message = tag.message(len);
        if let Some(asks) = self.record().asks.get_mut(&tag.of) {
            asks.ask();
        }
        let Ok(answer) = session.request(message.clone(), self.request_time()).await else {
            return;
        };
        if answer.payload() != message {
            self.fault(format!(
                "session {:x}: the wrong answer to request {}",
                tag.of, tag.number
            ));
        }
        if let Some(asks) = self.record().asks.get_mut(&tag.of) {
            asks.answer(tag.number);
        }
    }

    /// What a client sends.
    pub(super) async fn use_client(self: Arc<Self>, index: usize, client: Client) {
        let load = &self.plan.clients[index];
        let mut random = Random::new(self.plan.seed ^ (index as u64).rotate_left(50));
        let of = index as u64;
        while let Err(error) = client.connect().await {
            self.net.note(
                "not connected",
                &[of, error.code().as_i32().unsigned_abs().into()],
            );
            sleep(Duration::from_millis(random.between(1..=200))).await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
        }
        let mut asking = Vec::new();
        for (number, is_message) in mixed(load.up, load.requests, &mut random) {
            pause(load, &mut random).await;
            let len = random.scaled(load.longest);
            if !is_message {
                let tag = Tag {
                    kind: REQUEST,
                    of,
                    number,
                };
                asking.push(tokio::spawn(Arc::clone(&self).request(
                    client.clone(),
                    tag,
                    len,
                )));
                continue;
            }
            let message = Tag {
                kind: UP,
                of,
                number,
            }
            .message(len);
            let sent = client.send(message).await.is_ok();
            let flow = &mut self.record().up[index];
            match sent {
                true => flow.accept(number),
                false => flow.refuse(number),
            }
        }
        for task in asking {
            let _ = task.await;
        }
        self.until_calm().await;
        while !client.state().is_ended() {
            let message = Tag {
                kind: FLUSH,
                of,
                number: 0,
            }
            .message(0);
            self.record().flushes[index] += 1;
            match client.request(message, Duration::from_secs(10)).await {
                Ok(_) => break,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        self.net.note("sent", &[of]);
    }

    pub(super) async fn request(self: Arc<Self>, client: Client, tag: Tag, len: u64) {
        let message = tag.message(len);
        self.record().requests[tag.of as usize].ask();
        let Ok(answer) = client.request(message.clone(), self.request_time()).await else {
            return;
        };
        if answer.payload() != message {
            self.fault(format!(
                "client {}: the wrong answer to request {}",
                tag.of, tag.number
            ));
        }
        self.record().requests[tag.of as usize].answer(tag.number);
    }

    /// How long an answer is waited for.
    fn request_time(&self) -> Duration {
        REQUEST_TIME + self.plan.slowest()
    }

    pub(super) fn calm_down(&self) {
        self.net.calm();
        self.calm.store(true, Ordering::Relaxed);
        self.calmed.notify_waiters();
    }

    pub(super) async fn until_calm(&self) {
        while !self.calm.load(Ordering::Relaxed) {
            self.calmed.notified().await;
        }
    }
}

/// Messages and requests in a random order: the number of each, and whether it is a message.
fn mixed(messages: u32, requests: u32, random: &mut Random) -> Vec<(u32, bool)> {
    let mut left = (messages, requests);
    let mut order = Vec::new();
    while left.0 + left.1 > 0 {
        let is_message = random.below(u64::from(left.0 + left.1)) < u64::from(left.0);
        match is_message {
            true => {
                order.push((messages - left.0, true));
                left.0 -= 1;
            }
            false => {
                order.push((requests - left.1, false));
                left.1 -= 1;
            }
        }
    }
    order
}

async fn pause(load: &Load, random: &mut Random) {
    let longest = load.pause.as_millis() as u64;
    let pause = random.millis(0..=longest);
    if !random.chance(load.burst) {
        sleep(pause).await;
    }
}
