//! Metrics for Prometheus.
//!
//! Each worker counts without atomics, and adds its counts here at least ten times a second. Events
//! that happen only once in the life of a connection are counted here at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::engine::{ConnectionRecord, Disconnect, WorkerStats};
use crate::lock::lock;

/// The metrics of a server. Clones share the same counts.
#[derive(Clone)]
pub struct Metrics(Arc<Registered>);

struct Registered {
    registry: Registry,
    /// The last rendered text, and when it was rendered.
    written: Mutex<Option<(Instant, Bytes)>>,
    counts: Counts,
}

/// The metrics of the server, without its process, in the order of the text.
struct Counts {
    connections: Family<Labels<String, 1>, Gauge>,
    handshakes: Family<Labels<u16, 1>, Counter>,
    closes: Family<(Labels<u16, 2>, Labels<&'static str, 1>), Counter>,
    slow_consumers: Counter,
    publishers_held: Counter,
    /// Received and sent; text, binary and control.
    traffic: [[TrafficMetrics; 3]; 2],
    deliveries: Counter,
    dropped: Counter,
    delivered_bytes: Counter,
    gap_events: Counter,
    discarded: Counter,
    unsent: Gauge,
    backlog: Gauge,
    /// The part of each worker in `backlog`.
    backlogs: Mutex<HashMap<usize, i64>>,
}

type Labels<V, const N: usize> = [(&'static str, V); N];

/// Messages of one type in one direction.
struct TrafficMetrics {
    messages: Counter,
    bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Creates metrics that are all zero.
    pub fn new() -> Metrics {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process::default()));
        let counts = Counts::register(all.sub_registry_with_prefix("frameloop"));
        Metrics(Arc::new(Registered {
            registry: all,
            written: Mutex::default(),
            counts,
        }))
    }

    /// Returns all metrics in the OpenMetrics 1.0 format, at most 100 ms old: the text is rendered
    /// at most ten times a second.
    pub fn text(&self) -> Bytes {
        const AGE: Duration = Duration::from_millis(100);
        let mut written = lock(&self.0.written);
        if let Some((when, text)) = &*written
            && when.elapsed() < AGE
        {
            return text.clone();
        }
        let text = Bytes::from(self.encode());
        *written = Some((Instant::now(), text.clone()));
        text
    }

    /// Renders the current values, without the cache of [`Metrics::text`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }

    /// The media type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counts one event by which messages from other servers may have been lost.
    pub fn gap(&self) {
        self.0.counts.gap_events.inc();
    }

    /// Counts one invalid message from another server.
    pub fn discarded(&self) {
        self.0.counts.discarded.inc();
    }

    pub(crate) fn handshake(&self, status: u16) {
        let labels = [("status", status)];
        self.0.counts.handshakes.get_or_create(&labels).inc();
    }

    pub(crate) fn opened(&self, endpoint: &str) {
        self.connections(endpoint).inc();
    }

    pub(crate) fn closed(&self, endpoint: &str, record: &ConnectionRecord<'_>) {
        self.connections(endpoint).dec();
        let why = record.why;
        let codes = [
            ("code_sent", why.code_sent()),
            ("code_received", why.code_received()),
        ];
        let labels = (codes, [("reason", why.reason())]);
        self.0.counts.closes.get_or_create(&labels).inc();
        if *why == Disconnect::SlowConsumer {
            self.0.counts.slow_consumers.inc();
        }
    }

    /// Adds the counts of a worker.
    pub(crate) fn count(&self, worker: usize, stats: &WorkerStats) {
        let counts = &self.0.counts;
        for (flows, traffic) in [stats.received, stats.sent].iter().zip(&counts.traffic) {
            let flows = [flows.text, flows.data - flows.text, flows.control];
            for (flow, traffic) in flows.iter().zip(traffic) {
                traffic.messages.inc_by(flow.messages);
                traffic.bytes.inc_by(flow.bytes);
            }
        }
        counts.deliveries.inc_by(stats.delivered.messages);
        counts.delivered_bytes.inc_by(stats.delivered.bytes);
        counts.dropped.inc_by(stats.dropped);
        counts.publishers_held.inc_by(stats.holds);
        counts.unsent.set(stats.unsent_bytes as i64);
        let backlog = stats.backlog_bytes as i64;
        let before = lock(&counts.backlogs).insert(worker, backlog);
        counts.backlog.inc_by(backlog - before.unwrap_or(0));
    }

    fn connections(&self, endpoint: &str) -> Gauge {
        let labels = [("endpoint", endpoint.to_owned())];
        self.0.counts.connections.get_or_create(&labels).clone()
    }
}

impl Counts {
    fn register(to: &mut Registry) -> Counts {
        Counts {
            connections: add(to, "connections", "Open WebSockets"),
            handshakes: add(
                to,
                "handshakes",
                "Answers to WebSocket handshakes, and refused requests, by HTTP status",
            ),
            closes: add(
                to,
                "closes",
                "Closed connections, by close codes (1005: a Close without a code; 1006: no Close) and reason",
            ),
            slow_consumers: add(
                to,
                "slow_consumers",
                "Connections closed because the client read too slowly",
            ),
            publishers_held: add(
                to,
                "publishers_held",
                "Times that reading from a client paused because it published too fast",
            ),
            traffic: traffic(to),
            deliveries: add(
                to,
                "fanout_deliveries",
                "Room messages sent, once for each receiver",
            ),
            dropped: add(
                to,
                "fanout_dropped",
                "Room messages dropped because the receiver read too slowly",
            ),
            delivered_bytes: add_bytes(
                to,
                "fanout",
                "Frame bytes of room messages, once for each receiver",
            ),
            gap_events: add(
                to,
                "gap_events",
                "Times that messages from other servers may have been lost",
            ),
            discarded: add(to, "discarded", "Invalid messages from other servers"),
            unsent: add_bytes(
                to,
                "unsent",
                "Memory of bytes that wait to be sent; bytes shared by several clients count once",
            ),
            backlog: add_bytes(to, "backlog", "Bytes that wait to be sent to clients"),
            backlogs: Mutex::default(),
        }
    }
}

/// Messages, without fan-out. A counter is looked up by its labels only once, here.
fn traffic(to: &mut Registry) -> [[TrafficMetrics; 3]; 2] {
    type ByType = Family<Labels<&'static str, 2>, Counter>;
    let messages: ByType = add(to, "messages", "Messages, without fan-out");
    let bytes: ByType = add_bytes(to, "message", "Payload bytes of messages, without fan-out");
    ["received", "sent"].map(|direction| {
        ["text", "binary", "control"].map(|r#type| {
            let labels = [("direction", direction), ("type", r#type)];
            TrafficMetrics {
                messages: messages.get_or_create(&labels).clone(),
                bytes: bytes.get_or_create(&labels).clone(),
            }
        })
    })
}

/// Makes a metric and registers it.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn add_bytes<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
    metric
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

/// Metrics of this process, under the names that all Prometheus libraries use.
#[derive(Debug, Default)]
struct Process(Arc<Mutex<Option<(Instant, Figures)>>>);

/// Figures of this process (proc(5)).
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    resident_memory: Option<u64>,
    open_descriptors: Option<u64>,
    cpu_seconds: Option<f64>,
}

impl Process {
    /// Returns the figures, at most a second old unless reading takes long. A separate thread reads
    /// them: counting many descriptors takes longer than a worker may block.
    fn figures(&self) -> Figures {
        const AGE: Duration = Duration::from_secs(1);
        const PATIENCE: Duration = Duration::from_millis(2);
        let mut read = lock(&self.0);
        let last = match *read {
            Some((when, figures)) if when.elapsed() < AGE => return figures,
            Some((_, figures)) => figures,
            None => Figures::default(),
        };
        // The next reading begins in a second, even if this one is late.
        *read = Some((Instant::now(), last));
        drop(read);
        let (told, reading) = mpsc::sync_channel(1);
        let cell = Arc::clone(&self.0);
        let reader = thread::Builder::new().name(String::from("figures"));
        let spawned = reader.spawn(move || {
            let figures = Figures::read();
            *lock(&cell) = Some((Instant::now(), figures));
            let _ = told.send(figures); // the receiver may have given up
        });
        match spawned {
            Ok(_) => reading.recv_timeout(PATIENCE).unwrap_or(last),
            Err(_) => last,
        }
    }
}

impl Figures {
    fn read() -> Figures {
        Figures {
            resident_memory: resident_memory(),
            open_descriptors: open_descriptors(),
            cpu_seconds: cpu_seconds(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.figures();
        for (name, help, unit, value) in [
            (
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                figures.resident_memory,
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                None,
                figures.open_descriptors,
            ),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value as i64);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        let seconds = ConstCounter::new(figures.cpu_seconds.unwrap_or_default());
        let help = "CPU time spent";
        let unit = Some(&Unit::Seconds);
        seconds.encode(encoder.encode_descriptor(
            "process_cpu",
            help,
            unit,
            seconds.metric_type(),
        )?)
    }
}

/// Resident memory in bytes (proc(5)).
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the size of the directory is the number of descriptors, which is cheap to
    // read.
    let count = std::fs::metadata("/proc/self/fd").ok()?.len();
    if count > 0 {
        return Some(count);
    }
    // The directory itself uses one descriptor.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as u64)
}

/// CPU time in seconds (proc(5)). Linux counts it in ticks of 10 ms.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / 100.0)
}
