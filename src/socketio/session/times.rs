//! When a session's deadlines are.

use super::{DisconnectReason, millis};
use crate::socketio::SocketIoSettings;
use crate::socketio::clock::Moment;

/// A session's deadlines; `MAX` is none.
#[derive(Debug)]
pub(super) struct HeartbeatTimes {
    beat: Beat,
    pub(super) join_by: Moment,
    pub(super) upgrade_by: Moment,
    pub(super) attachments_by: Moment,
    /// When more was to wait for the client than may.
    pub(super) overrun_at: Moment,
    /// When the session is to be looked at.
    pub(super) scheduled: Moment,
}

#[derive(Clone, Copy, Debug)]
enum Beat {
    PingAt(Moment),
    PongBy(Moment),
}

/// What is due.
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

    /// A Pong that nobody waits for changes nothing.
    pub(super) fn ponged(&mut self, now: Moment, settings: &SocketIoSettings) {
        if let Beat::PongBy(_) = self.beat {
            self.beat = Beat::PingAt(now + millis(settings.ping_interval));
        }
    }

    pub(super) fn next(&self) -> Moment {
        let (Beat::PingAt(beat) | Beat::PongBy(beat)) = self.beat;
        beat.min(self.join_by)
            .min(self.upgrade_by)
            .min(self.attachments_by)
            .min(self.overrun_at)
    }

    /// What is due now. A Pong is due by when its Ping was, not by when that went out, but for a
    /// Ping that was late: the client has its time all the same.
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

    /// Whether the client has not spoken in time, whether or not that has been seen yet.
    pub(super) fn is_overdue(&self, now: Moment) -> bool {
        matches!(self.beat, Beat::PongBy(by) if by <= now)
    }
}
