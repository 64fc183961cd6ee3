//! The generator of all benches is `frameloop load`'s own.

use std::{io, io::Error, time::Duration};

use frameloop::lab::load::{Content, End, Interrupt, LoadOutcome, Plan, Target, run};

use super::{
    contestants::{Contestant, Duty},
    options::Options,
    process::Process,
    report::WARM_UP_SECONDS,
};

/// A plan against a server that was started, with messages of `size` bytes, for as long as the
/// options say. The generator's thread runs on the cores of the calling thread.
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

/// Runs it. An error if anything was lost or wrong.
pub(crate) fn measure(plan: &Plan) -> io::Result<LoadOutcome> {
    let outcome = run(plan, &Interrupt::default(), |_| {})?;
    match outcome.counts.errors() {
        0 => Ok(outcome),
        _ => Err(Error::other(format!("{:?}", outcome.counts))),
    }
}
