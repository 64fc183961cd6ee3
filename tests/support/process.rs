//! A server in its own process, which can be frozen, starved, killed and measured.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, LONG_PATIENCE, PATIENCE, connect, open};
pub(crate) use super::resources::Resources;

pub(crate) const FRAMELOOP: &str = env!("CARGO_BIN_EXE_frameloop");

/// A serving process, killed when dropped.
pub(crate) struct ServerProcess {
    child: Child,
    /// The URL in the first line of the standard output.
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    /// The rest of the standard output.
    pub(crate) stdout: BufReader<ChildStdout>,
}

/// `frameloop` with these arguments, without input, without logs and without its variables.
pub(crate) fn frameloop(arguments: &[&str]) -> Command {
    command_under(&[], arguments)
}

/// [`frameloop`], started by another command that replaces itself with it or detaches from it:
/// `prlimit`, `ip netns exec`, `strace -D`.
pub(crate) fn command_under(wrapper: &[&str], arguments: &[&str]) -> Command {
    let words = [wrapper, &[FRAMELOOP], arguments].concat();
    let mut command = Command::new(words[0]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FRAMELOOP_")) {
        command.env_remove(name);
    }
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs a command to its end. Returns its exit code, its standard output and its standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    let output = output.expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

impl ServerProcess {
    /// Starts `frameloop` with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> ServerProcess {
        ServerProcess::spawn(&mut frameloop(arguments))
    }

    /// Starts `frameloop` with these arguments, and its log in a pipe.
    pub(crate) fn logging(arguments: &[&str]) -> ServerProcess {
        ServerProcess::spawn(frameloop(arguments).stderr(Stdio::piped()))
    }

    /// Starts a server, by default on a free port of the loopback interface, and waits until it
    /// prints its URL.
    pub(crate) fn spawn(command: &mut Command) -> ServerProcess {
        command
            .env("FRAMELOOP_LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        stdout.read_line(&mut first).expect("it is text");
        let (scheme, rest) = first.split_once("://").unwrap_or_default();
        let scheme = scheme.rsplit(' ').next().unwrap_or_default();
        // In text or JSON.
        let rest = rest.split(['"', '\n']).next().unwrap_or_default();
        let address = rest.split('/').next().unwrap_or_default().parse();
        ServerProcess {
            child,
            url: format!("{scheme}://{rest}"),
            address: address.unwrap_or_else(|_| panic!("no address in {first:?}")),
            stdout,
        }
    }

    /// Opens a WebSocket.
    #[track_caller]
    pub(crate) fn open(&self, path: &str) -> Client {
        let stream = connect(self.address, PATIENCE).expect("it listens");
        Client::on(stream, path)
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

    /// Waits until the process has exited. Returns its exit status and the rest of its log.
    pub(crate) fn ended_with_log(mut self) -> (ExitStatus, String) {
        // The log must be read first: a process blocks when its pipe is full.
        let mut log = String::new();
        self.stderr().read_to_string(&mut log).expect("it is text");
        (self.ended(), log)
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

/// A path for a file or a folder of this test process. No file is there.
pub(crate) fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("frameloop-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
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
