//! Which troubles heal by waiting, what a person is told about those that do not, and when a wait is logged.

use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use crate::connectors::ConnectorError;

/// What to do about a trouble that does not heal, or `None` for one that may.
pub(super) fn refusal(code: RDKafkaErrorCode, reason: &str) -> Option<String> {
    use RDKafkaErrorCode as Code;
    let advice = match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "check 'properties.security.protocol', 'properties.sasl.mechanism', 'properties.sasl.username' and \
             'properties.sasl.password'"
        }
        Code::UnsupportedSASLMechanism => "check 'properties.sasl.mechanism'",
        // A broken connection during a handshake is reported alike, and that one does heal.
        Code::SSL if reason.contains("verify failed") || reason.contains("certificate") => {
            "check 'properties.ssl.ca.location' and the name in 'bootstrap_servers'"
        }
        Code::TopicAuthorizationFailed => "the user needs the right to DESCRIBE and to READ or WRITE the topic",
        Code::GroupAuthorizationFailed => "the user needs the right to READ the group in 'group_id'",
        Code::ClusterAuthorizationFailed => "the user needs the right IDEMPOTENT_WRITE on the cluster",
        Code::TransactionalIdAuthorizationFailed => {
            "the user needs the rights to WRITE and DESCRIBE the transactional id <pipeline>.<table>, or the table \
             'delivery' = 'at_least_once'"
        }
        Code::InvalidTransactionTimeout => {
            "lower 'properties.transaction.timeout.ms', or raise the brokers' transaction.max.timeout.ms"
        }
        Code::InvalidTopic => "check 'topic'",
        _ => return None,
    };
    Some(format!("{reason}; {advice}"))
}

/// [`ConnectorError::Refused`] or [`ConnectorError::Unavailable`], by the code.
pub(super) fn classify(what: &str, code: RDKafkaErrorCode, reason: &str) -> ConnectorError {
    match refusal(code, reason) {
        Some(message) => ConnectorError::Refused { what: what.into(), message },
        None => ConnectorError::Unavailable { what: what.into(), message: reason.into() },
    }
}

/// Says when Kafka goes away and when it is back: a line at the start of an outage, lines ever farther apart while it
/// lasts, a line at its end.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    next_line: Option<(Instant, Duration)>,
}

impl Outage {
    /// Kafka is away, or still is.
    pub(super) fn down(&mut self, what: &str, reason: &str) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        match self.next_line {
            None => tracing::warn!("waiting for {what}: {reason}"),
            Some((at, _)) if now >= at => {
                tracing::warn!("still waiting for {what} after {:.0} s: {reason}", (now - since).as_secs_f64());
            }
            Some(_) => return,
        }
        let pause = self.next_line.map_or(Duration::from_secs(10), |(_, pause)| pause * 2);
        let pause = pause.min(Duration::from_secs(300));
        self.next_line = Some((now + pause, pause));
    }

    /// Kafka answers.
    pub(super) fn up(&mut self, what: &str) {
        if let Some(since) = self.since.take() {
            self.next_line = None;
            tracing::info!("{what} is back after {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    /// Whether Kafka is away.
    pub(super) fn is_down(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_heal_is_refused_with_advice() {
        let error = classify("Kafka at k:9092", RDKafkaErrorCode::Authentication, "SASL: bad password");
        assert_eq!(
            error.to_string(),
            "Kafka at k:9092: SASL: bad password; check 'properties.security.protocol', 'properties.sasl.mechanism', \
             'properties.sasl.username' and 'properties.sasl.password'"
        );
        assert!(matches!(error, ConnectorError::Refused { .. }));
    }

    #[test]
    fn what_may_heal_is_unavailable() {
        let error = classify("Kafka at k:9092", RDKafkaErrorCode::BrokerTransportFailure, "connection refused");
        assert!(matches!(error, ConnectorError::Unavailable { .. }));
        assert_eq!(error.to_string(), "Kafka at k:9092: connection refused");
    }

    #[test]
    fn an_outage_begins_and_ends() {
        let mut outage = Outage::default();
        outage.down("Kafka", "gone");
        assert!(outage.is_down());
        outage.up("Kafka");
        assert!(!outage.is_down());
    }
}
