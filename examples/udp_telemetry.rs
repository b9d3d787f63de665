//! UDP: sensors that send and forget, a server that adds up what arrives, and an answer that is asked for.
//!
//! A datagram can be lost, doubled and overtaken. So each carries its number, and nobody counts on all of
//! them. `udp_telemetry multicast` sends to a group instead of to an address.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use network_system::{
    Client, ErrorCode, Message, MulticastGroup, MulticastInterface, Server, Session, UdpOptions,
};

const SENSORS: u32 = 3;
const READINGS: u32 = 200;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 42, 42);

/// What is known of one sensor.
#[derive(Clone, Debug, Default)]
struct Sensor {
    readings: u32,
    sum: f64,
    last: u32,
    late: u32,
}

impl Sensor {
    fn note(&mut self, number: u32, value: f64) {
        if self.readings > 0 && number <= self.last {
            self.late += 1;
            return;
        }
        self.readings += 1;
        self.sum += value;
        self.last = number;
    }

    fn average(&self) -> f64 {
        self.sum / f64::from(self.readings)
    }
}

/// `sensor number value`; anything may arrive on UDP.
fn parse(text: &str) -> Option<(String, u32, f64)> {
    let mut words = text.split(' ');
    let name = words.next()?.to_owned();
    let number = words.next()?.parse().ok()?;
    let value = words.next()?.parse().ok()?;
    words.next().is_none().then_some((name, number, value))
}

type Sensors = Arc<Mutex<BTreeMap<String, Sensor>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let multicast = std::env::args().nth(1).as_deref() == Some("multicast");
    let mut udp = UdpOptions::default();
    let mut listen = "udp://127.0.0.1:0";
    if multicast {
        // On the loopback interface, so that the readings stay on this machine.
        let here = MulticastInterface::V4(Ipv4Addr::LOCALHOST);
        udp.multicast = vec![MulticastGroup::new(GROUP).on(here)];
        udp.multicast_interface = here;
        listen = "udp://0.0.0.0:0";
    }

    let sensors = Sensors::default();
    let known = Arc::clone(&sensors);
    let server = Server::builder()
        .listen(listen)
        .udp(udp.clone())
        .on_message(move |session: Session, message: Message| {
            let known = Arc::clone(&known);
            async move {
                let text = message.as_text().unwrap_or_default();
                if let Some((name, number, value)) = parse(text) {
                    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.entry(name).or_default().note(number, value);
                } else if let Some(name) = text.strip_prefix("average? ") {
                    let answer = {
                        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                        known
                            .get(name.trim_end())
                            .map(|sensor| format!("{:.1}", sensor.average()))
                    };
                    let _ = session.send(answer.unwrap_or("unknown".into())).await;
                }
            }
        })
        .build()?;
    server.start().await?;
    let port = server.local_addrs()[0].port();
    let to = match multicast {
        true => format!("udp://{GROUP}:{port}"),
        false => format!("udp://127.0.0.1:{port}"),
    };
    println!("sending to {to}");

    let mut senders = Vec::new();
    for sensor in 0..SENSORS {
        senders.push(tokio::spawn(send_readings(to.clone(), udp.clone(), sensor)));
    }
    for sender in senders {
        sender.await?.map_err(|error| error.to_string())?;
    }

    // What is asked may be lost too, so it is asked again.
    let client = Client::builder().endpoint(&to).udp(udp.clone()).build()?;
    client.connect().await?;
    let mut answers = client.messages().ok_or("there is a message handler")?;
    let mut average = None;
    for _ in 0..20 {
        client.send("average? sensor-1").await?;
        let answer = tokio::time::timeout(Duration::from_millis(500), answers.next()).await;
        if let Ok(Some(answer)) = answer {
            average = answer.as_text().and_then(|text| text.parse::<f64>().ok());
            break;
        }
    }
    let average = average.ok_or("no answer")?;
    println!("the average of sensor-1 is {average}");
    assert!((20.0..30.0).contains(&average));

    // A message is one datagram. What does not fit is refused, not cut.
    let error = client
        .send(vec![0; udp.datagram_size + 1])
        .await
        .expect_err("too large");
    println!("{error}");
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    client.stop().await;

    server.stop().await?;
    let sensors = sensors.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, sensor) in sensors.iter() {
        let lost = READINGS.saturating_sub(sensor.readings);
        println!(
            "{name}: {} readings, {lost} lost, {} late",
            sensor.readings, sensor.late
        );
        assert!((1..=READINGS).contains(&sensor.readings));
    }
    assert_eq!(sensors.len(), SENSORS as usize);
    Ok(())
}

/// Sends the readings of one sensor, a few a millisecond.
async fn send_readings(
    to: String,
    udp: UdpOptions,
    sensor: u32,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = Client::builder().endpoint(to).udp(udp).build()?;
    client.connect().await?;
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    for number in 0..READINGS {
        if number % 8 == 0 {
            tick.tick().await;
        }
        let value = 20.0 + f64::from((number + sensor) % 10);
        client
            .send(format!("sensor-{sensor} {number} {value:.1}"))
            .await?;
    }
    client.stop().await;
    Ok(())
}
