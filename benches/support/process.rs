//! A server process, pinned to its cores and ended on drop.

use std::{
    fs, io,
    io::{BufRead, BufReader, Error},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::cores;

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts `command` on `server_cores` and waits for the line that names its address.
    ///
    /// Pins the calling thread to `generator_core`. The server's stderr is written to `log`.
    pub(crate) fn start(
        mut command: Command,
        server_cores: &[usize],
        generator_core: usize,
        log: &Path,
    ) -> io::Result<Self> {
        let name = format!("{command:?}");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log)?);
        cores::pin(server_cores)?;
        let child = command.spawn();
        cores::pin(&[generator_core])?;
        let mut child = child?;
        let address = announced_address(&mut child);
        let mut process = Self {
            child,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        process.address = address.map_err(|error| {
            let log = fs::read_to_string(log).unwrap_or_default();
            Error::other(format!("{name}: {error}\n{log}"))
        })?;
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the process with SIGTERM and waits until it has exited.
    pub(crate) fn terminate(mut self) -> io::Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the server has already exited, which the load has detected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the first line on stdout, which holds `http://ADDRESS:PORT`.
fn announced_address(child: &mut Child) -> io::Result<SocketAddr> {
    let mut stdout = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    // The rest of stdout is discarded, because a full pipe would block the server.
    thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
    let address = line.split("http://").nth(1).unwrap_or_default();
    let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    address[..end.unwrap_or(address.len())]
        .parse()
        .map_err(|_| Error::other(format!("no address in its first line {line:?}")))
}
