//! A worker: a thread with a runtime and a frame loop of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::accept;
use super::observer::WorkerObserver;
use super::serving::Serving;
use super::{AcceptQueue, Listener, ServerShared};
use crate::engine::{ClientSocket, FrameLoopHandle, Observer};
use crate::http::{HttpContext, Stage};
use crate::protocol::CloseCode;

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<ServerShared>,
    /// Connections that another worker accepted for this one.
    pub(super) inbox: UnboundedReceiver<ClientSocket>,
    /// All listeners if this worker accepts connections, otherwise none.
    pub(super) listeners: Vec<(Listener, AcceptQueue)>,
    /// The channels to all workers.
    pub(super) inboxes: Arc<[UnboundedSender<ClientSocket>]>,
}

impl Worker {
    /// HTTP tasks that run between two looks at the sockets. A task may answer 16 pipelined
    /// requests or read 16 KiB, and WebSocket clients wait meanwhile.
    const TASKS_BETWEEN_LOOKS: u32 = 4;

    /// Runs until the server is shut down.
    pub(super) fn run(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(Self::TASKS_BETWEEN_LOOKS)
            .build_local(LocalOptions::default())?;
        let result = runtime.block_on(self.serve());
        // Unfinished tasks are dropped.
        runtime.shutdown_timeout(Duration::ZERO);
        result
    }

    async fn serve(self) -> io::Result<()> {
        let Worker {
            index,
            shared,
            mut inbox,
            listeners,
            inboxes,
        } = self;
        let observer: Arc<dyn Observer> = Arc::new(WorkerObserver {
            worker: index,
            shared: Arc::clone(&shared),
        });
        let context = HttpContext::new(Arc::clone(&shared.http), observer)?;
        let frame_loop = context.frame_loop.clone();
        let serving = Serving::new(index, Arc::clone(&shared), context);
        for listener in listeners {
            let (inboxes, serving) = (Arc::clone(&inboxes), serving.clone());
            tokio::task::spawn_local(async move {
                let result = accept::accept(listener, &inboxes, &serving).await;
                serving.shared.accepting.fetch_sub(1, Ordering::SeqCst);
                result
            });
        }
        if let Some(give_back) = shared.give_back_memory {
            tokio::task::spawn_local(give_back_memory(index, Arc::clone(&shared), give_back));
        }
        // Also during a drain: a connection from another worker still gets its 503.
        tokio::task::spawn_local(async move {
            while let Some(accepted) = inbox.recv().await {
                serving.serve(accepted);
            }
        });
        let drained = tokio::task::spawn_local(drain(frame_loop.clone(), shared));
        // Not a task: it would wait in the runtime's queue behind all tasks of HTTP.
        let running = frame_loop.clone().run();
        tokio::select! {
            biased;
            result = running => return result,
            drained = drained => drained?,
        }
        frame_loop.cut();
        Ok(())
    }
}

/// Gives memory back after a burst: when the worker has no connections, or at most half of their
/// peak since the last time, or when all clients together hold at most half of their peak in bytes.
async fn give_back_memory(worker: usize, shared: Arc<ServerShared>, give_back: fn()) {
    const LOOK: Duration = Duration::from_secs(1);
    /// Number of looks for each decision.
    const LOOKS: usize = 10;
    /// The smallest peak in bytes that counts as a burst.
    const BURST: usize = 4 << 20;
    let mut most = (0, 0);
    loop {
        let mut now = (0, 0);
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK).await;
            let load = shared.http.loads[worker].load(Ordering::Relaxed);
            now = (load, shared.http.bounds.held());
            most = (most.0.max(now.0), most.1.max(now.1));
        }
        let has_held_less = most.1 >= BURST && now.1 <= most.1 / 2;
        if now.0 <= most.0 / 2 || has_held_less {
            give_back();
            most = now;
        }
    }
}

/// Waits for the shutdown. Then sends this worker's clients a Close, and waits until all workers
/// have no clients, or until the drain timeout. While any worker has WebSockets, all workers answer
/// new requests with 503. After that, requests that have begun are still answered, so that every
/// client gets an answer.
async fn drain(frame_loop: FrameLoopHandle, shared: Arc<ServerShared>) {
    shared.http.shutdown.reached(Stage::Draining).await;
    let emptied = async {
        frame_loop.mailbox().close_all(CloseCode::Away);
        shared.http.router.close().await;
        until(|| shared.websockets.load(Ordering::SeqCst) <= 0).await;
        shared.http.shutdown.reach(Stage::Ending);
        // An accepted connection has its slot before its listener stops accepting.
        until(|| shared.accepting.load(Ordering::SeqCst) == 0).await;
        let is_empty = |load: &AtomicIsize| load.load(Ordering::SeqCst) <= 0;
        until(|| shared.http.loads.iter().all(is_empty)).await;
    };
    // Clients that are left afterwards are cut.
    tokio::select! {
        biased;
        () = shared.http.shutdown.reached(Stage::Cut) => {}
        () = emptied => {}
        () = tokio::time::sleep(shared.drain_timeout) => {}
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    const LOOK_AGAIN: Duration = Duration::from_millis(5);
    while !is_so() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
