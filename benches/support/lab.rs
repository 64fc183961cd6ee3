//! Runs `frameloop load`'s generator, which all benches use.

use std::{io, io::Error, time::Duration};

use frameloop::lab::load::report::Report;
use frameloop::lab::load::{
    Content, End, Interrupt, LoadOutcome, Machine, Mode, Plan, Target, run,
};

use super::{
    contestants::{Contestant, Duty},
    options::Options,
    process::Process,
    report::WARM_UP_SECONDS,
};

/// A plan for a running server, with messages of `size` bytes and the duration of the options. The
/// generator's thread runs on the cores of the calling thread.
pub(crate) fn plan(
    server: Contestant,
    duty: Duty,
    process: &Process,
    size: usize,
    options: &Options,
) -> io::Result<Plan> {
    let path = match duty {
        Duty::Fanout => "broadcast/bench",
        Duty::Echo | Duty::Close => "echo",
    };
    let url = format!("ws://{}/{path}", process.address());
    let target = Target::parse(&url).map_err(|error| Error::other(format!("{error:?}")))?;
    let mut plan = Plan::new(target);
    plan.is_raw = server == Contestant::RawTcp;
    plan.messages.content = Content::Sizes {
        from: size,
        to: size,
    };
    plan.warm_up = Duration::from_secs_f64(WARM_UP_SECONDS);
    plan.end = End::Time(Duration::from_secs_f64(options.seconds));
    plan.timeout = Duration::from_secs(20);
    plan.server = Some(process.id());
    Ok(plan)
}

/// The server's memory per idle connection in bytes. Memory that the first ten connections
/// allocate is not counted.
pub(crate) fn idle_memory(plan: &Plan) -> io::Result<f64> {
    let mut plan = plan.clone();
    (plan.mode, plan.warm_up) = (Mode::Idle, Duration::ZERO);
    let all = std::mem::replace(&mut plan.connections, 10);
    measure(&plan)?;
    plan.connections = all;
    plan.sources = plan.usual_sources();
    let outcome = measure(&plan)?;
    let machine = Machine::here();
    Report::new(&plan, &outcome, &machine)
        .server_memory()
        .ok_or_else(|| Error::other("the server was not watched"))
}

/// Runs a plan. Returns an error if the run counts any error.
pub(crate) fn measure(plan: &Plan) -> io::Result<LoadOutcome> {
    let outcome = run(plan, &Interrupt::default(), |_| {})?;
    match outcome.counts.errors() {
        0 => Ok(outcome),
        _ => Err(Error::other(format!("{:?}", outcome.counts))),
    }
}
