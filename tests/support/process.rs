//! A server in its own process, which can be frozen, starved, killed and measured.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{LONG_PATIENCE, open};
pub(crate) use super::resources::Resources;

/// A serving process, killed when dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// `frameloop` with these arguments, without logs and on a free port of the loopback interface by
/// default.
pub(crate) fn frameloop(arguments: &[&str]) -> Command {
    command_under(&[], arguments)
}

/// [`frameloop`], started by another command that replaces itself with it or detaches from it:
/// `prlimit`, `ip netns exec`, `strace -D`.
pub(crate) fn command_under(wrapper: &[&str], arguments: &[&str]) -> Command {
    let frameloop = env!("CARGO_BIN_EXE_frameloop");
    let mut command = match wrapper {
        [] => Command::new(frameloop),
        [wrapper, its @ ..] => {
            let mut command = Command::new(wrapper);
            command.args(its).arg(frameloop);
            command
        }
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FRAMELOOP_")) {
        command.env_remove(name);
    }
    if !arguments.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

impl ServerProcess {
    /// Starts `frameloop` with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> ServerProcess {
        ServerProcess::spawn(&mut frameloop(arguments))
    }

    /// Waits until the server prints its address.
    pub(crate) fn spawn(command: &mut Command) -> ServerProcess {
        let mut child = command.spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        stdout.read_line(&mut first).expect("it is text");
        // In text or JSON.
        let address = first.trim().trim_end_matches("\"}").rsplit_once("http://");
        let address = address.unwrap_or_else(|| panic!("no address in {first:?}"));
        let address = address.1.parse().expect("an address");
        // Without a reader its next line would break the pipe.
        thread::spawn(move || stdout.lines().count());
        ServerProcess { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("it is piped, and once")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.id(), signal);
    }

    pub(crate) fn resources(&self) -> Resources {
        Resources::of(self.id())
    }

    /// Its resources once all workers have served a connection and no input is left.
    pub(crate) fn settled(&self) -> Resources {
        let first: Vec<_> = (0..8).map(|_| open(self.address, "/echo")).collect();
        assert!(first.iter().all(Result::is_ok), "{first:?}");
        drop(first);
        let mut last = self.resources();
        loop {
            thread::sleep(Duration::from_millis(50));
            let now = self.resources();
            if (now.descriptors, now.threads) == (last.descriptors, last.threads) {
                return now;
            }
            last = now;
        }
    }

    /// Waits until it holds no more descriptors and threads than before.
    #[track_caller]
    pub(crate) fn returns_to(&self, before: Resources) -> Resources {
        let deadline = Instant::now() + LONG_PATIENCE;
        loop {
            let now = self.resources();
            if now.descriptors <= before.descriptors && now.threads <= before.threads {
                return now;
            }
            assert!(Instant::now() < deadline, "{now}; before: {before}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the process has exited.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG_PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not exit");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub(crate) fn lives(&mut self) {
        let status = self.child.try_wait().expect("it is a child");
        assert!(status.is_none(), "the server exited: {status:?}");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal_to(process: u32, signal: Signal) {
    let process = Pid::from_raw(process as i32).expect("a process");
    kill_process(process, signal).expect("it runs");
}

/// Whether a command exists and succeeds.
pub(crate) fn succeeds(command: &str, arguments: &[&str]) -> bool {
    Command::new(command)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
