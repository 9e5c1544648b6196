//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11).

use super::options::Options;
use super::{Action, Machine, Subscribing, Subscription, Tag, Unsubscribing};
use crate::codec::{
    AckProperties, Fault, Packet, PacketId, ReasonCode, Suback, Subscribe, SubscribeFilter, Text,
    Unsuback, Unsubscribe,
};
use crate::topic::{Filter, Refused};

/// Requests whose outcome has not come.
pub(super) type Requests = Vec<Request>;

#[derive(Debug)]
pub(super) struct Request {
    tag: Tag,
    packet_id: PacketId,
    kind: Kind,
    /// One for each filter; none where the door is to say it.
    reasons: Vec<Option<ReasonCode>>,
    /// Why not, if there is more to say.
    words: Option<Text>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Subscribe,
    Unsubscribe,
}

impl Machine {
    pub(super) fn subscribe(
        &mut self,
        subscribe: Subscribe,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let (packet_id, count) = (subscribe.packet_id, subscribe.filters.len());
        if self.in_use(packet_id) {
            let reasons = vec![ReasonCode::PacketIdentifierInUse; count];
            self.suback(packet_id, reasons, None, out);
            return Ok(());
        }
        let options = Options::read(&subscribe.properties.user_properties);
        let mut reasons = Vec::with_capacity(count);
        let mut subscriptions = Vec::with_capacity(count);
        for filter in subscribe.filters {
            match self.subscription(filter, options.as_ref().ok())? {
                Ok(subscription) => {
                    reasons.push(None);
                    subscriptions.push(subscription);
                }
                Err(reason) => reasons.push(Some(reason)),
            }
        }
        let tag = self.begin(packet_id, Kind::Subscribe, reasons, options.err());
        if subscriptions.is_empty() {
            self.finish(tag, &[], out);
            return Ok(());
        }
        out.push(Action::Subscribe(Box::new(Subscribing {
            tag,
            subscription_id: subscribe.properties.subscription_id,
            user_properties: subscribe.properties.user_properties,
            subscriptions,
        })));
        Ok(())
    }

    fn subscription(
        &self,
        asked: SubscribeFilter,
        options: Option<&Options>,
    ) -> Result<Result<Subscription, ReasonCode>, Fault> {
        let filter = match Filter::parse(asked.filter.as_str(), &self.settings.paths) {
            Ok(filter) => filter,
            Err(Refused::Fault(fault)) => return Err(fault),
            Err(Refused::Reason(reason)) => return Ok(Err(reason)),
        };
        if filter.share.is_some() && asked.no_local {
            return Err(Fault::protocol(
                "3.8.3-4",
                "no local on a shared subscription",
            ));
        }
        let Some(options) = options else {
            return Ok(Err(ReasonCode::ImplementationSpecificError));
        };
        // What 5.0 has options for, a bridge of 3.x takes for granted.
        let bridge = self.client.bridge;
        Ok(Ok(Subscription {
            no_local: asked.no_local || bridge && filter.share.is_none(),
            retain_as_published: asked.retain_as_published || bridge,
            text: asked.filter.detached(),
            filter,
            qos: asked.qos,
            retain_handling: asked.retain_handling,
            accept: options.accept,
            query: options.query.clone(),
        }))
    }

    pub(super) fn unsubscribe(
        &mut self,
        unsubscribe: Unsubscribe,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let (packet_id, count) = (unsubscribe.packet_id, unsubscribe.filters.len());
        if self.in_use(packet_id) {
            let reasons = vec![ReasonCode::PacketIdentifierInUse; count];
            self.unsuback(packet_id, reasons, out);
            return Ok(());
        }
        let (mut reasons, mut filters) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for text in unsubscribe.filters {
            match Filter::parse(text.as_str(), &self.settings.paths) {
                Ok(filter) => {
                    reasons.push(None);
                    filters.push((text, filter));
                }
                Err(Refused::Fault(fault)) => return Err(fault),
                // Nobody can have subscribed to it.
                Err(Refused::Reason(_)) => reasons.push(Some(ReasonCode::NoSubscriptionExisted)),
            }
        }
        let tag = self.begin(packet_id, Kind::Unsubscribe, reasons, None);
        if filters.is_empty() {
            self.finish(tag, &[], out);
            return Ok(());
        }
        out.push(Action::Unsubscribe(Box::new(Unsubscribing {
            tag,
            user_properties: unsubscribe.properties.user_properties,
            filters,
        })));
        Ok(())
    }

    /// Whether a packet id can't be a request's (2.2.1-3). 3.x has no way to say so.
    fn in_use(&self, packet_id: PacketId) -> bool {
        let same = |request: &Request| request.packet_id == packet_id;
        self.version().is_5()
            && (self.requests.iter().any(same) || self.inbound.is_unanswered(packet_id))
    }

    fn begin(
        &mut self,
        packet_id: PacketId,
        kind: Kind,
        reasons: Vec<Option<ReasonCode>>,
        words: Option<Text>,
    ) -> Tag {
        let tag = self.tag();
        self.requests.push(Request {
            tag,
            packet_id,
            kind,
            reasons,
            words,
        });
        tag
    }

    /// How the subscriptions of a [`Subscribing`] went, in its order: the QoS granted, or a failure.
    pub fn subscribed(&mut self, tag: Tag, reasons: &[ReasonCode], out: &mut Vec<Action>) {
        self.finish(tag, reasons, out);
    }

    /// As [`subscribed`](Self::subscribed), with words on why not.
    pub fn subscribed_saying(
        &mut self,
        tag: Tag,
        reasons: &[ReasonCode],
        words: Option<Text>,
        out: &mut Vec<Action>,
    ) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.tag == tag) {
            request.words = words.or(request.words.take());
        }
        self.finish(tag, reasons, out);
    }

    /// How the filters of an [`Unsubscribing`] went, in its order: success, or
    /// [`NoSubscriptionExisted`](ReasonCode::NoSubscriptionExisted).
    pub fn unsubscribed(&mut self, tag: Tag, reasons: &[ReasonCode], out: &mut Vec<Action>) {
        self.finish(tag, reasons, out);
    }

    fn finish(&mut self, tag: Tag, said: &[ReasonCode], out: &mut Vec<Action>) {
        let Some(at) = self.requests.iter().position(|request| request.tag == tag) else {
            return;
        };
        let request = self.requests.remove(at);
        if !self.is_connected() {
            return;
        }
        let mut said = said.iter().copied();
        // 3.8.4-6, 3.9.3-1: one for each filter, in order.
        let fill = |reason: Option<ReasonCode>| {
            reason
                .or_else(|| said.next())
                .unwrap_or(ReasonCode::UnspecifiedError)
        };
        let reasons = request.reasons.into_iter().map(fill).collect();
        match request.kind {
            Kind::Subscribe => self.suback(request.packet_id, reasons, request.words, out),
            Kind::Unsubscribe => self.unsuback(request.packet_id, reasons, out),
        }
    }

    fn suback(
        &mut self,
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
        words: Option<Text>,
        out: &mut Vec<Action>,
    ) {
        let suback = Suback {
            packet_id,
            properties: AckProperties {
                reason_string: words,
                ..AckProperties::default()
            },
            reasons,
        };
        self.send(Packet::Suback(suback), out);
    }

    fn unsuback(&mut self, packet_id: PacketId, reasons: Vec<ReasonCode>, out: &mut Vec<Action>) {
        let unsuback = Unsuback {
            packet_id,
            properties: AckProperties::default(),
            reasons,
        };
        self.send(Packet::Unsuback(unsuback), out);
    }
}
