//! A server process: started on its core, asked for its CPU time and memory, ended on drop.

use std::{
    fs, io,
    io::{BufRead, BufReader, Error},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
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
    /// The calling thread is left on `generator_core`. What the server writes to stderr
    /// goes to `log`.
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

    /// CPU time of all threads since the process began.
    ///
    /// The total is the scheduler's, in nanoseconds. How it divides into user and system
    /// time is sampled by the kernel at each tick: windows of seconds are needed for it.
    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        let root = format!("/proc/{}", self.child.id());
        let (mut on_cpu, mut waited) = (0, 0);
        for task in fs::read_dir(format!("{root}/task"))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            on_cpu += field(&schedstat, 0)?;
            waited += field(&schedstat, 1)?;
        }
        let stat = fs::read_to_string(format!("{root}/stat"))?;
        // The name, in brackets, may hold spaces: count the fields from its end.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        Ok(CpuTime {
            total: Duration::from_nanos(on_cpu),
            waited: Duration::from_nanos(waited),
            user_ticks: field(after_name, 11)?,
            system_ticks: field(after_name, 12)?,
        })
    }

    /// Ends the process by SIGTERM and waits until it has cleaned up.
    pub(crate) fn terminate(mut self) -> io::Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        self.child.wait().map(drop)
    }

    /// Bytes of memory that the process holds, as its page tables say.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        Ok(field(line.unwrap_or_default(), 0)? * 1_024)
    }

    /// The same once it has stopped changing: three equal readings, or after five seconds.
    pub(crate) fn settled_resident(&self) -> io::Result<u64> {
        let mut readings = vec![self.resident()?];
        while readings.len() < 25 {
            thread::sleep(Duration::from_millis(200));
            readings.push(self.resident()?);
            if let [.., a, b, c] = readings[..]
                && a == b
                && b == c
            {
                break;
            }
        }
        self.resident()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the server has ended by itself, which the load has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time since a process began, or the difference of two such.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) total: Duration,
    /// Time that it was ready to run while its core was taken.
    pub(crate) waited: Duration,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
}

impl CpuTime {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            waited: self.waited.saturating_sub(earlier.waited),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }
}

/// The address in the first line on stdout, which holds `http://ADDRESS:PORT`.
fn announced_address(child: &mut Child) -> io::Result<SocketAddr> {
    let mut stdout = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    // Nobody reads the rest, but a full pipe must not stop the server.
    thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
    let address = line.split("http://").nth(1).unwrap_or_default();
    let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    address[..end.unwrap_or(address.len())]
        .parse()
        .map_err(|_| Error::other(format!("no address in its first line {line:?}")))
}

fn field(text: &str, index: usize) -> io::Result<u64> {
    text.split_ascii_whitespace()
        .nth(index)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| Error::other(format!("field {index} of {text:?} is no number")))
}
