//! The deadlines of a session.

use super::{DisconnectReason, millis};
use crate::socketio::SocketIoSettings;
use crate::socketio::clock::Moment;

/// A session's deadlines. `MAX` means no deadline.
#[derive(Debug)]
pub(super) struct HeartbeatTimes {
    beat: Beat,
    pub(super) join_by: Moment,
    pub(super) upgrade_by: Moment,
    pub(super) attachments_by: Moment,
    /// When the queue of the client became too large.
    pub(super) overrun_at: Moment,
    /// The time of the next check.
    pub(super) scheduled: Moment,
}

#[derive(Clone, Copy, Debug)]
enum Beat {
    PingAt(Moment),
    PongBy(Moment),
}

/// The action that is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Nothing,
    Ping,
    AbandonUpgrade,
    End(DisconnectReason),
}

impl HeartbeatTimes {
    pub(super) fn new(now: Moment, settings: &SocketIoSettings) -> HeartbeatTimes {
        HeartbeatTimes {
            beat: Beat::PingAt(now + millis(settings.ping_interval)),
            join_by: now + millis(settings.connect_timeout),
            upgrade_by: Moment::MAX,
            attachments_by: Moment::MAX,
            overrun_at: Moment::MAX,
            scheduled: Moment::MAX,
        }
    }

    /// Records a Pong. A Pong without a Ping has no effect.
    pub(super) fn ponged(&mut self, now: Moment, settings: &SocketIoSettings) {
        if let Beat::PongBy(_) = self.beat {
            self.beat = Beat::PingAt(now + millis(settings.ping_interval));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Moment {
        let (Beat::PingAt(beat) | Beat::PongBy(beat)) = self.beat;
        beat.min(self.join_by)
            .min(self.upgrade_by)
            .min(self.attachments_by)
            .min(self.overrun_at)
    }

    /// Returns the action that is due now. The time for a Pong starts when its Ping was due, or
    /// 50 ms ago if the Ping was due earlier.
    pub(super) fn due(&mut self, now: Moment, settings: &SocketIoSettings) -> Due {
        const LATE: Moment = 50;
        let others = self.join_by.min(self.attachments_by);
        match self.beat {
            _ if self.overrun_at <= now => Due::End(DisconnectReason::SlowConsumer),
            _ if others <= now => Due::End(DisconnectReason::Timeout),
            Beat::PongBy(by) if by <= now => Due::End(DisconnectReason::PingTimeout),
            Beat::PingAt(at) if at <= now => {
                let at = at.max(now.saturating_sub(LATE));
                self.beat = Beat::PongBy(at + millis(settings.ping_timeout));
                Due::Ping
            }
            _ if self.upgrade_by <= now => {
                self.upgrade_by = Moment::MAX;
                Due::AbandonUpgrade
            }
            Beat::PingAt(_) | Beat::PongBy(_) => Due::Nothing,
        }
    }

    /// Whether the client's Pong is overdue.
    pub(super) fn is_overdue(&self, now: Moment) -> bool {
        matches!(self.beat, Beat::PongBy(by) if by <= now)
    }
}
