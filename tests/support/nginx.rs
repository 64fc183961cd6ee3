//! A real nginx as a proxy, configured as in docs/operations.md.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::signal_to;

/// A running nginx, stopped when dropped.
pub(crate) struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would leave its workers behind.
        signal_to(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Nginx {
    /// Starts nginx in this directory, listening at `listen` and forwarding to the Unix domain
    /// socket `upstream`. Waits until `listens` is true.
    pub(crate) fn start(
        directory: &Path,
        listen: &str,
        upstream: &Path,
        listens: impl Fn() -> bool,
    ) -> Nginx {
        let document = include_str!("../../docs/operations.md");
        let (_, lines) = document.split_once("```nginx\n").unwrap();
        let (lines, _) = lines.split_once("```").unwrap();
        let lines = lines
            .replace("/run/frameloop/frameloop.sock", upstream.to_str().unwrap())
            .replace("listen 80;", &format!("listen {listen};"));
        let directory = directory.display();
        let temporaries = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {directory}/{name};"))
            .concat();
        let file = format!("{directory}/nginx.conf");
        let text = format!(
            "user www-data; daemon off; pid {directory}/pid; error_log {directory}/error.log;\n\
             events {{}}\nhttp {{ access_log off; {temporaries}\n{lines}\n}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("nginx")
            .args(["-c", &file])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx(child);
        let began = Instant::now();
        while !listens() {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "nginx does not listen"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        nginx
    }
}
